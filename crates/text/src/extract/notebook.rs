//! Jupyter notebooks: made into Markdown, since that is what their cells of text are in.

use serde_json::Value;

use super::properties::Properties;
use super::{broken, decode, markdown};
use trove_core::domain::Extracted;
use trove_core::error::Result;

/// Most bytes of one output of a cell: enough for a table that a person reads, and no log.
const MAX_OUTPUT_BYTES: usize = 4 << 10;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    let notebook: Value = serde_json::from_str(&decode::decode(bytes)?)
        .map_err(|e| broken(format!("the notebook is no JSON: {e}")))?;
    // Before version 4 cells were in sheets.
    let cells = notebook["cells"].as_array().or_else(|| notebook["worksheets"][0]["cells"].as_array());
    let cells = cells.ok_or_else(|| broken("expected a notebook with cells, got none"))?;
    let mut source = String::new();
    cells.iter().for_each(|cell| write_cell(cell, &mut source));
    let found = markdown::extract(&source)?;
    let metadata = &notebook["metadata"];
    let mut properties = Properties { metadata: found.metadata.clone(), ..Properties::default() };
    let authors = metadata["authors"].as_array().into_iter().flatten();
    let names = authors.filter_map(|author| author["name"].as_str().or(author.as_str()));
    properties.text(super::properties::AUTHOR, names.map(str::to_owned).collect());
    let title = metadata["title"].as_str().map(str::to_owned).or(found.title.clone());
    Ok(Extracted { title, metadata: properties.metadata, ..found })
}

fn write_cell(cell: &Value, source: &mut String) {
    let text = text_of(&cell["source"]);
    match cell["cell_type"].as_str().unwrap_or_default() {
        "code" => {
            // Before version 4 it was the input.
            let code = if text.is_empty() { text_of(&cell["input"]) } else { text };
            fence(&code, source);
            cell["outputs"].as_array().into_iter().flatten().for_each(|output| write_output(output, source));
        }
        "heading" => {
            let level = cell["level"].as_u64().unwrap_or(1).clamp(1, 6) as usize;
            source.push_str(&format!("{} {}\n\n", "#".repeat(level), text.replace('\n', " ")));
        }
        _ => {
            source.push_str(&text);
            source.push_str("\n\n");
        }
    }
}

/// What a cell printed, its result, or its error; of one thing in several forms the plain text, else the Markdown.
fn write_output(output: &Value, source: &mut String) {
    let data = if output["data"].is_object() { &output["data"] } else { output };
    let plain = text_of(&data["text/plain"]);
    if let Some(name) = output["ename"].as_str() {
        return fence(&format!("{name}: {}", output["evalue"].as_str().unwrap_or_default()), source);
    }
    let printed = text_of(&output["text"]);
    let written = text_of(&data["text/markdown"]);
    match () {
        () if !printed.is_empty() => fence(short(&printed), source),
        () if !written.is_empty() => {
            source.push_str(short(&written));
            source.push_str("\n\n");
        }
        // A picture has the name of its object as its text.
        () if !plain.is_empty() && !plain.starts_with('<') => fence(short(&plain), source),
        () => {}
    }
}

fn short(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(MAX_OUTPUT_BYTES)).0
}

/// A string, or a list of lines.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

/// Code between marks that it does not hold itself.
fn fence(code: &str, source: &mut String) {
    if code.trim().is_empty() {
        return;
    }
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let mark = "`".repeat(longest.max(2) + 1);
    source.push_str(&format!("\n{mark}\n{}\n{mark}\n\n", code.trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_markdown_code_and_outputs() {
        let notebook = serde_json::json!({"nbformat": 4, "metadata": {"authors": [{"name": "Anna"}]}, "cells": [
            {"cell_type": "markdown", "source": ["# Tides\n", "\n", "We *fit* them."]},
            {"cell_type": "code", "source": "x = '```'\nprint(x)", "outputs": [
                {"output_type": "stream", "text": ["level 3\n"]},
                {"output_type": "stream", "text": "y".repeat(100_000)},
                {"output_type": "display_data", "data": {"text/plain": "<Figure>", "image/png": "AAAA"}},
                {"output_type": "error", "ename": "ValueError", "evalue": "bad", "traceback": ["\u{1b}[0m"]}]},
            {"cell_type": "markdown", "source": "## Sub\n\ntext"}]});
        let found = extract(notebook.to_string().as_bytes()).unwrap();
        assert_eq!(found.title.as_deref(), Some("Tides"));
        assert!(
            found.text.starts_with("Tides\n\nWe fit them.\n\nx = '```'\nprint(x)\n\nlevel 3\n\nyyy"),
            "{}",
            found.text
        );
        assert!(found.text.ends_with("yyy\n\nValueError: bad\n\nSub\n\ntext"));
        assert!(found.text.len() < 5000 && !found.text.contains("AAAA") && !found.text.contains("Figure"));
        assert_eq!(found.sections.last().unwrap().headings, ["Tides", "Sub"]);
        assert!(found.metadata.contains_key("author"));
    }

    #[test]
    fn what_is_no_notebook_is_refused() {
        assert_eq!(extract(b"{}").unwrap_err().reason, "BROKEN_DOCUMENT");
        assert_eq!(extract(b"{\"cells\": []}").unwrap_err().reason, "EMPTY_DOCUMENT");
        assert_eq!(extract("[".repeat(100_000).as_bytes()).unwrap_err().reason, "BROKEN_DOCUMENT");
    }
}
