//! Slides of a presentation: the title first, whatever the order of the boxes in the file.

use super::Builder;

/// What is on a slide.
#[derive(Default)]
pub(super) struct Slide {
    /// Its title.
    pub(super) title: String,
    /// Paragraphs and rows of tables.
    pub(super) blocks: Vec<String>,
    /// What the speaker noted.
    pub(super) notes: Vec<String>,
}

impl Slide {
    /// Adds a paragraph to the title or the rest.
    pub(super) fn paragraph(&mut self, is_title: bool, text: &str) {
        if !is_title {
            self.blocks.push(text.to_owned());
            return;
        }
        if !self.title.is_empty() {
            self.title.push(' ');
        }
        self.title.push_str(text.trim());
    }

    /// Adds the slide of this number as a page.
    pub(super) fn write(&self, builder: &mut Builder, number: u32) {
        builder.end_headings(1);
        builder.page(number);
        builder.heading(1, &self.title);
        self.blocks.iter().for_each(|block| builder.block(block));
        if self.notes.iter().any(|note| !note.trim().is_empty()) {
            builder.heading(2, "Notes");
            self.notes.iter().for_each(|note| builder.block(note));
        }
    }
}

/// Adds the words of a paragraph to a row of a table, in which only cells are divided otherwise.
pub(super) fn push_words(row: &mut String, text: &str) {
    for word in text.split_whitespace() {
        if !row.is_empty() && !row.ends_with([' ', super::CELL]) {
            row.push(' ');
        }
        row.push_str(word);
    }
}
