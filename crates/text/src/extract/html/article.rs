//! The article of a page: what Readability, the reader view of browsers, takes for it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};

use dom_smoothie::{Config, Readability};

use super::blocks::Block;

/// A page of fewer bytes of text is read whole.
const MIN_PAGE_BYTES: usize = 2000;
/// Pages of more elements are read whole: to look for their article takes too long.
const MAX_ELEMENTS: usize = 50_000;
/// Words in a row by which text is recognised.
const GRAM: usize = 4;
/// A block of this many bytes, few of them links, is prose.
const PROSE_BYTES: usize = 80;

/// The blocks that belong to a page's article; all of them where there is none that holds most of the page's prose.
pub(super) fn choose(blocks: Vec<Block>, source: &str) -> Vec<Block> {
    let bytes: usize = blocks.iter().map(|block| block.measure().0).sum();
    if bytes < MIN_PAGE_BYTES {
        return blocks;
    }
    let Some(article) = article_of(source) else { return blocks };
    let known = Grams::of(&article);
    let mut is_kept: Vec<bool> = blocks.iter().map(|block| known.hold(block)).collect();
    if !holds_prose(&blocks, &is_kept) {
        return blocks;
    }
    keep_between(&blocks, &mut is_kept);
    keep_headings(&blocks, &mut is_kept);
    blocks.into_iter().zip(is_kept).filter(|(_, is_kept)| *is_kept).map(|(block, _)| block).collect()
}

fn article_of(source: &str) -> Option<String> {
    let config = Config { max_elements_to_parse: MAX_ELEMENTS, ..Config::default() };
    // It is third-party code over a page of any making.
    let read = || Readability::new(source, None, Some(config)).ok()?.parse().ok();
    let article = catch_unwind(AssertUnwindSafe(read)).ok().flatten()?;
    Some(article.text_content.to_string())
}

/// Whether most of the prose of a page is kept.
fn holds_prose(blocks: &[Block], is_kept: &[bool]) -> bool {
    let (mut kept, mut all) = (0, 0);
    for (block, is_kept) in blocks.iter().zip(is_kept) {
        let (bytes, links) = block.measure();
        if bytes >= PROSE_BYTES && links * 3 < bytes {
            all += bytes;
            kept += if *is_kept { bytes } else { 0 };
        }
    }
    kept * 2 >= all
}

/// What stands within the article and is no link is part of it, such as a table, a list or a form.
fn keep_between(blocks: &[Block], is_kept: &mut [bool]) {
    let first = is_kept.iter().position(|is_kept| *is_kept);
    let last = is_kept.iter().rposition(|is_kept| *is_kept);
    let (Some(first), Some(last)) = (first, last) else { return };
    for at in first..last {
        let (bytes, links) = blocks[at].measure();
        is_kept[at] |= links * 3 < bytes && matches!(blocks[at], Block::Table { .. });
    }
}

/// The headings of what is kept.
fn keep_headings(blocks: &[Block], is_kept: &mut [bool]) {
    let mut is_next_kept = false;
    for (at, block) in blocks.iter().enumerate().rev() {
        if matches!(block, Block::Heading(..)) {
            is_kept[at] |= is_next_kept;
        }
        is_next_kept = is_kept[at];
    }
}

/// Words in a row of a text.
struct Grams {
    hasher: RandomState,
    known: HashSet<u64>,
}

impl Grams {
    fn of(text: &str) -> Self {
        let mut grams = Self { hasher: RandomState::new(), known: HashSet::new() };
        let words = words(text);
        for length in 1..=GRAM {
            let hashes: Vec<_> = words.windows(length).map(|gram| grams.hasher.hash_one(gram)).collect();
            grams.known.extend(hashes);
        }
        grams
    }

    /// Whether most of a block's words in a row are known.
    fn hold(&self, block: &Block) -> bool {
        let rows;
        let text = match block {
            Block::Heading(_, text) | Block::Text { text, .. } => text.as_str(),
            Block::Table { table, .. } => {
                rows = table.rows().join(" ");
                &rows
            }
        };
        let words = words(text);
        let length = words.len().min(GRAM);
        if length == 0 {
            return false;
        }
        let known =
            words.windows(length).filter(|gram| self.known.contains(&self.hasher.hash_one(*gram))).count();
        known * 2 >= words.len() + 1 - length
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect()
}
