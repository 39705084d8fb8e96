//! OpenDocument: texts, spreadsheets and presentations, which share their elements.

use std::collections::HashMap;

use super::archive::{Archive, encrypted};
use super::grid::Grid;
use super::properties::Properties;
use super::slides::{Slide, push_words};
use super::xml::{self, Element, Node};
use super::{Builder, CELL};
use trove_core::domain::Extracted;
use trove_core::error::Result;

/// Most columns that one cell is repeated over; sheets have no more that hold something.
const MAX_REPEATED: u32 = 16_384;
/// Most spaces that an element stands for.
const MAX_SPACES: usize = 1000;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    let mut archive = Archive::open(bytes)?;
    if let Some(manifest) = archive.part("META-INF/manifest.xml")?
        && memchr::memmem::find(&manifest, b"encryption-data").is_some()
    {
        return Err(encrypted());
    }
    let mut reader = Reader::default();
    let content = archive.required("content.xml")?;
    xml::walk(&content, |node| reader.step(node))?;
    reader.end_page();
    let properties = match archive.part("meta.xml")? {
        Some(part) => Properties::of_xml(&part).unwrap_or_default(),
        None => Properties::default(),
    };
    let title = properties.title.or(reader.title).or_else(|| reader.builder.first_heading());
    let found = reader.builder.finish(title)?;
    Ok(Extracted { metadata: properties.metadata, ..found })
}

/// A style of the document itself; programs make one for each look, based on one with a name.
#[derive(Default)]
struct Style {
    parent: String,
    hidden: bool,
}

/// A paragraph that is being read.
#[derive(Default)]
struct Paragraph {
    text: String,
    /// Level of a heading.
    level: Option<u8>,
    is_title: bool,
}

/// A table that is being read in a text or on a slide.
struct Row(String);

/// A sheet that is being read.
#[derive(Default)]
struct Sheet {
    name: String,
    hidden: bool,
    grid: Grid,
    row: u64,
    rows_repeated: u64,
    column: u32,
    columns_repeated: u32,
    cell: String,
    /// The cells of the row, to repeat them.
    cells: Vec<(u32, String)>,
}

/// What a frame on a slide is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Text,
    Title,
    Furniture,
}

/// A slide that is being read.
struct Page {
    number: u32,
    slide: Slide,
    in_notes: bool,
    roles: Vec<Role>,
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    title: Option<String>,
    styles: HashMap<String, Style>,
    style: String,
    /// Paragraphs, each within the one before: those of notes stand within another.
    paragraphs: Vec<Paragraph>,
    /// What notes say, until the paragraph around them ends.
    pending: Vec<String>,
    rows: Vec<Row>,
    sheet: Option<Sheet>,
    in_spreadsheet: bool,
    page: Option<Page>,
    pages: u32,
    passed_over: usize,
}

/// Elements whose text is no text of the document: deleted text, remarks with their authors, numbers of notes.
fn is_passed_over(name: &str) -> bool {
    matches!(
        name,
        "tracked-changes"
            | "annotation"
            | "note-citation"
            | "scripts"
            | "font-face-decls"
            | "desc"
            | "index-title-template"
    )
}

impl Reader {
    fn step(&mut self, node: Node<'_>) -> Result<()> {
        match node {
            Node::Open(element) if is_passed_over(element.name()) => self.passed_over += 1,
            Node::Close(name) if is_passed_over(name) => {
                self.passed_over = self.passed_over.saturating_sub(1)
            }
            _ if self.passed_over > 0 => {}
            Node::Open(element) => self.open(&element),
            Node::Close(name) => self.close(name)?,
            Node::Text(text) => self.text(text),
        }
        Ok(())
    }

    /// White space is one space, as in HTML; more has elements of its own.
    fn text(&mut self, text: &str) {
        let Some(paragraph) = self.paragraphs.last_mut() else { return };
        for c in text.chars() {
            match c {
                ' ' | '\t' | '\n' | '\r' if paragraph.text.ends_with([' ', '\n', '\t']) => {}
                ' ' | '\t' | '\n' | '\r' => paragraph.text.push(' '),
                c => paragraph.text.push(c),
            }
        }
    }

