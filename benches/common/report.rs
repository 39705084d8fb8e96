//! Numbers to tables and JSON.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table of results.
pub struct Report {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Report {
    /// A report without rows.
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints it as Markdown, or as one JSON object.
    pub fn print(&self, json: bool) {
        if json {
            let row = |row: &Vec<String>| {
                let pairs = self.columns.iter().zip(row);
                pairs.map(|(&column, cell)| (column.to_owned(), value(cell))).collect()
            };
            let rows: Vec<serde_json::Map<String, serde_json::Value>> = self.rows.iter().map(row).collect();
            println!("{}", serde_json::json!({ "title": self.title, "rows": rows }));
            return;
        }
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.columns);
        table.add_rows(&self.rows);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("\n{}\n\n{table}", self.title);
    }
}

fn value(cell: &str) -> serde_json::Value {
    cell.parse::<f64>().map_or_else(|_| cell.into(), Into::into)
}

/// The middle of some numbers; zero of none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// A quantile of some numbers; zero of none.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0.0)
}

/// A quantile of some times, in milliseconds.
pub fn milliseconds(times: &[Duration], q: f64) -> String {
    let values: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    format!("{:.1}", quantile(&values, q))
}
