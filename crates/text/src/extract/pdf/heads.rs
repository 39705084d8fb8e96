//! Running heads and feet, and page numbers: what pages repeat at their edges.

use std::collections::{HashMap, HashSet};

use super::page::{ASKEW, Line, Page};

/// Rows at the top and at the bottom of a page that may be running heads.
const EDGE: usize = 2;
/// Rows from which on a page is full enough to tell.
const FULL: usize = 8;
/// White space that divides a head from a page that is not full, in parts of the size of letters.
const APART: f32 = 1.8;
/// Pages from which on a part of them may have a head of its own.
const MANY_PAGES: usize = 8;
/// Most distance of a head from where it stands on other pages, in points.
const GRID: f32 = 6.0;

/// Pages that have the same head of a chapter, or a number in the same place, from which on those are no text.
const MIN_REPEATED: usize = 3;
/// The words of a line that is but a number.
const NUMBER: &str = "0";

/// What a line looks like: where it stands, and its words with their numbers blotted out.
type Shape = (u8, i32, String);

/// Drops lines at the edges of pages that other pages have in the same place, but for their numbers.
pub(super) fn drop(pages: &mut [Page]) {
    if are_copies(pages) {
        return;
    }
    let usual = usual_em(pages);
    let mut counts: HashMap<Shape, usize> = HashMap::new();
    let edges: Vec<Vec<usize>> = pages.iter().map(|page| edges(page, usual)).collect();
    for (page, edges) in pages.iter().zip(&edges) {
        let lines = edges.iter().filter_map(|at| page.lines.get(*at));
        let shapes: HashSet<Shape> = lines.flat_map(shapes).collect();
        shapes.into_iter().for_each(|shape| *counts.entry(shape).or_default() += 1);
    }
    // Where most pages have a head, that of a chapter is one too.
    let mut places: HashMap<(u8, i32), usize> = HashMap::new();
    for (page, edges) in pages.iter().zip(&edges) {
        let lines = edges.iter().filter_map(|at| page.lines.get(*at));
        let found: HashSet<(u8, i32)> =
            lines.flat_map(shapes).map(|(turn, place, _)| (turn, place)).collect();
        found.into_iter().for_each(|place| *places.entry(place).or_default() += 1);
    }
    let half = |count: usize| count * 2 > pages.len();
    let of_part = |turn: u8, place: i32| {
        pages.len() >= MANY_PAGES && places.get(&(turn, place)).is_some_and(|count| half(*count))
    };
    counts.retain(|(turn, place, words), count| {
        let repeated =
            half(*count) || (*count >= MIN_REPEATED && (words == NUMBER || of_part(*turn, *place)));
        *count > 1 && repeated
    });
    for (page, edges) in pages.iter_mut().zip(edges) {
        let is_head = |line: &Line| shapes(line).any(|shape| counts.contains_key(&shape));
        let heads: HashSet<usize> =
            edges.into_iter().filter(|at| page.lines.get(*at).is_some_and(is_head)).collect();
        let mut at = 0;
        page.lines.retain(|_| {
            at += 1;
            !heads.contains(&(at - 1))
        });
    }
}

/// Whether most of what pages hold is on others too, in the same place: copies of a form, whose every line is meant.
fn are_copies(pages: &[Page]) -> bool {
    let mut counts: HashMap<Shape, usize> = HashMap::new();
    for line in pages.iter().flat_map(|page| &page.lines) {
        shapes(line).for_each(|shape| *counts.entry(shape).or_default() += 1);
    }
    let again = |line: &&Line| shapes(line).any(|shape| counts.get(&shape).is_some_and(|count| *count > 1));
    let mut lines = pages.iter().flat_map(|page| &page.lines);
    let all = lines.clone().count();
    lines.by_ref().filter(again).count() * 2 > all
}

/// The size of most letters.
fn usual_em(pages: &[Page]) -> f32 {
    let mut counts: HashMap<i32, usize> = HashMap::new();
    for line in pages.iter().flat_map(|page| &page.lines) {
        *counts.entry((line.em * 2.0) as i32).or_default() += line.chars();
    }
    counts.into_iter().max_by_key(|(em, count)| (*count, *em)).map_or(12.0, |(em, _)| (em + 1) as f32 / 2.0)
}

