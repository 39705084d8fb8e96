//! Paragraphs and rows of tables, out of the lines of one column.

use std::collections::HashMap;

use super::columns::{ends_sentence, goes_on};
use super::page::Line;
use trove_core::domain::CELL;

/// Distance of lines that makes a new paragraph, in parts of what is usual.
const APART: f32 = 1.3;
/// Most distance of the lines of one sentence, in parts of the size of letters.
const FAR: f32 = 3.2;
/// Least and most indentation of the first line of a paragraph, in parts of the size of letters.
const INDENT: (f32, f32) = (0.7, 6.0);
/// White space that divides cells, in parts of the size of letters.
const CELL_GAP: f32 = 1.0;
/// Most rows of white space between rows of a table, in parts of the size of letters.
const ROW_GAP: f32 = 4.0;
/// Most signs of what begins an item of a list.
const MAX_MARK: usize = 5;

/// A paragraph, or a row of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    pub text: String,
    /// The baseline of its first line, down the page.
    pub y: f32,
    /// Size of its letters.
    pub em: f32,
    pub is_row: bool,
    /// Whether its last line reaches to the margin, and may go on in the next column.
    pub full: bool,
}

/// A line of text across the column: one run of words, or several with white space between them.
#[derive(Debug)]
struct Row {
    /// From left to right, or from right to left where the script runs so.
    cells: Vec<Line>,
    y: f32,
    em: f32,
    rtl: bool,
}

impl Row {
    fn first(&self) -> Option<&Line> {
        self.cells.first()
    }

    fn text(&self) -> String {
        let texts: Vec<&str> = self.cells.iter().map(|cell| cell.text.as_str()).collect();
        texts.join(" ")
    }

    /// Its beginning and end along the line, as if all scripts ran from left to right.
    fn reach(&self) -> (f32, f32) {
        let x0 = self.cells.iter().map(|cell| cell.x0).fold(f32::MAX, f32::min);
        let x1 = self.cells.iter().map(|cell| cell.x1).fold(f32::MIN, f32::max);
        if self.rtl { (-x1, -x0) } else { (x0, x1) }
    }

    fn style(&self) -> u64 {
        let mut styles = self.cells.iter().map(|cell| cell.style);
        let first = styles.next().unwrap_or(0);
        if styles.all(|style| style == first) { first } else { 0 }
    }
}

/// The blocks of a column whose lines are sorted down the page.
pub(super) fn of(lines: Vec<Line>) -> Vec<Block> {
    let rows = rows(lines);
    let mut blocks = Vec::new();
    let mut text: Vec<&Row> = Vec::new();
    let mut at = 0;
    while let Some(row) = rows.get(at) {
        match table(&rows[at..]) {
            Some((cells, length)) => {
                paragraphs(&text, &mut blocks);
                text.clear();
                blocks.extend(cells);
                at += length;
            }
            None => {
                text.push(row);
                at += 1;
            }
        }
    }
    paragraphs(&text, &mut blocks);
    blocks
}

/// Lines side by side as one.
fn rows(lines: Vec<Line>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines {
        // A raised or lowered sign is part of the row that it is in.
        let within = |row: &Row| {
            let em = row.em.max(line.em);
            let small = row.em.min(line.em) < 0.85 * em;
            (line.y - row.y).abs() <= if small { 0.6 } else { 0.35 } * em
        };
        let fits = |row: &Row| {
            let overlap = |cell: &Line| line.x0.max(cell.x0) < line.x1.min(cell.x1) - 0.3 * line.em;
            within(row) && !row.cells.iter().any(overlap)
        };
        match rows.iter_mut().rev().take(3).find(|row| fits(row)) {
            Some(row) => {
                if line.em > row.em {
                    (row.y, row.em) = (line.y, line.em);
                }
                row.cells.push(line);
            }
            None => rows.push(Row { y: line.y, em: line.em, rtl: false, cells: vec![line] }),
        }
    }
    rows.sort_by(|a, b| a.y.total_cmp(&b.y));
    for row in &mut rows {
        row.rtl = row.cells.iter().filter(|cell| cell.rtl).count() * 2 > row.cells.len();
        row.cells.sort_by(|a, b| if row.rtl { b.x1.total_cmp(&a.x1) } else { a.x0.total_cmp(&b.x0) });
        join_near(row);
    }
    rows
}

