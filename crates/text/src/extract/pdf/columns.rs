//! The order in which the lines of a page are read: columns one by one.

use super::page::Line;

/// Least white space between columns, in parts of the size of letters.
const GUTTER: f32 = 0.7;
/// Fewest lines of a column.
const MIN_LINES: usize = 3;
/// Least width of a column of running text, in parts of the size of letters.
const MIN_WIDTH: f32 = 7.0;
/// Share of lines that go on with the sentence of the line before, from which on text is running.
const RUNNING: f32 = 0.2;
/// Lines from which on columns that the file has one after the other are read so without that.
const MANY_LINES: usize = 5;
/// Places that may be gutters, the most likely first.
const MAX_CANDIDATES: usize = 48;
/// Columns within columns.
const MAX_DEPTH: usize = 6;
/// Lines of a page from which on it is read as it stands in the file.
const MAX_LINES: usize = 4000;

/// Parts of a page in the order in which they are read; each is one column.
pub(super) fn split(mut lines: Vec<Line>) -> Vec<Vec<Line>> {
    let mut parts = Vec::new();
    if lines.len() <= MAX_LINES {
        lines.sort_by(|a, b| a.y.total_cmp(&b.y).then(a.x0.total_cmp(&b.x0)));
        split_part(lines, 0, &mut parts);
    } else {
        parts.push(lines);
    }
    parts
}

fn split_part(lines: Vec<Line>, depth: usize, parts: &mut Vec<Vec<Line>>) {
    let found = if depth < MAX_DEPTH { best_band(&lines) } else { None };
    let Some(band) = found else {
        if !lines.is_empty() {
            parts.push(lines);
        }
        return;
    };
    let mut lines = lines;
    let after = lines.split_off(band.end);
    let within = lines.split_off(band.start);
    let (mut first, mut second): (Vec<Line>, Vec<Line>) =
        within.into_iter().partition(|line| band.gutter.side(line) == Side::Left);
    let rtl = first.iter().chain(&second).filter(|line| line.rtl).count() * 2 > first.len() + second.len();
    if rtl {
        std::mem::swap(&mut first, &mut second);
    }
    split_part(lines, depth + 1, parts);
    split_part(first, depth + 1, parts);
    split_part(second, depth + 1, parts);
    split_part(after, depth + 1, parts);
}

/// White space that runs down between two columns.
#[derive(Debug, Clone, Copy)]
struct Gutter {
    x0: f32,
    x1: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Across,
}

impl Gutter {
    fn side(&self, line: &Line) -> Side {
        match () {
            () if line.x1 <= self.x0 => Side::Left,
            () if line.x0 >= self.x1 => Side::Right,
            () => Side::Across,
        }
    }
}

/// Lines, by their indices, that lie on both sides of a gutter.
struct Band {
    gutter: Gutter,
    start: usize,
    end: usize,
    lines: usize,
}

/// The band of most lines that are columns.
fn best_band(lines: &[Line]) -> Option<Band> {
    if lines.len() < 2 * MIN_LINES {
        return None;
    }
    let mut best: Option<Band> = None;
    for gutter in candidates(lines) {
        let mut start = 0;
        for end in 0..=lines.len() {
            if lines.get(end).is_some_and(|line| gutter.side(line) != Side::Across) {
                continue;
            }
            if let Some(band) = band(lines, gutter, start, end)
                && best.as_ref().is_none_or(|best| band.lines > best.lines)
            {
                best = Some(band);
            }
            start = end + 1;
        }
    }
    best
}

/// White space left of where lines begin, and right of where they end.
fn candidates(lines: &[Line]) -> Vec<Gutter> {
    let mut ems: Vec<f32> = lines.iter().map(|line| line.em).collect();
    ems.sort_by(f32::total_cmp);
    let em = ems.get(ems.len() / 2).copied().unwrap_or(1.0);
    let edges = |edge: fn(&Line) -> f32| {
        let mut edges: Vec<f32> = lines.iter().map(edge).collect();
        edges.sort_by(f32::total_cmp);
        let mut counted: Vec<(usize, f32, f32)> = Vec::new();
        for edge in edges {
            match counted.last_mut() {
                Some((count, _, last)) if edge - *last < 0.1 * em => (*count, *last) = (*count + 1, edge),
                _ => counted.push((1, edge, edge)),
            }
        }
        counted
    };
    let begin = edges(|line| line.x0).into_iter().map(|(count, first, _)| {
        let gutter = Gutter { x0: first - GUTTER * em, x1: first - 0.01 };
        (count, gutter)
    });
    let end = edges(|line| line.x1).into_iter().map(|(count, _, last)| {
        let gutter = Gutter { x0: last + 0.01, x1: last + GUTTER * em };
        (count, gutter)
    });
    let mut all: Vec<(usize, Gutter)> = begin.chain(end).filter(|(count, _)| *count > 1).collect();
    all.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    all.truncate(MAX_CANDIDATES);
    all.into_iter().map(|(_, gutter)| gutter).collect()
}

/// The lines between two indices, where they are two columns.
fn band(lines: &[Line], gutter: Gutter, start: usize, end: usize) -> Option<Band> {
    let within = lines.get(start..end)?;
    let of = |side| within.iter().filter(|line| gutter.side(line) == side).collect::<Vec<_>>();
    let (left, right) = (of(Side::Left), of(Side::Right));
    let (few, many) = (rows(&left).min(rows(&right)), rows(&left).max(rows(&right)));
    if few < MIN_LINES {
        return None;
    }
    // Beside each other, not one below the other.
    let (top, bottom) = (left.first()?.y.max(right.first()?.y), left.last()?.y.min(right.last()?.y));
    let height = |side: &[&Line]| Some(side.last()?.y - side.first()?.y);
    if bottom - top < 0.5 * height(&left)?.min(height(&right)?) {
        return None;
    }
    if !(are_wide(&left) && are_wide(&right)) {
        return None;
    }
    let running = running(&left).max(running(&right)) >= RUNNING;
    let first_right = right.iter().map(|line| line.order).min()?;
    let before = left.iter().filter(|line| line.order < first_right).count();
    let one_by_one = few >= MANY_LINES && before * 10 >= left.len() * 9;
    (running || one_by_one).then_some(Band { gutter, start, end, lines: few * 2 + many.min(few * 2) })
}

