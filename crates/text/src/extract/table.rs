//! Tables of extracted text: a row is a block of its own, with its cells apart.

use super::CELL;

/// A table, row by row, with the names of its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    rows: Vec<String>,
    /// How many of the first rows name the columns.
    headers: usize,
    bytes: usize,
}

impl Table {
    /// Adds a row, whose cells are separated by [`CELL`]. The header rows before any other name the columns.
    pub(super) fn push(&mut self, row: String, is_header: bool) {
        if is_header && self.headers == self.rows.len() {
            self.headers += 1;
        }
        self.bytes += row.len();
        self.rows.push(row);
    }

    /// Takes the first row for the names of the columns, where no row was marked as such.
    pub(super) fn name_columns_by_first_row(&mut self) {
        self.headers = self.headers.max(1);
    }

    /// The rows in order, the header among them.
    pub(super) fn rows(&self) -> &[String] {
        &self.rows
    }

    /// Bytes of all rows.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The names of the columns in a line.
    pub(super) fn columns(&self) -> Option<String> {
        let headers = self.rows.iter().take(self.headers);
        let names = headers.flat_map(|row| row.split(CELL)).map(str::trim).filter(|name| !name.is_empty());
        Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
    }
}
