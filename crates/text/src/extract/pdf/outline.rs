//! The outline of a document, whose entries are the headings of what stands on their pages.

use std::collections::HashMap;

use pdfium_render::prelude::*;

use super::blocks::Block;
use super::letters;

/// Most entries that are read, which also ends an outline that goes in circles.
const MAX_ENTRIES: usize = 10_000;
/// Most levels.
const MAX_LEVELS: u8 = 12;
/// Blocks of a page that are compared with a title at most.
const MAX_BLOCKS: usize = 2000;

/// An entry of an outline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// One for the outermost.
    pub level: u8,
    pub title: String,
    /// How far down its page it points, where it says so.
    y: Option<f32>,
}

/// The entries of each page, by its number from one, in their order.
pub(super) fn read(document: &PdfDocument) -> HashMap<u32, Vec<Entry>> {
    let mut entries = HashMap::new();
    let mut left = MAX_ENTRIES;
    if let Some(root) = document.bookmarks().root() {
        read_level(root, 1, &mut left, &mut entries);
    }
    entries
}

fn read_level(first: PdfBookmark, level: u8, left: &mut usize, entries: &mut HashMap<u32, Vec<Entry>>) {
    for bookmark in first.iter_siblings() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let title = bookmark.title().map(|title| letters::plain(title.trim())).unwrap_or_default();
        let target = match bookmark.destination() {
            Some(target) => Some(place(&target)),
            None => match bookmark.action() {
                Some(PdfAction::LocalDestination(action)) => {
                    action.destination().ok().map(|target| place(&target))
                }
                _ => None,
            },
        };
        let (page, y) = target.unwrap_or_default();
        if let Some(page) = page.and_then(|page| u32::try_from(page).ok())
            && !title.is_empty()
        {
            entries.entry(page + 1).or_default().push(Entry { level, title, y });
        }
        if level < MAX_LEVELS
            && let Some(child) = bookmark.first_child()
        {
            read_level(child, level + 1, left, entries);
        }
    }
}

/// The page that it points to, from zero, and how far down that.
fn place(target: &PdfDestination) -> (Option<i32>, Option<f32>) {
    (target.page_index().ok(), top(target))
}

fn top(target: &PdfDestination) -> Option<f32> {
    use PdfDestinationViewSettings as View;
    let y = match target.view_settings().ok()? {
        View::SpecificCoordinatesAndZoom(_, y, _) | View::FitPageHorizontallyToWindow(y) => y?,
        View::FitPageToRectangle(rect) => rect.top(),
        _ => return None,
    };
    Some(-y.value)
}

/// The blocks of a page before which its entries stand, by index, in their order.
pub(super) fn places<'a>(entries: &'a [Entry], blocks: &[Block]) -> Vec<(usize, &'a Entry)> {
    let named: Vec<String> = blocks.iter().take(MAX_BLOCKS).map(|block| letters_of(&block.text)).collect();
    let mut from = 0;
    let place = |entry: &'a Entry| {
        let title = letters_of(&entry.title);
        let is_it = |name: &String| !title.is_empty() && same(name, &title);
        let named_at = named.iter().skip(from).position(is_it).map(|at| at + from);
        let at = named_at.unwrap_or_else(|| {
            let Some(y) = entry.y else { return from };
            let below = |block: &Block| block.y + 0.3 * block.em >= y;
            blocks.iter().position(below).unwrap_or(from).max(from)
        });
        from = at;
        (at, entry)
    };
    entries.iter().map(place).collect()
}

/// Whether two titles are the same but for what numbers one of them.
fn same(block: &str, title: &str) -> bool {
    let unnumbered = |text: &str| text.trim_start_matches(|c: char| c.is_numeric()).to_owned();
    block == title || (!unnumbered(title).is_empty() && unnumbered(block) == unnumbered(title))
}

fn letters_of(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_before_their_headings() {
        let block = |text: &str, y| Block { text: text.to_owned(), y, em: 10.0, is_row: false, full: true };
        let blocks = [block("Intro text", -700.0), block("2 The Rigging", -600.0), block("Masts", -500.0)];
        let entry = |title: &str, y| Entry { level: 1, title: title.to_owned(), y };
        let entries = [entry("Start", None), entry("The rigging", None), entry("Spars", Some(-512.0))];
        let places: Vec<usize> = places(&entries, &blocks).into_iter().map(|(at, _)| at).collect();
        assert_eq!(places, [0, 1, 2]);
    }
}