    fn open(&mut self, element: &Element<'_>) {
        match element.name() {
            "style" => {
                self.style = element.attribute("name").unwrap_or_default();
                let parent = element.attribute("parent-style-name").unwrap_or_default();
                self.styles.insert(self.style.clone(), Style { parent, hidden: false });
            }
            "table-properties" if element.attribute("display").as_deref() == Some("false") => {
                if let Some(style) = self.styles.get_mut(&self.style) {
                    style.hidden = true;
                }
            }
            "spreadsheet" => self.in_spreadsheet = true,
            "p" | "h" => self.open_paragraph(element),
            "s" => {
                let count = element.number("c").unwrap_or(1).min(MAX_SPACES);
                self.push(&" ".repeat(count));
            }
            "tab" => self.push("\t"),
            "line-break" => self.push("\n"),
            "table" if self.in_spreadsheet && self.sheet.is_none() => self.open_sheet(element),
            "table-row" => match &mut self.sheet {
                Some(sheet) => {
                    sheet.rows_repeated = element.number("number-rows-repeated").unwrap_or(1).max(1);
                    sheet.column = 0;
                }
                None => self.rows.push(Row(String::new())),
            },
            "table-cell" | "covered-table-cell" => {
                if let Some(sheet) = &mut self.sheet {
                    sheet.columns_repeated = element.number("number-columns-repeated").unwrap_or(1).max(1);
                }
            }
            "page" => self.open_page(),
            "notes" => self.page.iter_mut().for_each(|page| page.in_notes = true),
            "frame" | "custom-shape" => self.open_frame(element),
            _ => {}
        }
    }

    fn open_paragraph(&mut self, element: &Element<'_>) {
        let style = element.attribute("style-name").unwrap_or_default();
        let parent = self.styles.get(&style).map_or("", |style| style.parent.as_str());
        let level = match element.name() {
            "h" => Some(element.number("outline-level").unwrap_or(1).clamp(1, 10)),
            _ => None,
        };
        let is_title = level.is_none() && (style == "Title" || parent == "Title");
        self.paragraphs.push(Paragraph { text: String::new(), level, is_title });
    }

    fn open_sheet(&mut self, element: &Element<'_>) {
        let style = element.attribute("style-name").unwrap_or_default();
        let hidden = self.styles.get(&style).is_some_and(|style| style.hidden);
        let name = element.attribute("name").unwrap_or_default();
        self.sheet = Some(Sheet { name, hidden, ..Sheet::default() });
    }

    fn open_page(&mut self) {
        self.end_page();
        self.pages += 1;
        self.page =
            Some(Page { number: self.pages, slide: Slide::default(), in_notes: false, roles: Vec::new() });
    }

    fn open_frame(&mut self, element: &Element<'_>) {
        let Some(page) = &mut self.page else { return };
        page.roles.push(match element.attribute("class").as_deref() {
            Some("title") => Role::Title,
            Some("page-number" | "date-time" | "footer" | "header" | "page") => Role::Furniture,
            _ => Role::Text,
        });
    }

    fn push(&mut self, text: &str) {
        self.paragraphs.iter_mut().last().into_iter().for_each(|paragraph| paragraph.text.push_str(text));
    }

