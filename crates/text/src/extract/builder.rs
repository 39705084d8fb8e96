use super::Table;
use trove_core::domain::{Extracted, Metadata, MetadataValue, Section, Span, Warning};
use trove_core::error::{Error, Result};

/// Most bytes of a heading in a path: each passage below it has a copy of the path. In the text it is whole.
const MAX_HEADING_BYTES: usize = 200;
/// Most bytes of a document's title, which is looked up with each of its passages.
const MAX_TITLE_BYTES: usize = 1000;
/// A table of more bytes may be divided into passages, each of which needs the names of the columns.
const LONG_TABLE_BYTES: usize = 500;
/// Most bytes of the names of a table's columns in a path.
const MAX_COLUMNS_BYTES: usize = 800;
/// Level of the names of a table's columns: below all headings.
const COLUMNS_LEVEL: u8 = u8::MAX;

/// Most headings of a path that is put together of those of a file and of a part of it.
const MAX_DEPTH: usize = 16;

/// Collects blocks of text into sections.
#[derive(Default)]
pub(super) struct Builder {
    text: String,
    sections: Vec<Section>,
    headings: Vec<(u8, String)>,
    page: Option<u32>,
    section_start: usize,
    metadata: Metadata,
    warnings: Vec<Warning>,
}

impl Builder {
    /// Adds a block, with a blank line before it. Plain text with a NUL is refused as no text; files of a format keep
    /// what else they say.
    pub(super) fn block(&mut self, block: &str) {
        let block = block.replace('\0', "");
        let block = block.trim_end();
        if block.trim_start().is_empty() {
            return;
        }
        // Leading spaces stay, since they indent the first line of code.
        let block = block.trim_start_matches(['\n', '\r']);
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        if self.text.len() == self.section_start + 2 {
            self.section_start = self.text.len();
        }
        self.text.push_str(block);
    }

    /// Starts a section under a heading, which is also its first block.
    pub(super) fn heading(&mut self, level: u8, title: &str) {
        let title = title.replace('\0', "").split_whitespace().collect::<Vec<_>>().join(" ");
        self.section(level, &title);
        self.block(&title);
    }

    /// Starts a section under a heading that is not part of the text.
    pub(super) fn section(&mut self, level: u8, title: &str) {
        let title = title.replace('\0', "").split_whitespace().collect::<Vec<_>>().join(" ");
        if title.is_empty() {
            return;
        }
        self.close();
        self.headings.retain(|(l, _)| *l < level);
        self.headings.push((level, short_heading(&title).to_owned()));
    }

    /// Ends the headings of a level and of those below it.
    pub(super) fn end_headings(&mut self, level: u8) {
        self.close();
        self.headings.retain(|(l, _)| *l < level);
    }

    /// Adds a table, row by row. A long one is a section of its own, whose path ends in the names of its columns, so that
    /// each passage of it tells what they mean.
    pub(super) fn table(&mut self, table: &Table) {
        let columns = table.columns().filter(|_| table.bytes() > LONG_TABLE_BYTES);
        if let Some(columns) = &columns {
            self.close();
            let columns = columns.replace('\0', "");
            self.headings.push((COLUMNS_LEVEL, beginning(&columns, MAX_COLUMNS_BYTES).to_owned()));
        }
        table.rows().iter().for_each(|row| self.block(row));
        if columns.is_some() {
            self.close();
            self.headings.pop();
        }
    }

    /// Keeps what the file says of itself; what it says first stays.
    pub(super) fn tell(&mut self, key: &str, value: MetadataValue) {
        if value != MetadataValue::Null {
            self.metadata.entry(key.to_owned()).or_insert(value);
        }
    }

    /// Keeps what could not be read.
    pub(super) fn warn(&mut self, warning: Warning) {
        super::tell(&mut self.warnings, warning);
    }

    /// Starts a page.
    pub(super) fn page(&mut self, number: u32) {
        self.close();
        self.page = Some(number);
    }

    /// Adds what was extracted of a part of the file, with its headings below those so far.
    pub(super) fn append(&mut self, part: &Extracted) {
        let (outer, page) = (self.headings.len(), self.page);
        for section in &part.sections {
            let text = section.span.slice(&part.text).unwrap_or_default();
            if section.headings.is_empty() && section.page.is_none() {
                self.block(text);
                continue;
            }
            self.close();
            let inner = section.headings.iter().take(MAX_DEPTH.saturating_sub(outer));
            self.headings.extend(inner.map(|heading| (u8::MAX, heading.clone())));
            self.page = section.page.or(page);
            self.block(text);
            self.close();
            self.headings.truncate(outer);
            self.page = page;
        }
    }