/// Joins the runs of words of a row that belong together: what stands close, and the mark of an item with the item.
fn join_near(row: &mut Row) {
    let mut joined: Vec<Line> = Vec::new();
    for cell in std::mem::take(&mut row.cells) {
        let Some(last) = joined.last_mut() else {
            joined.push(cell);
            continue;
        };
        let gap = if row.rtl { last.x0 - cell.x1 } else { cell.x0 - last.x1 };
        let em = row.em;
        if gap > CELL_GAP * em && !(is_mark(&last.text) && gap < 4.0 * em) {
            joined.push(cell);
            continue;
        }
        if gap > 0.12 * em {
            last.text.push(' ');
        }
        last.text.push_str(&cell.text);
        (last.x0, last.x1) = (last.x0.min(cell.x0), last.x1.max(cell.x1));
        if last.style != cell.style {
            last.style = 0;
        }
    }
    row.cells = joined;
}

/// Whether a text is what begins an item of a list.
fn is_mark(text: &str) -> bool {
    let text = text.trim();
    let short = text.chars().nth(MAX_MARK).is_none();
    short
        && (text.ends_with(['.', ')'])
            || matches!(
                text,
                "•" | "–"
                    | "—"
                    | "-"
                    | "*"
                    | "‣"
                    | "▪"
                    | "■"
                    | "●"
                    | "○"
                    | "◦"
                    | "·"
                    | "►"
                    | "✓"
                    | "☐"
                    | "☒"
            ))
}

/// Whether a line begins an item of a list.
fn begins_item(text: &str) -> bool {
    let Some((first, rest)) = text.split_once(' ') else { return false };
    let name = first.trim_end_matches(['.', ')']).trim_start_matches('(');
    let is_roman = name.chars().all(|c| "ivxIVX".contains(c));
    let counts = is_roman || name.chars().all(|c| c.is_ascii_digit()) || name.chars().nth(1).is_none();
    is_mark(first) && counts && !rest.is_empty()
}

/// The table that begins with the first of these rows: its blocks, and the number of rows that it takes.
fn table(rows: &[Row]) -> Option<(Vec<Block>, usize)> {
    let first = rows.first().filter(|row| row.cells.len() > 1)?;
    let mut columns: Vec<(f32, f32)> = first.cells.iter().map(|cell| (cell.x0, cell.x1)).collect();
    let mut taken = vec![Placed { row: first, columns: (0..columns.len()).collect() }];
    for pair in rows.windows(2) {
        let (before, row) = (&pair[0], &pair[1]);
        if row.y - before.y > ROW_GAP * row.em.max(before.em) || row.rtl != first.rtl {
            break;
        }
        let Some(places) = place(row, &mut columns) else { break };
        taken.push(Placed { row, columns: places });
    }
    // What comes after the last row of several cells is text below the table, unless it goes on with a cell.
    while taken.last().is_some_and(|last| last.row.cells.len() < 2 && !last.goes_on()) {
        taken.pop();
    }
    let several = taken.iter().filter(|placed| placed.row.cells.len() > 1).count();
    (several > 1).then(|| (table_blocks(&taken, columns.len()), taken.len()))
}

/// A row with the columns of its cells.
struct Placed<'a> {
    row: &'a Row,
    columns: Vec<usize>,
}

impl Placed<'_> {
    /// Whether it has no first cell, and so goes on with what stands above it.
    fn goes_on(&self) -> bool {
        self.row.cells.len() == 1 && self.columns.first().is_some_and(|column| *column > 0)
    }
}