    fn close(&mut self, name: &str) -> Result<()> {
        match name {
            "p" | "h" => self.close_paragraph(),
            "table-cell" | "covered-table-cell" => match &mut self.sheet {
                Some(sheet) => sheet.close_cell(),
                None => self.rows.iter_mut().last().into_iter().for_each(|row| row.0.push(CELL)),
            },
            "table-row" => match &mut self.sheet {
                Some(sheet) => sheet.close_row()?,
                None => self.close_row(),
            },
            "table" if self.rows.is_empty() => {
                if let Some(sheet) = self.sheet.take().filter(|sheet| !sheet.hidden && !sheet.grid.is_empty())
                {
                    self.builder.heading(1, &sheet.name);
                    sheet.grid.write(&mut self.builder)?;
                }
            }
            "page" => self.end_page(),
            "notes" => self.page.iter_mut().for_each(|page| page.in_notes = false),
            "frame" | "custom-shape" => {
                if let Some(page) = &mut self.page {
                    page.roles.pop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close_paragraph(&mut self) {
        let Some(paragraph) = self.paragraphs.pop() else { return };
        if !self.paragraphs.is_empty() {
            self.pending.push(paragraph.text);
            return;
        }
        let notes = std::mem::take(&mut self.pending);
        if let Some(sheet) = &mut self.sheet {
            push_words(&mut sheet.cell, &paragraph.text);
            return;
        }
        if let Some(row) = self.rows.last_mut() {
            push_words(&mut row.0, &paragraph.text);
            notes.iter().for_each(|note| push_words(&mut row.0, note));
            return;
        }
        if let Some(page) = &mut self.page {
            page.paragraph(&paragraph.text);
            return;
        }
        if paragraph.is_title && !paragraph.text.trim().is_empty() {
            self.title.get_or_insert(paragraph.text.clone());
        }
        match paragraph.level {
            Some(level) => self.builder.heading(level, &paragraph.text),
            None => self.builder.block(&paragraph.text),
        }
        notes.iter().for_each(|note| self.builder.block(note));
    }

    fn close_row(&mut self) {
        let Some(Row(row)) = self.rows.pop() else { return };
        let row = row.strip_suffix(CELL).unwrap_or(&row);
        match (self.rows.last_mut(), &mut self.page) {
            // A table in a cell is part of the cell.
            (Some(outer), _) => push_words(&mut outer.0, row),
            (None, Some(page)) => page.slide.blocks.push(row.to_owned()),
            (None, None) => self.builder.block(row),
        }
    }

    fn end_page(&mut self) {
        if let Some(page) = self.page.take() {
            page.slide.write(&mut self.builder, page.number);
        }
    }
}

impl Page {
    fn paragraph(&mut self, text: &str) {
        let role = self.roles.last().copied().unwrap_or(Role::Text);
        match (self.in_notes, role) {
            (_, Role::Furniture) => {}
            (true, _) => self.slide.notes.push(text.to_owned()),
            (false, role) => self.slide.paragraph(role == Role::Title, text),
        }
    }
}

impl Sheet {
    fn close_cell(&mut self) {
        let text = std::mem::take(&mut self.cell);
        let repeated = self.columns_repeated;
        if !text.trim().is_empty() {
            let columns = (0..repeated.min(MAX_REPEATED)).map(|next| self.column.saturating_add(next));
            self.cells.extend(columns.map(|column| (column, text.clone())));
        }
        self.column = self.column.saturating_add(repeated);
        self.columns_repeated = 1;
    }

    fn close_row(&mut self) -> Result<()> {
        let cells = std::mem::take(&mut self.cells);
        let repeated = self.rows_repeated;
        if !cells.is_empty() {
            for row in (0..repeated).map(|next| self.row.saturating_add(next)) {
                cells.iter().try_for_each(|(column, text)| self.grid.add(row, *column, text))?;
            }
        }
        self.row = self.row.saturating_add(repeated);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::archive::zip;

    fn odf(styles: &str, body: &str) -> Vec<u8> {
        let content = format!(
            "<office:document-content><office:automatic-styles>{styles}</office:automatic-styles>\
             <office:body>{body}</office:body></office:document-content>"
        );
        zip(&[("content.xml", &content)])
    }

    #[test]
    fn texts_have_headings_notes_and_tables() {
        let cell = |text: &str| format!("<table:table-cell><text:p>{text}</text:p></table:table-cell>");
        let body = format!(
            "<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>\
             <text:p text:style-name=\"P1\">The Harbour</text:p>\
             <text:h text:outline-level=\"1\">Dues</text:h>\
             <text:p>Ships\n  pay<text:s text:c=\"2\"/>a<text:tab/>due<text:note><text:note-citation>1</text:note-citation>\
             <text:note-body><text:p>Since 1904.</text:p></text:note-body></text:note>.</text:p>\
             <text:list><text:list-item><text:p>one</text:p></text:list-item></text:list>\
             <table:table><table:table-row>{}{}</table:table-row><table:table-row>{}{}</table:table-row></table:table>\
             <text:h text:outline-level=\"2\">Sub</text:h></office:text>",
            cell("Length"),
            cell("Due"),
            cell("12 m"),
            cell("40")
        );
        let style = "<style:style style:name=\"P1\" style:parent-style-name=\"Title\"/>";
        let found = extract(&odf(style, &body)).unwrap();
        assert_eq!(found.title.as_deref(), Some("The Harbour"));
        assert_eq!(
            found.text,
            "The Harbour\n\nDues\n\nShips pay  a\tdue.\n\nSince 1904.\n\none\n\nLength\tDue\n\n12 m\t40\n\nSub"
        );
        assert_eq!(found.sections.last().unwrap().headings, ["Dues", "Sub"]);
    }

    #[test]
    fn sheets_are_read_as_they_are_shown_and_hidden_ones_left_out() {
        let cell = |text: &str| {
            format!("<table:table-cell office:value=\"1\"><text:p>{text}</text:p></table:table-cell>")
        };
        let row = |cells: &[&str]| {
            format!(
                "<table:table-row>{}</table:table-row>",
                cells.iter().map(|c| cell(c)).collect::<String>()
            )
        };
        let hidden =
            "<style:style style:name=\"ta1\"><style:table-properties table:display=\"false\"/></style:style>";
        let empty = "<table:table-row table:number-rows-repeated=\"1048576\"><table:table-cell table:number-columns-repeated=\"16384\"/></table:table-row>";
        let body = format!(
            "<office:spreadsheet><table:table table:name=\"Prices\">{}{}{empty}</table:table>\
             <table:table table:name=\"Secret\" table:style-name=\"ta1\">{}</table:table></office:spreadsheet>",
            row(&["Model", "Price"]),
            row(&["EM-940", "1.250,00 €"]),
            row(&["hidden"])
        );
        let found = extract(&odf(hidden, &body)).unwrap();
        assert_eq!(found.text, "Prices\n\nModel\tPrice\n\nEM-940\t1.250,00 €");
    }

    #[test]
    fn what_repeats_without_end_is_refused() {
        let body = "<office:spreadsheet><table:table table:name=\"a\"><table:table-row table:number-rows-repeated=\"1048576\">\
             <table:table-cell table:number-columns-repeated=\"16384\"><text:p>x</text:p></table:table-cell></table:table-row>\
             </table:table></office:spreadsheet>";
        assert_eq!(extract(&odf("", body)).unwrap_err().reason, "DOCUMENT_TOO_LARGE");
    }

    #[test]
    fn slides_have_pages_titles_and_notes() {
        let body = "<office:presentation><draw:page><draw:frame presentation:class=\"outline\"><draw:text-box><text:p>Point</text:p></draw:text-box></draw:frame>\
             <draw:frame presentation:class=\"title\"><draw:text-box><text:p>Top</text:p></draw:text-box></draw:frame>\
             <draw:frame presentation:class=\"footer\"><draw:text-box><text:p>no</text:p></draw:text-box></draw:frame>\
             <presentation:notes><draw:frame presentation:class=\"notes\"><draw:text-box><text:p>Say it</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>\
             <draw:page><draw:custom-shape><text:p>No title</text:p></draw:custom-shape></draw:page></office:presentation>";
        let found = extract(&odf("", body)).unwrap();
        assert_eq!(found.text, "Top\n\nPoint\n\nNotes\n\nSay it\n\nNo title");
        let places: Vec<_> = found.sections.iter().map(|s| (s.page, s.headings.join("/"))).collect();
        let expected = [(1, "Top"), (1, "Top/Notes"), (2, "")];
        assert_eq!(places, expected.map(|(page, path)| (Some(page), path.to_owned())));
    }

    #[test]
    fn encrypted_files_are_told() {
        let bytes =
            zip(&[("META-INF/manifest.xml", "<m><manifest:encryption-data/></m>"), ("content.xml", "\u{1}")]);
        assert_eq!(extract(&bytes).unwrap_err().reason, "ENCRYPTED_DOCUMENT");
    }
}