/// The lines of a page, by index, that may be heads or feet.
fn edges(page: &Page, usual: f32) -> Vec<usize> {
    let mut found = Vec::new();
    for turn in 0..ASKEW {
        let mut lines: Vec<(usize, &Line)> =
            page.lines.iter().enumerate().filter(|(_, line)| line.turn == turn).collect();
        lines.sort_by(|(_, a), (_, b)| a.y.total_cmp(&b.y));
        // Rows, as ranges of the sorted lines.
        let mut rows: Vec<(usize, usize)> = Vec::new();
        for (at, (_, line)) in lines.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|before| lines.get(before));
            match (rows.last_mut(), before) {
                (Some(row), Some((_, before))) if line.y - before.y < 0.35 * line.em => row.1 = at + 1,
                _ => rows.push((at, at + 1)),
            }
        }
        let y = |row: usize| rows.get(row).and_then(|(at, _)| lines.get(*at)).map_or(0.0, |(_, line)| line.y);
        let full = rows.len() >= FULL;
        for (row, (start, end)) in rows.iter().enumerate() {
            let (top, bottom) = (row < EDGE, row + EDGE >= rows.len());
            if !top && !bottom || rows.len() < 2 {
                continue;
            }
            // On a page that is not full, white space is between its head and the rest.
            let apart = |row: usize| row > 0 && y(row) - y(row - 1) > APART * usual;
            let above = top && (row + 1..=EDGE.min(rows.len() - 1)).any(apart);
            let below = bottom && (rows.len().saturating_sub(EDGE)..=row).any(apart);
            for (at, line) in lines.get(*start..*end).unwrap_or_default() {
                if line.em <= 1.1 * usual && (full || below || above) {
                    found.push(*at);
                }
            }
        }
    }
    found
}

/// What a line looks like, on either side of the border of two places.
fn shapes(line: &Line) -> impl Iterator<Item = Shape> + use<> {
    let place = line.y / GRID;
    let (turn, words) = (line.turn, words(&line.text));
    let places = HashSet::from([place.floor() as i32, place.round() as i32 + 1_000_000]);
    places.into_iter().map(move |place| (turn, place, words.clone()))
}

/// The words of a line with their numbers blotted out, so that page numbers do not tell lines apart.
fn words(line: &str) -> String {
    if is_roman(line.trim()) {
        return NUMBER.to_owned();
    }
    let mut shape = String::new();
    for c in line.split_whitespace().flat_map(|word| word.chars().chain([' '])) {
        match c.is_numeric() {
            true if shape.ends_with('0') => {}
            true => shape.push('0'),
            false => shape.push(c),
        }
    }
    shape.trim_end().to_owned()
}

/// Whether it is a number such as those of the pages before the first chapter.
fn is_roman(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| "ivxlcIVXLC".contains(c))
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::line;
    use super::*;

    /// A page with a head and a foot, and so many lines between them.
    fn page(number: u32, lines: usize) -> Page {
        let mut all = vec![line("Harbour rules", 0.0, 40.0, 0), line(&number.to_string(), 400.0, 40.0, 1)];
        let body =
            |n: usize| line(&format!("{}{n}", "x".repeat(number as usize)), 0.0, 80.0 + 12.0 * n as f32, n);
        all.extend((0..lines).map(body));
        all.push(line(&format!("Page {number} of 9"), 200.0, 780.0, 99));
        Page { number, lines: all, ..Page::default() }
    }

    #[test]
    fn heads_and_feet_go_in_long_and_short_documents() {
        for (pages, lines) in [(2, 3), (2, 30), (3, 5), (20, 40)] {
            let mut pages: Vec<Page> = (1..=pages).map(|number| page(number, lines)).collect();
            drop(&mut pages);
            assert!(pages.iter().all(|page| page.lines.len() == lines), "{pages:?}");
        }
        let mut lone = vec![page(1, 5)];
        drop(&mut lone);
        assert_eq!(lone[0].lines.len(), 8);
    }

    #[test]
    fn heads_of_chapters_go() {
        let of_chapter = |number: u32| {
            let mut page = page(number, 20);
            page.lines[0].text = format!(
                "Chapter {}: {}",
                number / 4,
                ["hulls", "keels", "masts", "sails"][number as usize / 4]
            );
            page
        };
        let mut pages: Vec<Page> = (0..16).map(of_chapter).collect();
        drop(&mut pages);
        assert!(pages.iter().all(|page| page.lines.len() == 20), "{pages:?}");
    }

    #[test]
    fn titles_of_slides_and_copies_of_forms_stay() {
        let slide = |n: u32| {
            let mut title = line(&format!("Slide {n}"), 0.0, 40.0, 0);
            title.em = 24.0;
            let points = (0..4).map(|at| {
                line(&format!("point {at} {}", "y".repeat(n as usize)), 0.0, 100.0 + 40.0 * at as f32, at)
            });
            Page { number: n, lines: [title].into_iter().chain(points).collect(), ..Page::default() }
        };
        let mut slides: Vec<Page> = (1..6).map(slide).collect();
        drop(&mut slides);
        assert!(slides.iter().all(|page| page.lines.len() == 5));
        let form = |number| Page { number, ..page(1, 12) };
        let mut copies: Vec<Page> = (1..4).map(form).collect();
        drop(&mut copies);
        assert!(copies.iter().all(|page| page.lines.len() == 15));
    }
}