/// The columns of a row's cells; `None` where they are not those of the table. Columns grow with what stands in them.
fn place(row: &Row, columns: &mut [(f32, f32)]) -> Option<Vec<usize>> {
    let mut places: Vec<usize> = Vec::new();
    for cell in &row.cells {
        let overlap = |column: &(f32, f32)| (cell.x1.min(column.1) - cell.x0.max(column.0)).max(0.0);
        let near = |column: &(f32, f32)| {
            let edges = [(cell.x0, column.0), (cell.x1, column.1), (cell.x0 + cell.x1, column.0 + column.1)];
            edges.iter().any(|(a, b)| (a - b).abs() <= 0.6 * cell.em)
        };
        let met: Vec<usize> = (0..columns.len())
            .filter(|at| columns.get(*at).is_some_and(|column| overlap(column) > 0.0 || near(column)))
            .collect();
        // A cell across several columns is a line of text.
        let [column] = met.as_slice() else { return None };
        if places.last().is_some_and(|last| last >= column) {
            return None;
        }
        places.push(*column);
    }
    // A lone cell in the first column, of the full width, is text.
    if row.cells.len() == 1 && places == [0] {
        let (x0, x1) = columns.first().copied()?;
        let cell = row.first()?;
        if cell.width() > 1.5 * (x1 - x0) {
            return None;
        }
    }
    for (cell, at) in row.cells.iter().zip(&places) {
        if let Some(column) = columns.get_mut(*at) {
            *column = (column.0.min(cell.x0), column.1.max(cell.x1));
        }
    }
    Some(places)
}

fn table_blocks(taken: &[Placed], columns: usize) -> Vec<Block> {
    let steps: Vec<f32> = taken.windows(2).map(|pair| pair[1].row.y - pair[0].row.y).collect();
    let least = steps.iter().copied().fold(f32::MAX, f32::min);
    let most = steps.iter().copied().fold(f32::MIN, f32::max);
    // Lines of a cell are closer than rows, where the two can be told apart.
    let apart = most > 1.25 * least;
    let mut blocks: Vec<(Vec<String>, &Row)> = Vec::new();
    for (at, placed) in taken.iter().enumerate() {
        let step = at.checked_sub(1).and_then(|before| steps.get(before)).copied().unwrap_or(f32::MAX);
        let close = apart && step < 1.1 * least && step < 1.6 * placed.row.em;
        let goes_on = placed.goes_on() && step < 1.8 * placed.row.em;
        let cells = match blocks.last_mut() {
            Some((cells, _)) if close || goes_on => cells,
            _ => {
                blocks.push((vec![String::new(); columns], placed.row));
                let Some((cells, _)) = blocks.last_mut() else { continue };
                cells
            }
        };
        for (cell, column) in placed.row.cells.iter().zip(&placed.columns) {
            let Some(into) = cells.get_mut(*column) else { continue };
            if !into.is_empty() {
                into.push('\n');
            }
            into.push_str(&cell.text);
        }
    }
    let block = |(cells, row): (Vec<String>, &Row)| {
        let text = cells.join(&CELL.to_string());
        Block { text, y: row.y, em: row.em, is_row: true, full: false }
    };
    blocks.into_iter().map(block).collect()
}

/// The paragraphs of lines of text.
fn paragraphs(rows: &[&Row], blocks: &mut Vec<Block>) {
    let steps = usual_steps(rows);
    let right = rows.iter().map(|row| row.reach().1).fold(f32::MIN, f32::max);
    let left = rows.iter().map(|row| row.reach().0).fold(f32::MAX, f32::min);
    let mut start = 0;
    for at in 1..=rows.len() {
        let ends = match (rows.get(at - 1), rows.get(at)) {
            (Some(row), Some(next)) => {
                let usual = steps.get(&size(row)).copied().unwrap_or(1.2 * row.em);
                let before = (at - 1 > start).then(|| rows.get(at - 2)).flatten();
                parts(row, next, Around { before, after: rows.get(at + 1), usual, left, right })
            }
            _ => true,
        };
        if ends && let Some(lines) = rows.get(start..at) {
            blocks.extend(paragraph(lines, left, right));
            start = at;
        }
    }
}

