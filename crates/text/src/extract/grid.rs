//! Tables of spreadsheets, in which cells stand anywhere.

use std::collections::BTreeSet;

use super::worker::MAX_TEXT_BYTES;
use super::{Builder, CELL, Table, too_large};
use trove_core::error::{Error, Result};

/// Most cells of a sheet that hold something.
const MAX_CELLS: usize = 2_000_000;

/// The cells of a sheet that hold something.
#[derive(Default)]
pub(super) struct Grid {
    rows: Vec<Row>,
    cells: usize,
    bytes: usize,
}

/// A row by its number, with its cells by their columns.
#[derive(Default)]
struct Row {
    number: u64,
    cells: Vec<(u32, String)>,
}

impl Row {
    /// A row of one cell names what follows it, or is a remark.
    fn is_line(&self) -> bool {
        self.cells.len() == 1
    }
}

impl Grid {
    /// Adds a cell, row by row; one without text is none.
    pub(super) fn add(&mut self, row: u64, column: u32, text: &str) -> Result<()> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return Ok(());
        }
        self.cells += 1;
        if self.cells > MAX_CELLS {
            let message = format!("expected a sheet of at most {MAX_CELLS} cells, got more");
            return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
        }
        // Many cells may share one long text.
        self.bytes += text.len();
        if self.bytes > MAX_TEXT_BYTES {
            return Err(too_large());
        }
        match self.rows.last_mut() {
            Some(last) if last.number == row => last.cells.push((column, text)),
            _ => self.rows.push(Row { number: row, cells: vec![(column, text)] }),
        }
        Ok(())
    }

    /// Whether no cell holds anything.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the rows, each as a block. Empty rows divide tables; within a table every row has a cell for each column
    /// that the table uses.
    pub(super) fn write(&self, builder: &mut Builder) -> Result<()> {
        let mut left = MAX_TEXT_BYTES.saturating_sub(builder.bytes());
        for table in self.rows.chunk_by(|above, below| below.number.saturating_sub(above.number) <= 1) {
            let columns: BTreeSet<u32> = table.iter().flat_map(|row| &row.cells).map(|(at, _)| *at).collect();
            let columns: Vec<u32> = columns.into_iter().collect();
            let titles = table.iter().take_while(|row| row.is_line()).count();
            let mut made = Table::default();
            for (at, row) in table.iter().enumerate() {
                let line = if at < titles { row.cells[0].1.clone() } else { aligned(row, &columns) };
                left = left.checked_sub(line.len() + 2).ok_or_else(too_large)?;
                match at < titles {
                    true => builder.block(&line),
                    // The first row names the columns.
                    false => made.push(line, at == titles),
                }
            }
            builder.table(&made);
        }
        Ok(())
    }
}

/// A row with a cell for each of these columns.
fn aligned(row: &Row, columns: &[u32]) -> String {
    let mut line = String::new();
    let mut next = 0;
    for (column, text) in &row.cells {
        let at = columns.binary_search(column).unwrap_or(next);
        line.extend(std::iter::repeat_n(CELL, at.saturating_sub(next)));
        line.push_str(text);
        next = at;
    }
    line.extend(std::iter::repeat_n(CELL, columns.len().saturating_sub(next + 1)));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cells: &[(u64, u32, &str)]) -> String {
        let mut grid = Grid::default();
        cells.iter().for_each(|(row, column, text)| grid.add(*row, *column, text).unwrap());
        let mut builder = Builder::default();
        grid.write(&mut builder).unwrap();
        builder.finish(None).unwrap().text
    }

    #[test]
    fn rows_have_a_cell_for_each_column_of_their_table() {
        let cells = [
            (0, 1, "Prices of 2024"),
            (1, 1, "Model"),
            (1, 3, "Price"),
            (1, 7, "Note"),
            (2, 1, "EM-940"),
            (2, 7, "new\nmodel"),
            (3, 1, "EM-941"),
            (3, 3, "7"),
            (3, 7, " "),
            (1_048_575, 16_383, "far away"),
        ];
        assert_eq!(
            text(&cells),
            "Prices of 2024\n\nModel\tPrice\tNote\n\nEM-940\t\tnew model\n\nEM-941\t7\n\nfar away"
        );
    }

    #[test]
    fn a_sheet_whose_rows_share_no_column_is_refused_before_it_is_text() {
        let mut grid = Grid::default();
        for at in 0..16_000 {
            grid.add(u64::from(at), at, "x").unwrap();
            grid.add(u64::from(at), at + 1, "x").unwrap();
        }
        assert_eq!(grid.write(&mut Builder::default()).unwrap_err().reason, "DOCUMENT_TOO_LARGE");
    }
}
