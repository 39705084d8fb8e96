//! The blocks of a part that holds text.

use std::collections::{HashMap, HashSet};

use quick_xml::events::{BytesStart, Event};

use super::super::script::{lowered, raised};
use super::super::{CELL, Table};
use super::numbering::Numbering;
use super::styles::{Script, Styles, heading_level};
use super::xml::{self, attribute, is_on, value};

/// Most bytes of a cell that is repeated in the rows it spans.
const MAX_SPANNING_BYTES: usize = 200;
/// Most boxes within boxes, and tables within tables, that are told apart.
const MAX_DEPTH: usize = 100;

/// A piece of a document.
pub(super) enum Block {
    Title(String),
    Heading(u8, String),
    Text(String),
    Table(Table),
}

impl Block {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Title(text) | Self::Heading(_, text) | Self::Text(text) => text.clone(),
            Self::Table(table) => table.rows().join("\n"),
        }
    }
}

/// What the text of a part is read with.
pub(super) struct Context<'a> {
    pub(super) styles: &'a Styles,
    pub(super) numbering: &'a mut Numbering,
    pub(super) notes: &'a mut Notes,
    /// Addresses of links by the ids of their relationships.
    pub(super) links: &'a HashMap<String, String>,
}

/// Notes and comments by their kinds and ids. Each is read at its first reference.
#[derive(Default)]
pub(super) struct Notes(HashMap<(NoteKind, String), String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum NoteKind {
    Footnote,
    Endnote,
    Comment,
}

impl NoteKind {
    fn of(name: &str) -> Option<Self> {
        match name {
            "footnote" | "footnoteReference" => Some(Self::Footnote),
            "endnote" | "endnoteReference" => Some(Self::Endnote),
            "comment" | "commentReference" => Some(Self::Comment),
            _ => None,
        }
    }
}

impl Notes {
    /// Adds the notes of a part.
    pub(super) fn add(&mut self, part: &[u8], styles: &Styles) -> Result<(), quick_xml::Error> {
        let (mut numbering, mut none, links) = (Numbering::default(), Self::default(), HashMap::new());
        let mut context = Context { styles, numbering: &mut numbering, notes: &mut none, links: &links };
        let mut reader = Body::new(&mut context);
        let mut open = None;
        xml::each(part, |event| {
            if let Event::Start(e) = event
                && let Some(kind) = NoteKind::of(e.local_name().as_ref())
            {
                // Separators are lines between the text and its notes.
                let is_separator = attribute(e, "type").to_lowercase().contains("separator");
                let author = attribute(e, "author");
                let said_by =
                    if author.is_empty() { "Comment: ".to_owned() } else { format!("Comment by {author}: ") };
                let mark = if kind == NoteKind::Comment { said_by } else { String::new() };
                open = (!is_separator).then(|| (kind, attribute(e, "id"), mark));
                reader.frames.truncate(1);
                reader.frame().blocks.clear();
                return;
            }
            reader.event(event);
            if let Event::End(e) = event
                && NoteKind::of(e.local_name().as_ref()).is_some()
                && let Some((kind, id, mark)) = open.take()
            {
                let blocks = reader.take_blocks();
                let text = blocks.iter().map(Block::text).collect::<Vec<_>>().join("\n\n");
                if !text.trim().is_empty() {
                    self.0.insert((kind, id), format!("{mark}{}", text.trim()));
                }
            }
        })
    }

    /// The notes that nothing referred to, in order.
    pub(super) fn into_unread(self) -> Vec<String> {
        let mut left: Vec<_> = self.0.into_iter().collect();
        left.sort_unstable_by(|(a, _), (b, _)| (a.0, a.1.len(), &a.1).cmp(&(b.0, b.1.len(), &b.1)));
        left.into_iter().map(|(_, text)| text).collect()
    }

    fn take(&mut self, kind: NoteKind, id: &str) -> Option<String> {
        self.0.remove(&(kind, id.to_owned()))
    }
}

/// Reads a part of text.
///
/// # Errors
/// What is wrong with the XML.
pub(super) fn read(part: &[u8], context: &mut Context<'_>) -> Result<Vec<Block>, quick_xml::Error> {
    let mut body = Body::new(context);
    xml::each(part, |event| body.event(event))?;
    Ok(body.take_blocks())
}

#[derive(Default)]
struct Paragraph {
    text: String,
    style: String,
    level: Option<u8>,
    list: Option<String>,
    list_level: Option<usize>,
    /// Where raised or lowered text at the end begins.
    script: Option<(Script, usize)>,
    /// Its end is deleted, so that it goes on in the next paragraph.
    goes_on: bool,
    /// Words of pictures, boxes and notes, which stand behind it.
    behind: Vec<Block>,
    links: Vec<String>,
}

#[derive(Default)]
struct Run {
    start: usize,
    script: Option<Script>,
    is_hidden: bool,
}

/// A table that is open.
#[derive(Default)]
struct OpenTable {
    table: Table,
    cells: Vec<String>,
    /// The cells of the row above, by their columns.
    above: Vec<String>,
    cell: String,
    continues: bool,
    is_header: bool,
    is_deleted: bool,
    behind: Vec<Block>,
}

/// The text of the document, or of a box in it.
#[derive(Default)]
struct Frame {
    blocks: Vec<Block>,
    paragraph: Paragraph,
    run: Run,
    tables: Vec<OpenTable>,
}

struct Body<'a, 'b> {
    context: &'a mut Context<'b>,
    frames: Vec<Frame>,
    in_text: bool,
    /// Elements that are open and are passed over.
    passed_over: usize,
    /// For each choice among ways to say the same, whether one was read.
    choices: Vec<bool>,
    in_paragraph_properties: bool,
    /// What was told once, such as what pictures show.
    told: HashSet<String>,
    spanning_bytes: usize,
}

impl<'a, 'b> Body<'a, 'b> {
    fn new(context: &'a mut Context<'b>) -> Self {
        Self {
            context,
            frames: vec![Frame::default()],
            in_text: false,
            passed_over: 0,
            choices: Vec::new(),
            in_paragraph_properties: false,
            told: HashSet::new(),
            spanning_bytes: 1 << 20,
        }
    }

    fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn paragraph(&mut self) -> &mut Paragraph {
        &mut self.frame().paragraph
    }

    fn event(&mut self, event: &Event<'_>) {
        if self.passed_over > 0 {
            match event {
                Event::Start(_) => self.passed_over += 1,
                Event::End(_) => self.passed_over -= 1,
                _ => {}
            }
            return;
        }
        match event {
            Event::Start(e) if self.is_passed_over(e) => self.passed_over = 1,
            Event::Start(e) => self.open(e, false),
            Event::Empty(e) => self.open(e, true),
            Event::End(e) => self.close(e.local_name().as_ref()),
            other if self.in_text => {
                let text = xml::text_of(other);
                self.paragraph().text.push_str(&text);
            }
            _ => {}
        }
    }

    /// What says again what is said elsewhere, what was there before a tracked change, and readings of signs.
    fn is_passed_over(&mut self, element: &BytesStart<'_>) -> bool {
        match element.local_name().as_ref() {
            "Choice" | "Fallback" => match self.choices.last_mut() {
                Some(is_read) => std::mem::replace(is_read, true),
                None => element.local_name().as_ref() == "Fallback",
            },
            "tabs" | "moveFrom" | "rt" | "instrText" | "delText" => true,
            // In properties it is a mark, else it holds what is deleted.
            "del" => !self.in_paragraph_properties,
            name => name.ends_with("Change"),
        }
    }

    fn open(&mut self, element: &BytesStart<'_>, is_empty: bool) {
        match element.local_name().as_ref() {
            "t" if !is_empty => self.in_text = true,
            "AlternateContent" if !is_empty => self.choices.push(false),
            "p" if is_empty => self.end_paragraph(),
            "pPr" => self.in_paragraph_properties = !is_empty,
            "del" | "moveFrom" if self.in_paragraph_properties => self.paragraph().goes_on = true,
            "txbxContent" if !is_empty && self.frames.len() < MAX_DEPTH => {
                self.settle_script();
                self.frames.push(Frame::default());
            }
            "r" if !is_empty => {
                let start = self.paragraph().text.len();
                self.frame().run = Run { start, ..Run::default() };
            }
            "tab" | "ptab" => self.paragraph().text.push('\t'),
            "br" | "cr" => self.paragraph().text.push('\n'),
            "noBreakHyphen" => self.paragraph().text.push('-'),
            // Of formulas.
            "sup" if !is_empty => self.paragraph().text.push('^'),
            "sub" if !is_empty => self.paragraph().text.push('_'),
            "den" if !is_empty => self.paragraph().text.push('/'),
            "pStyle" => {
                let style = value(element).to_lowercase();
                let level = self.context.styles.level(&style);
                let paragraph = self.paragraph();
                paragraph.level = level.or(paragraph.level);
                paragraph.style = style;
            }
            "outlineLvl" => {
                let level = heading_level(value(element).parse().ok());
                let paragraph = self.paragraph();
                paragraph.level = paragraph.level.or(level);
            }
            "numId" => self.paragraph().list = Some(value(element)),
            "ilvl" => self.paragraph().list_level = value(element).parse().ok(),
            "vanish" => self.frame().run.is_hidden |= is_on(element),
            "vertAlign" => self.frame().run.script = Script::of(&value(element)),
            "rStyle" => {
                let script = self.context.styles.script(&value(element).to_lowercase());
                let run = &mut self.frame().run;
                run.script = run.script.or(script);
            }
            "docPr" => self.tell(&attribute(element, "descr")),
            "hyperlink" => {
                let link = self.context.links.get(&attribute(element, "id")).cloned();
                self.paragraph().links.extend(link);
            }
            name @ ("footnoteReference" | "endnoteReference" | "commentReference") => {
                let note = NoteKind::of(name)
                    .and_then(|kind| self.context.notes.take(kind, &attribute(element, "id")));
                self.paragraph().behind.extend(note.map(Block::Text));
            }
            "tbl" if !is_empty && self.frame().tables.len() < MAX_DEPTH => {
                self.frame().tables.push(OpenTable::default())
            }
            name => self.open_in_table(name, element),
        }
    }

    fn open_in_table(&mut self, name: &str, element: &BytesStart<'_>) {
        let in_paragraph = self.in_paragraph_properties;
        let Some(table) = self.frame().tables.last_mut() else { return };
        match name {
            "tr" => (table.is_header, table.is_deleted) = (false, false),
            "tblHeader" => table.is_header = is_on(element),
            "del" if !in_paragraph => table.is_deleted = true,
            "vMerge" => table.continues = value(element) != "restart",
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "AlternateContent" => {
                self.choices.pop();
            }
            "pPr" => {
                self.in_paragraph_properties = false;
                // What the mark of the paragraph is like says nothing of its text.
                self.frame().run = Run::default();
            }
            "r" => self.end_run(),
            "p" => self.end_paragraph(),
            "txbxContent" if self.frames.len() > 1 => {
                let blocks = self.take_blocks();
                self.paragraph().behind.extend(blocks);
            }
            "tc" => self.end_cell(),
            "tr" => self.end_row(),
            "tbl" => self.end_table(),
            _ => {}
        }
    }

    /// All blocks of the frame that is open, which ends.
    fn take_blocks(&mut self) -> Vec<Block> {
        self.paragraph().goes_on = false;
        self.end_paragraph();
        while !self.frame().tables.is_empty() {
            self.end_cell();
            self.end_row();
            self.end_table();
        }
        self.frames.pop().unwrap_or_default().blocks
    }

    /// Raised and lowered text is set apart where it ends, since it may be made of several runs.
    fn end_run(&mut self) {
        let Run { start, script, is_hidden } = std::mem::take(&mut self.frame().run);
        let paragraph = self.paragraph();
        if is_hidden {
            paragraph.text.truncate(start);
        }
        if paragraph.text.len() <= start {
            return;
        }
        match (script, paragraph.script) {
            (Some(script), Some((before, _))) if script == before => {}
            (script, _) => {
                let run = paragraph.text.split_off(start);
                self.settle_script();
                let paragraph = self.paragraph();
                paragraph.script = script.map(|script| (script, paragraph.text.len()));
                paragraph.text.push_str(&run);
            }
        }
    }

    fn settle_script(&mut self) {
        let paragraph = self.paragraph();
        let Some((script, start)) = paragraph.script.take() else { return };
        if start > paragraph.text.len() || !paragraph.text.is_char_boundary(start) {
            return;
        }
        let text = paragraph.text.split_off(start);
        let text = match script {
            Script::Raised => raised(&paragraph.text, &text),
            Script::Lowered => lowered(&paragraph.text, &text),
        };
        paragraph.text.push_str(&text);
    }

    /// Keeps what a picture shows, once.
    fn tell(&mut self, words: &str) {
        let words = words.trim();
        if !words.is_empty() && self.told.insert(words.to_owned()) {
            self.paragraph().behind.push(Block::Text(words.to_owned()));
        }
    }

    fn end_paragraph(&mut self) {
        self.settle_script();
        self.in_text = false;
        let mut paragraph = std::mem::take(self.paragraph());
        let (text, behind) = (std::mem::take(&mut paragraph.text), std::mem::take(&mut paragraph.behind));
        if paragraph.goes_on {
            let links = paragraph.links;
            *self.paragraph() = Paragraph { text, behind, links, ..Paragraph::default() };
            return;
        }
        let text = self.numbered(&paragraph, text);
        let links = paragraph.links.iter().filter(|link| !text.contains(link.as_str())).cloned();
        let links: Vec<_> = links.collect();
        let behind = behind.into_iter().chain((!links.is_empty()).then(|| Block::Text(links.join("\n"))));
        let is_title = self.context.styles.is_title(&paragraph.style);
        let frame = self.frame();
        if let Some(table) = frame.tables.last_mut() {
            push_words(&mut table.cell, &text);
            table.behind.extend(behind);
            return;
        }
        frame.blocks.push(match paragraph.level {
            Some(level) => Block::Heading(level, text),
            None if is_title => Block::Title(text),
            None => Block::Text(text),
        });
        frame.blocks.extend(behind);
    }

    /// A paragraph's text with the number that Word puts before it.
    fn numbered(&mut self, paragraph: &Paragraph, text: String) -> String {
        if text.trim().is_empty() {
            return text;
        }
        let of_style = self.context.styles.numbering(&paragraph.style);
        let (list, level) = match (&paragraph.list, of_style) {
            (Some(list), _) => (list.clone(), paragraph.list_level),
            (None, Some((list, level))) => {
                let level = paragraph.list_level.or(level);
                let level = level.or_else(|| self.context.numbering.level_of_style(&list, &paragraph.style));
                (list, level)
            }
            (None, None) => return text,
        };
        match self.context.numbering.next(&list, level.unwrap_or(0)) {
            Some(number) => format!("{number} {}", text.trim_start()),
            None => text,
        }
    }

    fn end_cell(&mut self) {
        let Self { frames, spanning_bytes, .. } = self;
        let Some(table) = frames.last_mut().and_then(|frame| frame.tables.last_mut()) else { return };
        let text = std::mem::take(&mut table.cell);
        let continues = std::mem::take(&mut table.continues) && text.is_empty();
        // The cell goes on from the row above.
        let above =
            table.above.get(table.cells.len()).filter(|above| continues && above.len() <= MAX_SPANNING_BYTES);
        let above = above.filter(|above| above.len() <= *spanning_bytes).cloned();
        *spanning_bytes -= above.as_ref().map_or(0, String::len);
        table.cells.push(above.unwrap_or(text));
    }

    fn end_row(&mut self) {
        let Some(table) = self.frame().tables.last_mut() else { return };
        let cells = std::mem::take(&mut table.cells);
        let row = cells.join("\t");
        if !row.trim().is_empty() && !table.is_deleted {
            table.table.push(row.trim_end_matches(CELL).to_owned(), table.is_header);
            table.above = cells;
        }
    }

    /// A table in a cell is part of the cell.
    fn end_table(&mut self) {
        let frame = self.frame();
        let Some(mut open) = frame.tables.pop() else { return };
        match frame.tables.last_mut() {
            Some(outer) => {
                open.table.rows().iter().for_each(|row| push_words(&mut outer.cell, row));
                outer.behind.append(&mut open.behind);
            }
            None => {
                if open.table.rows().len() > 2 {
                    open.table.name_columns_by_first_row();
                }
                frame.blocks.push(Block::Table(open.table));
                frame.blocks.append(&mut open.behind);
            }
        }
    }
}

/// Adds words to a cell, in which nothing but spaces divides them.
fn push_words(cell: &mut String, text: &str) {
    for word in text.split_whitespace() {
        if !cell.is_empty() {
            cell.push(' ');
        }
        cell.push_str(word);
    }
}