fn paragraph(lines: &[&Row], left: f32, right: f32) -> Option<Block> {
    let (first, last) = (lines.first()?, lines.last()?);
    let text: Vec<String> = lines.iter().map(|row| row.text()).collect();
    let full = last.reach().1 - left >= 0.8 * (right - left);
    Some(Block { text: text.join("\n"), y: first.y, em: first.em, is_row: false, full })
}

/// A size of letters, so that those that are nearly the same are one.
fn size(row: &Row) -> i32 {
    (row.em * 2.0).round().clamp(0.0, 10_000.0) as i32
}

/// The distance of lines within paragraphs, for each size of letters: that of the closest fifth.
fn usual_steps(rows: &[&Row]) -> HashMap<i32, f32> {
    let mut steps: HashMap<i32, Vec<f32>> = HashMap::new();
    for pair in rows.windows(2) {
        let step = pair[1].y - pair[0].y;
        if size(pair[0]) == size(pair[1]) && step > 0.5 * pair[0].em && step < FAR * pair[0].em {
            steps.entry(size(pair[0])).or_default().push(step);
        }
    }
    let fifth = |mut steps: Vec<f32>| {
        steps.sort_by(f32::total_cmp);
        steps.get(steps.len() / 5).copied().unwrap_or(0.0)
    };
    steps.into_iter().map(|(size, steps)| (size, fifth(steps))).collect()
}

/// What is around two lines.
struct Around<'a> {
    /// The line before, in the same paragraph.
    before: Option<&'a &'a Row>,
    after: Option<&'a &'a Row>,
    usual: f32,
    left: f32,
    right: f32,
}

