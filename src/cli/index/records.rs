//! Readers for JSON Lines and CSV: one document a record.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use serde_json::Value;

use crate::cli::output::string_value;
use crate::proto::document::Content;
use crate::proto::metadata_value::Kind;
use crate::proto::{Document, MetadataValue, StringList};

/// One record, or its place and why it cannot be used.
pub type Record = Result<Document, (String, String)>;

/// Reads JSON Lines of `{id, title, text, …}`; other fields become metadata. Stops when `sink` says false.
pub fn read_jsonl(reader: impl BufRead, sink: &mut dyn FnMut(Record) -> bool) {
    for (number, line) in reader.split(b'\n').enumerate() {
        let place = format!("line {}", number + 1);
        let record = match line {
            Ok(bytes) if bytes.trim_ascii().is_empty() => continue,
            Ok(bytes) => parse_json(&bytes, number + 1).map_err(|reason| (place, reason)),
            Err(error) => {
                sink(Err((place, error.to_string())));
                return;
            }
        };
        if !sink(record) {
            return;
        }
    }
}

fn parse_json(bytes: &[u8], number: usize) -> Result<Document, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Value::Object(fields) = value else { return Err("expected a JSON object".to_owned()) };
    let mut document =
        Document { id: number.to_string(), mime_type: "text/plain".to_owned(), ..Default::default() };
    let mut text = None;
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("id" | "_id", value) => document.id = plain(value),
            ("title", value) => document.title = plain(value),
            ("text", value) => text = Some(plain(value)),
            (_, value) => {
                document.metadata.insert(key, metadata(value));
            }
        }
    }
    let text = text.ok_or("expected a field \"text\"")?;
    document.content = Some(Content::Text(text));
    Ok(document)
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn metadata(value: Value) -> MetadataValue {
    let kind = match value {
        Value::Null => None,
        Value::Bool(v) => Some(Kind::BoolValue(v)),
        Value::String(v) => Some(Kind::StringValue(v)),
        Value::Number(v) => match (v.as_i64(), v.as_f64()) {
            (Some(int), _) => Some(Kind::IntValue(int)),
            (None, Some(double)) => Some(Kind::DoubleValue(double)),
            (None, None) => Some(Kind::StringValue(v.to_string())),
        },
        Value::Array(items) if items.iter().all(Value::is_string) => {
            Some(Kind::StringList(StringList { values: items.into_iter().map(plain).collect() }))
        }
        other => Some(Kind::StringValue(other.to_string())),
    };
    MetadataValue { kind }
}

/// Reads CSV with a header; columns id, title and text, the rest become metadata. Stops when `sink` says false.
pub fn read_csv(reader: impl Read, sink: &mut dyn FnMut(Record) -> bool) {
    let mut csv = csv::ReaderBuilder::new().from_reader(reader);
    let headers = match csv.headers() {
        Ok(headers) => headers.clone(),
        Err(error) => {
            sink(Err(("header".to_owned(), error.to_string())));
            return;
        }
    };
    if !headers.iter().any(|name| name == "text") {
        sink(Err(("header".to_owned(), "expected a column \"text\"".to_owned())));
        return;
    }
    for (number, row) in csv.records().enumerate() {
        let place = format!("record {}", number + 1);
        let record = match row {
            Ok(row) => Ok(csv_document(&headers, &row, number + 1)),
            Err(error) => {
                let fatal = error.is_io_error();
                if !sink(Err((place, error.to_string()))) || fatal {
                    return;
                }
                continue;
            }
        };
        if !sink(record) {
            return;
        }
    }
}

fn csv_document(headers: &csv::StringRecord, row: &csv::StringRecord, number: usize) -> Document {
    let mut document =
        Document { id: number.to_string(), mime_type: "text/plain".to_owned(), ..Default::default() };
    let mut metadata = HashMap::new();
    for (name, value) in headers.iter().zip(row) {
        match name {
            "id" | "_id" => document.id = value.to_owned(),
            "title" => document.title = value.to_owned(),
            "text" => document.content = Some(Content::Text(value.to_owned())),
            _ => {
                metadata.insert(name.to_owned(), string_value(value));
            }
        }
    }
    document.metadata = metadata;
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jsonl_keeps_going_after_a_bad_line() {
        let input = "{\"id\":\"a\",\"title\":\"T\",\"text\":\"x\",\"year\":3}\n\nnot json\n{\"text\":\"y\"}\n{\"id\":1}\n";
        let mut seen = Vec::new();
        read_jsonl(input.as_bytes(), &mut |record| {
            seen.push(record);
            true
        });
        assert_eq!(seen.len(), 4);
        assert!(seen[0].as_ref().is_ok_and(|d| d.id == "a"
            && d.title == "T"
            && d.metadata.get("year").is_some_and(|v| v.kind == Some(Kind::IntValue(3)))));
        assert!(seen[1].as_ref().is_err_and(|(place, _)| place == "line 3"));
        assert!(seen[2].as_ref().is_ok_and(|d| d.id == "4"));
        assert!(seen[3].is_err());
    }

    #[test]
    fn csv_reads_quotes_and_metadata() {
        let input = "id,title,text,lang\n1,T,\"a, \"\"b\"\"\nc\",en\n2,short\n3,U,d,de\n";
        let mut seen = Vec::new();
        read_csv(input.as_bytes(), &mut |record| {
            seen.push(record);
            true
        });
        assert_eq!(seen.len(), 3);
        assert!(
            seen[0].as_ref().is_ok_and(|d| d.content == Some(Content::Text("a, \"b\"\nc".to_owned()))
                && d.metadata.contains_key("lang"))
        );
        assert!(seen[1].is_err());
        assert!(seen[2].as_ref().is_ok_and(|d| d.id == "3"));
    }
}