/// Lines of text, however many runs of words each has.
fn rows(lines: &[&Line]) -> usize {
    let starts = lines.windows(2).filter(|pair| pair[1].y - pair[0].y > 0.5 * pair[1].em).count();
    if lines.is_empty() { 0 } else { starts + 1 }
}

/// Whether most lines are as wide as those of text are.
fn are_wide(lines: &[&Line]) -> bool {
    let mut widths: Vec<f32> = lines.iter().map(|line| line.width() / line.em).collect();
    widths.sort_by(f32::total_cmp);
    widths.get(widths.len() / 2).is_some_and(|middle| *middle >= MIN_WIDTH)
}

/// Share of lines that go on with the sentence of the line before.
fn running(lines: &[&Line]) -> f32 {
    let right = lines.iter().map(|line| line.x1).fold(f32::MIN, f32::max);
    let left = lines.iter().map(|line| line.x0).fold(f32::MAX, f32::min);
    let goes_on = |pair: &&[&Line]| {
        let (line, next) = (pair[0], pair[1]);
        let full = line.width() >= 0.75 * (right - left);
        goes_on(&line.text, &next.text, full)
    };
    let count = lines.windows(2).filter(goes_on).count();
    count as f32 / lines.len().saturating_sub(1).max(1) as f32
}

/// Whether a line goes on with the sentence of the line before, which is `full` where it reaches to its margin.
pub(super) fn goes_on(line: &str, next: &str, full: bool) -> bool {
    if ends_sentence(line) {
        return false;
    }
    match next.chars().find(|c| c.is_alphanumeric()) {
        Some(c) if c.is_lowercase() => {
            next.starts_with(|c: char| c.is_lowercase() || "(\"'„“‚‘«»".contains(c))
        }
        // Scripts without small letters.
        Some(c) if c.is_alphabetic() && !c.is_uppercase() => full,
        _ => line.ends_with(['\u{ad}', ',']),
    }
}

/// Whether a line ends as sentences do.
pub(super) fn ends_sentence(line: &str) -> bool {
    let line = line.trim_end_matches(['"', '\'', ')', ']', '”', '’', '»', '“']);
    line.ends_with(['.', '!', '?', ':', ';', '…', '。', '．', '！', '？', '؟', '۔', '।', '׃'])
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::line;
    use super::*;

    fn texts(lines: Vec<Line>) -> Vec<Vec<String>> {
        split(lines).into_iter().map(|part| part.into_iter().map(|line| line.text).collect()).collect()
    }

    const LEFT: [&str; 4] = [
        "The committee met in the old",
        "customs house and looked at",
        "plans for the breakwater.",
        "Work begins in spring.",
    ];
    const RIGHT: [&str; 4] = [
        "Herring prices rose again as",
        "the cooperative wants a cold",
        "store near the siding, since",
        "the first one is full.",
    ];

    /// Columns of lines that the file has row by row.
    fn columns(columns: &[&[&str]], top: f32) -> Vec<Line> {
        let of = |(column, texts): (usize, &&[&str])| {
            let at = |(row, text): (usize, &&str)| {
                line(
                    text,
                    60.0 + 170.0 * column as f32,
                    top + 12.0 * row as f32,
                    row * columns.len() + column,
                )
            };
            texts.iter().enumerate().map(at).collect::<Vec<_>>()
        };
        columns.iter().enumerate().flat_map(of).collect()
    }

    #[test]
    fn columns_are_read_one_by_one() {
        let mut lines = columns(&[&LEFT, &RIGHT], 100.0);
        lines.push(line("A heading that goes across both of the columns of the page", 60.0, 80.0, 50));
        lines.push(line("And so does what stands below them, at the end of the page", 60.0, 160.0, 51));
        let found = texts(lines);
        assert_eq!(found[1], LEFT);
        assert_eq!(found[2], RIGHT);
        assert_eq!((found[0].len(), found[3].len()), (1, 1));
        let three = texts(columns(&[&LEFT, &RIGHT, &LEFT], 0.0));
        assert_eq!(three, [LEFT, RIGHT, LEFT]);
    }

    #[test]
    fn columns_from_right_to_left_begin_at_the_right() {
        let left = ["הספינה עוגנת בנמל יפו", "והצוות מחכה למזג אוויר", "טוב יותר כדי להפליג"];
        let right = ["המגדלור הישן עומד על", "הסלע מעל הנמל ומאיר", "את הדרך לספינות בלילה"];
        assert_eq!(texts(columns(&[&left, &right], 0.0)), [right, left]);
    }

    #[test]
    fn tables_are_no_columns() {
        let names = [
            "Berth of the pilot boat",
            "Berth of the ferry line",
            "Berth of the coal barge",
            "Berth of the tug Fossen",
        ];
        let prices = [
            "Eighteen euros per night",
            "Thirty euros per night",
            "Free of any charge",
            "Twelve euros per night",
        ];
        assert_eq!(texts(columns(&[&names, &prices], 0.0)).len(), 1);
        let short = ["12", "14", "9", "3"];
        assert_eq!(texts(columns(&[&LEFT, &short], 0.0)).len(), 1);
    }
}