/// Whether a paragraph ends between two lines.
fn parts(row: &Row, next: &Row, around: Around) -> bool {
    let em = row.em;
    let step = next.y - row.y;
    let ((x0, x1), (next_x0, next_x1)) = (row.reach(), next.reach());
    let (text, next_text) = (row.text(), next.text());
    // A word of the next line would have had room: the line was ended on purpose.
    let word = next_text.split_whitespace().next().unwrap_or_default().chars().count() as f32;
    let per_sign = (next_x1 - next_x0) / next_text.chars().count().max(1) as f32;
    let ended = x1 + 0.3 * em + word * per_sign < around.right - 0.5 * em;
    let same_size = (row.em - next.em).abs() <= 0.12 * em;
    let sentence = goes_on(&text, &next_text, !ended);
    if sentence && same_size && step <= FAR * em && !begins_item(&next_text) && row.rtl == next.rtl {
        return step > APART * around.usual && ended;
    }
    if !same_size || step > APART * around.usual || row.rtl != next.rtl {
        return true;
    }
    if row.cells.len() != next.cells.len() {
        return true;
    }
    let restyled = row.style() != 0 && next.style() != 0 && row.style() != next.style();
    if restyled || begins_item(&next_text) {
        return true;
    }
    if ended && ends_sentence(&text) {
        return true;
    }
    // The first line of a paragraph is set in, the next one is not.
    let indent = next_x0 - around.left;
    let is_indented = indent > INDENT.0 * em && indent < INDENT.1 * em && next_x0 - x0 > INDENT.0 * em;
    let returns = around.after.is_none_or(|after| after.reach().0 < next_x0 - 0.5 * em);
    if is_indented && returns {
        return true;
    }
    // The end of a part that is set in.
    around.before.is_some_and(|before| (before.reach().0 - x0).abs() < 0.3 * em)
        && x0 - next_x0 > INDENT.0 * em
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::line;
    use super::*;

    /// The blocks of lines, by their places.
    fn texts(lines: &[(&str, f32, f32)]) -> Vec<String> {
        let lines = lines.iter().enumerate().map(|(at, (text, x, y))| line(text, *x, *y, at)).collect();
        of(lines).into_iter().map(|block| block.text).collect()
    }

    #[test]
    fn lines_far_apart_are_one_paragraph_where_all_are() {
        let lines = [
            "The notice period for a berth is three",
            "months to the end of the season, and the",
            "deposit is returned.",
        ];
        let at = |step: f32| -> Vec<_> { (0..3).map(|n| (lines[n], 0.0, step * n as f32)).collect() };
        for step in [12.0, 18.0, 25.0] {
            assert_eq!(texts(&at(step)), [lines.join("\n")], "{step}");
        }
    }

    #[test]
    fn paragraphs_end_at_white_space_short_lines_and_indents() {
        let first = "The harbour master opens the gate at six and";
        let last = "closes it at ten.";
        let apart = [(first, 0.0, 0.0), (last, 0.0, 12.0), (first, 0.0, 34.0), (last, 0.0, 46.0)];
        let short = [(first, 0.0, 0.0), (last, 0.0, 12.0), (first, 0.0, 24.0), (last, 0.0, 36.0)];
        let indented = [(first, 20.0, 0.0), (first, 0.0, 12.0), (first, 20.0, 24.0), (first, 0.0, 36.0)];
        for lines in [apart, short] {
            assert_eq!(texts(&lines), [format!("{first}\n{last}"), format!("{first}\n{last}")]);
        }
        assert_eq!(texts(&indented).len(), 2);
    }

    #[test]
    fn items_of_lists_are_blocks_with_their_marks() {
        let lines = [
            ("•", 0.0, 0.0),
            ("ropes and chains of the", 20.0, 0.0),
            ("best make", 20.0, 12.0),
            ("•", 0.0, 24.0),
            ("lamps", 20.0, 24.0),
        ];
        assert_eq!(texts(&lines), ["• ropes and chains of the\nbest make", "• lamps"]);
    }

    #[test]
    fn rows_of_tables_are_blocks_of_cells() {
        let lines = [
            ("Berth", 0.0, 0.0),
            ("Length", 150.0, 0.0),
            ("Price", 250.0, 0.0),
            ("North pier", 0.0, 20.0),
            ("8 m", 150.0, 20.0),
            ("18 euros", 250.0, 20.0),
            ("South pier, by", 0.0, 40.0),
            ("12 m", 150.0, 40.0),
            ("30 euros", 250.0, 40.0),
            ("the lighthouse", 0.0, 51.0),
            ("and tax", 250.0, 51.0),
            ("Boats that are longer lie at the outer quay, by the old crane.", 0.0, 80.0),
        ];
        let expected = [
            "Berth\tLength\tPrice",
            "North pier\t8 m\t18 euros",
            "South pier, by\nthe lighthouse\t12 m\t30 euros\nand tax",
            "Boats that are longer lie at the outer quay, by the old crane.",
        ];
        assert_eq!(texts(&lines), expected);
    }

    #[test]
    fn wide_white_space_in_a_line_of_text_is_no_table() {
        let lines = [
            ("Logbook", 0.0, 0.0),
            ("June 1987", 200.0, 0.0),
            ("The tug left the harbour at dawn with two barges.", 0.0, 20.0),
        ];
        assert_eq!(texts(&lines)[0], "Logbook June 1987");
    }

    #[test]
    fn raised_signs_stay_in_their_row() {
        let mut small = line("2", 50.0, -4.0, 1);
        small.em = 6.0;
        let lines = vec![small, line("Area in km", 0.0, 0.0, 0), line("of the port", 58.0, 0.0, 2)];
        assert_eq!(of(lines)[0].text, "Area in km2 of the port");
    }
}