    /// Bytes of text so far.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The first heading of the outermost level so far.
    pub(super) fn first_heading(&self) -> Option<String> {
        let first = self.sections.iter().find_map(|s| s.headings.first());
        first.or(self.headings.first().map(|(_, title)| title)).cloned()
    }

    fn close(&mut self) {
        let end = self.text.len();
        if end > self.section_start {
            self.sections.push(Section {
                span: Span::new(self.section_start as u32, end as u32),
                headings: self.headings.iter().map(|(_, title)| title.clone()).collect(),
                page: self.page,
            });
        }
        self.section_start = end;
    }

    /// What was collected; the spans fit because a longer text is refused.
    pub(super) fn finish(mut self, title: Option<String>) -> Result<Extracted> {
        if u32::try_from(self.text.len()).is_err() {
            return Err(Error::invalid(
                "DOCUMENT_TOO_LARGE",
                "expected a document of less than 4 GiB of text",
            ));
        }
        self.close();
        if self.sections.is_empty() {
            return Err(Error::invalid("EMPTY_DOCUMENT", "expected a document with text, got one without"));
        }
        let title = title
            .map(|t| t.replace('\0', "").split_whitespace().collect::<Vec<_>>().join(" "))
            .map(|t| beginning(&t, MAX_TITLE_BYTES).to_owned())
            .filter(|t| !t.is_empty());
        Ok(Extracted {
            title,
            text: self.text,
            sections: self.sections,
            metadata: self.metadata,
            warnings: self.warnings,
        })
    }
}

/// A heading as it stands in a path.
pub(super) fn short_heading(title: &str) -> &str {
    beginning(title, MAX_HEADING_BYTES)
}

/// At most so many bytes of a text, whole characters.
fn beginning(text: &str, most: usize) -> &str {
    text.split_at(text.floor_char_boundary(most)).0.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_long_tables_name_the_columns() {
        let table = |rows: usize| {
            let mut table = Table::default();
            table.push("Boat\tDraught in metres".to_owned(), true);
            (0..rows).for_each(|n| table.push(format!("Kestrel {n}\t2.{n}"), false));
            table
        };
        let mut builder = Builder::default();
        builder.heading(1, "Register");
        builder.table(&table(100));
        builder.block("after");
        builder.table(&table(2));
        let found = builder.finish(None).unwrap();
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join(" / ")).collect();
        assert_eq!(paths, ["Register", "Register / Boat, Draught in metres", "Register"]);
        let last = found.sections[2].span.slice(&found.text).unwrap();
        assert_eq!(last, "after\n\nBoat\tDraught in metres\n\nKestrel 0\t2.0\n\nKestrel 1\t2.1");
        assert!(found.sections[1].span.slice(&found.text).unwrap().starts_with("Boat\tDraught"));
    }

    #[test]
    fn parts_stand_below_the_headings_of_the_whole() {
        let mut part = Builder::default();
        part.block("before");
        part.heading(1, "Inner");
        part.block("text");
        let part = part.finish(None).unwrap();
        let mut builder = Builder::default();
        builder.heading(1, "Outer");
        builder.append(&part);
        builder.block("after");
        builder.end_headings(1);
        builder.block("alone");
        let found = builder.finish(None).unwrap();
        assert_eq!(found.text, "Outer\n\nbefore\n\nInner\n\ntext\n\nafter\n\nalone");
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join("/")).collect();
        assert_eq!(paths, ["Outer", "Outer/Inner", "Outer", ""]);
        assert!(
            found.sections.iter().all(|s| s.span.slice(&found.text).is_some_and(|t| !t.trim().is_empty()))
        );
    }

    #[test]
    fn long_headings_are_whole_in_the_text_and_short_in_the_path() {
        let long = "é".repeat(1 << 20);
        let mut builder = Builder::default();
        builder.heading(1, &format!("a{long}"));
        builder.heading(2, "b");
        builder.block("text");
        let title = builder.first_heading().unwrap();
        assert_eq!(title, format!("a{}", "é".repeat(99)));
        let found = builder.finish(Some(long.clone())).unwrap();
        assert_eq!(found.title.unwrap().len(), MAX_TITLE_BYTES);
        assert_eq!(found.sections[1].headings, [title, "b".to_owned()]);
        assert_eq!(found.sections[0].span.slice(&found.text), Some(format!("a{long}").as_str()));
        assert_eq!(found.sections[1].span.slice(&found.text), Some("b\n\ntext"));
    }
}
