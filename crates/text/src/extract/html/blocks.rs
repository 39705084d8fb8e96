//! The blocks of a page, as its elements make them.

use std::collections::HashSet;

use ego_tree::iter::Edge;
use ego_tree::{NodeId, NodeRef};
use scraper::node::Element;
use scraper::{ElementRef, Html, Node};

use super::super::script::{lowered, raised};
use super::super::{CELL, Table};
use super::visible::is_hidden;

/// Most bytes of a cell that is repeated in the rows it spans.
const MAX_SPANNING_BYTES: usize = 200;
/// Most cells of a row that are repeated from rows above it.
const MAX_SPANNING: usize = 16;
/// A cell of more bytes of text is the place of a layout, not a value.
const MAX_CELL_BYTES: usize = 2000;
/// Elements within each other from which on a page is none that people wrote.
const MAX_DEPTH: usize = 200;
/// Most bytes of a link's address that is kept.
const MAX_ADDRESS_BYTES: usize = 2000;

/// A piece of a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    Heading(u8, String),
    Text {
        text: String,
        /// Bytes of it that are links.
        links: usize,
    },
    Table {
        table: Table,
        links: usize,
    },
}

/// What to read of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// A page has heads and feet and bars of links; a piece of one has none.
    pub(super) is_page: bool,
    /// Whether to read what is hidden.
    pub(super) hidden: bool,
    /// Whether to keep the addresses of links, each behind the block it is in.
    pub(super) addresses: bool,
}

/// What is known of a page before it is read.
#[derive(Default)]
pub(super) struct Outline {
    pub(super) hidden: HashSet<NodeId>,
    /// Tables whose rows are statements; others place things.
    data_tables: HashSet<NodeId>,
    /// Whether the page's only headline is in its head.
    headline_in_head: bool,
    has_regions: bool,
    depth: usize,
}

impl Outline {
    pub(super) fn of(page: &Html, hidden: HashSet<NodeId>) -> Self {
        let mut outline = Self { hidden, data_tables: data_tables(page), ..Self::default() };
        let (mut elsewhere, mut depth) = (false, 0_usize);
        for edge in page.root_element().traverse() {
            let (node, is_open) = match edge {
                Edge::Open(node) => (node, true),
                Edge::Close(node) => (node, false),
            };
            let Some(element) = ElementRef::wrap(node) else { continue };
            if !is_open {
                depth = depth.saturating_sub(1);
                continue;
            }
            depth += 1;
            outline.depth = outline.depth.max(depth);
            match element.value().name() {
                "h1" if is_in_page_head(element) => outline.headline_in_head = true,
                "h1" => elsewhere = true,
                "main" | "article" => outline.has_regions = true,
                _ => {}
            }
        }
        outline.headline_in_head &= !elsewhere;
        outline
    }

    /// Whether the page nests deeper than people write.
    pub(super) fn is_deep(&self) -> bool {
        self.depth > MAX_DEPTH
    }
}

fn is_in_page_head(element: ElementRef<'_>) -> bool {
    let around = element.ancestors().take(MAX_DEPTH);
    let mut names = around.filter_map(|node| node.value().as_element()).map(Element::name);
    names.find(|name| is_sectioning(name) || *name == "header").is_some_and(|name| name == "header")
}

/// Elements whose own head and foot are content.
fn is_sectioning(name: &str) -> bool {
    matches!(name, "article" | "main" | "section" | "blockquote" | "figure" | "details")
}

/// The tables of a page that hold no headings, no other tables and no long text, and have more than one column.
fn data_tables(page: &Html) -> HashSet<NodeId> {
    struct Open {
        id: NodeId,
        is_data: bool,
        columns: usize,
        widest: usize,
        cell_bytes: usize,
    }
    let mut open: Vec<Open> = Vec::new();
    let mut found = HashSet::new();
    for edge in page.root_element().traverse() {
        match edge {
            Edge::Open(node) => match node.value() {
                Node::Text(text) => {
                    if let Some(table) = open.last_mut() {
                        table.cell_bytes += text.trim().len();
                        table.is_data &= table.cell_bytes <= MAX_CELL_BYTES;
                    }
                }
                Node::Element(element) => match element.name() {
                    "table" => {
                        open.iter_mut().rev().take(1).for_each(|outer| outer.is_data = false);
                        let is_data = !matches!(element.attr("role"), Some("presentation" | "none"));
                        open.push(Open { id: node.id(), is_data, columns: 0, widest: 0, cell_bytes: 0 });
                    }
                    "tr" => open.iter_mut().rev().take(1).for_each(|table| table.columns = 0),
                    "td" | "th" | "caption" => {
                        if let Some(table) = open.last_mut() {
                            table.columns += usize::from(element.name() != "caption");
                            table.widest = table.widest.max(table.columns);
                            table.cell_bytes = 0;
                        }
                    }
                    name if heading_level(name).is_some() => {
                        open.iter_mut().rev().take(1).for_each(|table| table.is_data = false);
                    }
                    _ => {}
                },
                _ => {}
            },
            Edge::Close(node) => {
                if node.value().as_element().is_some_and(|element| element.name() == "table")
                    && let Some(table) = open.pop()
                    && table.is_data
                    && table.widest > 1
                {
                    found.insert(table.id);
                }
            }
        }
    }
    found
}

/// Reads the blocks of an element.
pub(super) fn read(root: ElementRef<'_>, outline: &Outline, rules: Rules, source_bytes: usize) -> Vec<Block> {
    let mut reader = Reader::new(outline, rules);
    reader.spanning_bytes = source_bytes;
    // What stands around the element is as good as known.
    reader.regions = usize::from(root.value().name() == "main");
    reader.read(root);
    reader.flush();
    reader.blocks
}

/// A table that is being read.
#[derive(Default)]
struct OpenTable {
    table: Table,
    links: usize,
    cells: Vec<String>,
    /// Cells of rows above that reach into this one, with the rows that are left.
    spanning: Vec<(usize, String)>,
    /// Cells of this row that reach into the next ones.
    starting: Vec<(usize, String)>,
    /// Rows that the cell that is open spans below its own.
    rows_below: usize,
    /// Whether all cells of the row are headers.
    is_header: bool,
    in_head: bool,
}

struct Reader<'a> {
    outline: &'a Outline,
    rules: Rules,
    blocks: Vec<Block>,
    block: String,
    /// Bytes of the block that are links.
    links: usize,
    addresses: Vec<String>,
    /// How many `pre`, `a` and sectioning elements are open.
    preformatted: usize,
    in_links: usize,
    regions: usize,
    /// The heading that is open, within which nothing ends a block.
    heading: Option<(NodeId, u8)>,
    /// The data table that is open.
    table: Option<OpenTable>,
    /// Where raised and lowered text that is open begins in the block.
    scripts: Vec<usize>,
    /// Blocks before the page's head, which is read for its headline.
    head: Option<(NodeId, usize)>,
    after_link: bool,
    /// Whether the last words stand for something that is apart from what follows.
    after_words: bool,
    spanning_bytes: usize,
}

impl<'a> Reader<'a> {
    fn new(outline: &'a Outline, rules: Rules) -> Self {
        Self {
            outline,
            rules,
            blocks: Vec::new(),
            block: String::new(),
            links: 0,
            addresses: Vec::new(),
            preformatted: 0,
            in_links: 0,
            regions: 0,
            heading: None,
            table: None,
            scripts: Vec::new(),
            head: None,
            after_link: false,
            after_words: false,
            spanning_bytes: 0,
        }
    }

    /// Walks without recursion, since a page may nest as deep as it likes.
    fn read(&mut self, root: ElementRef<'_>) {
        let mut node = *root;
        loop {
            let entered = match node.value() {
                Node::Text(text) => {
                    self.text(text);
                    false
                }
                Node::Element(element) if node != *root && self.is_skipped(node.id(), element) => {
                    self.skipped(element);
                    false
                }
                Node::Element(element) => {
                    self.open(node.id(), element);
                    true
                }
                _ => false,
            };
            if entered {
                if let Some(child) = node.first_child() {
                    node = child;
                    continue;
                }
                self.close(node);
            }
            loop {
                if node == *root {
                    return;
                }
                if let Some(next) = node.next_sibling() {
                    node = next;
                    break;
                }
                let Some(parent) = node.parent() else {
                    return;
                };
                node = parent;
                self.close(node);
            }
        }
    }

    fn is_skipped(&self, id: NodeId, element: &Element) -> bool {
        if is_never_text(element.name()) {
            return true;
        }
        if !self.rules.hidden && (self.outline.hidden.contains(&id) || is_hidden(element)) {
            return true;
        }
        self.rules.is_page && self.is_furniture(element)
    }

    /// Bars of links, and the head and the foot of the page.
    fn is_furniture(&self, element: &Element) -> bool {
        match element.attr("role") {
            Some("navigation" | "banner" | "contentinfo" | "search" | "menu" | "menubar") => return true,
            Some("alertdialog" | "dialog") if element.attr("open").is_none() => return true,
            _ => {}
        }
        let in_page = self.regions == 0;
        let by_name = match element.name() {
            "nav" | "search" => true,
            "header" => in_page && !self.outline.headline_in_head,
            "footer" => in_page,
            "aside" => in_page && self.outline.has_regions,
            _ => false,
        };
        // Documentation generators put a pilcrow link after each heading.
        by_name || element.classes().any(|class| class == "headerlink") || is_notice(element)
    }

    /// What is left of an element that is not read.
    fn skipped(&mut self, element: &Element) {
        if is_block(element.name()) && self.heading.is_none() {
            self.end_block();
        }
        self.after_link = false;
    }

    fn text(&mut self, text: &str) {
        let text = &*without_soft_hyphens(text);
        if std::mem::take(&mut self.after_words) && text.starts_with(char::is_alphanumeric) {
            self.space();
        }
        let before = self.block.len();
        if self.preformatted > 0 && self.table.is_none() {
            self.block.push_str(text);
        } else {
            if text.starts_with(char::is_whitespace) {
                self.space();
            }
            for (i, word) in text.split_whitespace().enumerate() {
                if i > 0 {
                    self.block.push(' ');
                }
                self.block.push_str(word);
            }
            if text.ends_with(char::is_whitespace) {
                self.space();
            }
        }
        if self.in_links > 0 {
            self.links += self.block.len() - before;
        }
        self.after_link &= text.is_empty();
    }

    /// Ends a line of the block, if it has begun.
    fn end_line(&mut self) {
        let length = self.block.trim_end().len();
        if length > 0 {
            self.block.truncate(length);
            self.block.push('\n');
        }
    }

    fn space(&mut self) {
        if !self.block.is_empty() && !self.block.ends_with([' ', '\n', CELL]) {
            self.block.push(' ');
        }
    }

    /// Words that no text node holds, such as those of a picture.
    fn words(&mut self, text: &str) {
        self.space();
        self.text(text.trim());
        self.after_words = true;
    }

    fn open(&mut self, id: NodeId, element: &Element) {
        let name = element.name();
        if std::mem::take(&mut self.after_link) && matches!(name, "a" | "button") {
            self.space();
        }
        self.regions += usize::from(is_sectioning(name));
        if let Some(table) = &mut self.table {
            match name {
                "thead" => table.in_head = true,
                "tr" => table.is_header = true,
                "td" | "th" => {
                    table.is_header &= name == "th";
                    let rows = element.attr("rowspan").and_then(|rows| rows.trim().parse::<usize>().ok());
                    table.rows_below = rows.unwrap_or(1).saturating_sub(1);
                    self.block.clear();
                }
                _ => {}
            }
        } else if let Some(level) = level_of(element) {
            self.end_block();
            self.heading.get_or_insert((id, level));
        } else if name == "header" && self.rules.is_page && self.regions == 0 {
            self.end_block();
            self.head.get_or_insert((id, self.blocks.len()));
        } else if name == "table" && self.outline.data_tables.contains(&id) && self.heading.is_none() {
            self.end_block();
            self.table = Some(OpenTable::default());
        }
        match name {
            "br" => self.line_break(),
            "a" => {
                self.in_links += 1;
                if let Some(address) = element.attr("href").filter(|_| self.rules.addresses) {
                    self.address(address);
                }
            }
            "sup" | "sub" => self.scripts.push(self.block.len()),
            "img" | "area" | "input" => {
                let is_picture = name != "input" || element.attr("type") == Some("image");
                if let Some(alt) = element.attr("alt").filter(|_| is_picture) {
                    self.words(alt);
                }
                if let Some(address) =
                    element.attr("src").filter(|_| self.rules.addresses && self.in_links == 0)
                {
                    self.address(address);
                }
            }
            "optgroup" => {
                self.line_break();
                self.words(element.attr("label").unwrap_or_default());
            }
            "option" => self.line_break(),
            // It goes on with its term.
            "dd" if self.block.ends_with('\n') => {}
            _ if is_box(name) => self.space(),
            _ if is_block(name) => self.boundary(),
            _ => {}
        }
        if name == "pre" {
            self.preformatted += 1;
        }
    }

    fn close(&mut self, node: NodeRef<'_, Node>) {
        let Some(element) = node.value().as_element() else {
            return;
        };
        let name = element.name();
        match name {
            "a" => {
                self.in_links = self.in_links.saturating_sub(1);
                self.after_link = true;
            }
            "button" => {
                self.space();
                self.after_link = true;
            }
            "pre" => self.preformatted = self.preformatted.saturating_sub(1),
            "sup" | "sub" => self.end_script(name),
            // The term and what it means are one statement.
            "dt" if self.table.is_none() && self.heading.is_none() => self.end_line(),
            _ if is_box(name) => self.space(),
            _ => {}
        }
        if self.table.is_some() {
            self.close_in_table(name);
        } else if self.heading.is_some_and(|(id, _)| id == node.id()) {
            self.end_heading();
        } else if is_block(name) && name != "dt" {
            self.boundary();
        }
        if self.head.is_some_and(|(id, _)| id == node.id()) {
            self.end_head();
        }
        self.regions -= usize::from(is_sectioning(name)).min(self.regions);
    }

    fn close_in_table(&mut self, name: &str) {
        let Some(table) = &mut self.table else { return };
        match name {
            "td" | "th" => {
                let text = self.block.split_whitespace().collect::<Vec<_>>().join(" ");
                table.links += std::mem::take(&mut self.links);
                self.block.clear();
                let rows_below = std::mem::take(&mut table.rows_below);
                if rows_below > 0 && !text.is_empty() && text.len() <= MAX_SPANNING_BYTES {
                    table.starting.push((rows_below, text.clone()));
                }
                table.cells.push(text);
            }
            "tr" => self.end_row(),
            "thead" => table.in_head = false,
            "caption" => {
                let text = std::mem::take(&mut self.block);
                let links = std::mem::take(&mut self.links);
                self.blocks.push(Block::Text { text, links });
            }
            "table" => {
                if let Some(OpenTable { table, links, .. }) = self.table.take() {
                    self.blocks.push(Block::Table { table, links });
                }
                self.block.clear();
                self.end_block();
            }
            _ if is_block(name) => self.space(),
            _ => {}
        }
    }

    fn end_row(&mut self) {
        let Some(table) = &mut self.table else { return };
        let cells = std::mem::take(&mut table.cells);
        let mut row = String::new();
        // A cell that spans rows is the first of its row most often, and says what the row is about.
        for (_, text) in table.spanning.iter().take(MAX_SPANNING) {
            if text.len() <= self.spanning_bytes {
                self.spanning_bytes -= text.len();
                row.push_str(text);
                row.push(CELL);
            }
        }
        row.push_str(&cells.join("\t"));
        table.spanning.iter_mut().for_each(|(rows, _)| *rows -= 1);
        table.spanning.retain(|(rows, _)| *rows > 0);
        table.spanning.append(&mut table.starting);
        let row = row.trim_matches([CELL, ' ']);
        if row.is_empty() {
            return;
        }
        let is_header = table.in_head || table.is_header;
        table.table.push(row.to_owned(), is_header);
    }

    /// What ends a block, but separates words in cells and headings.
    fn boundary(&mut self) {
        if self.table.is_some() || self.heading.is_some() {
            self.space();
        } else {
            self.end_block();
        }
    }

    fn line_break(&mut self) {
        if self.table.is_some() || self.heading.is_some() {
            self.space();
            return;
        }
        if !self.block.is_empty() || self.preformatted > 0 {
            self.block.truncate(self.block.trim_end_matches(' ').len());
            self.block.push('\n');
        }
    }

    fn end_script(&mut self, name: &str) {
        let Some(start) = self.scripts.pop() else { return };
        let Some(text) = self.block.get(start..).map(str::to_owned) else { return };
        self.block.truncate(start);
        let text = if name == "sup" { raised(&self.block, &text) } else { lowered(&self.block, &text) };
        self.block.push_str(&text);
    }

    /// Keeps a link's address, unless it only leads to another place of the page or says itself what is in it.
    fn address(&mut self, address: &str) {
        let address = address.trim();
        let lower = address.get(..11).unwrap_or(address).to_ascii_lowercase();
        let is_none = address.is_empty()
            || address.starts_with('#')
            || address.len() > MAX_ADDRESS_BYTES
            || lower.starts_with("data:")
            || lower.starts_with("javascript:");
        if !is_none && !self.addresses.iter().any(|known| known == address) {
            let address = if lower.starts_with("mailto:") { &address[7..] } else { address };
            self.addresses.push(address.to_owned());
        }
    }

    fn end_heading(&mut self) {
        let Some((_, level)) = self.heading.take() else { return };
        let text = std::mem::take(&mut self.block);
        self.links = 0;
        self.scripts.clear();
        self.blocks.push(Block::Heading(level, text));
        self.push_addresses();
    }

    /// Of a page's head, the headline and what is no link are read.
    fn end_head(&mut self) {
        let Some((_, first)) = self.head.take() else { return };
        let kept = self.blocks.split_off(first).into_iter().filter(|block| match block {
            Block::Text { text, links } => links * 3 < text.len(),
            _ => true,
        });
        self.blocks.extend(kept.collect::<Vec<_>>());
    }

    fn end_block(&mut self) {
        self.scripts.clear();
        let links = std::mem::take(&mut self.links);
        let text = std::mem::take(&mut self.block);
        if !text.trim().is_empty() {
            self.blocks.push(Block::Text { text, links });
        }
        self.push_addresses();
    }

    fn push_addresses(&mut self) {
        if self.addresses.is_empty() || self.table.is_some() || self.heading.is_some() {
            return;
        }
        let said = match self.blocks.last() {
            Some(Block::Text { text, .. } | Block::Heading(_, text)) => text.as_str(),
            _ => "",
        };
        let new: Vec<_> =
            self.addresses.drain(..).filter(|address| !said.contains(address.as_str())).collect();
        if !new.is_empty() {
            let text = new.join("\n");
            self.blocks.push(Block::Text { links: text.len(), text });
        }
    }

    fn flush(&mut self) {
        if self.heading.is_some() {
            self.end_heading();
        }
        self.end_block();
    }
}

impl Block {
    /// Its bytes, and how many of them are links.
    pub(super) fn measure(&self) -> (usize, usize) {
        match self {
            Self::Heading(_, text) => (text.len(), 0),
            Self::Text { text, links } => (text.len(), *links),
            Self::Table { table, links } => (table.bytes(), *links),
        }
    }
}

/// A soft hyphen shows only where a line ends at it.
fn without_soft_hyphens(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\u{ad}') { text.replace('\u{ad}', "").into() } else { text.into() }
}

fn level_of(element: &Element) -> Option<u8> {
    if element.attr("role") == Some("heading") {
        let level = element.attr("aria-level").and_then(|level| level.trim().parse().ok()).unwrap_or(2);
        return Some(u8::clamp(level, 1, 6));
    }
    heading_level(element.name())
}

pub(super) fn heading_level(name: &str) -> Option<u8> {
    let level = name.strip_prefix('h')?.parse().ok()?;
    (1..=6).contains(&level).then_some(level)
}

/// A notice that pages lay over their content.
fn is_notice(element: &Element) -> bool {
    let mut names = element.id().into_iter().chain(element.classes());
    const NOTICES: [&str; 6] =
        ["cookie-banner", "cookie-consent", "cookie-notice", "cookieconsent", "cookie-law", "onetrust"];
    names.any(|name| {
        let name = name.to_ascii_lowercase().replace('_', "-");
        NOTICES.iter().any(|notice| name.starts_with(notice))
    })
}

/// Elements that hold no text of the page. The readings of `ruby` stand between its signs.
fn is_never_text(name: &str) -> bool {
    matches!(
        name,
        "head"
            | "script"
            | "style"
            | "noscript"
            | "template"
            | "iframe"
            | "object"
            | "embed"
            | "audio"
            | "video"
            | "canvas"
            | "datalist"
            | "title"
            | "desc"
            | "metadata"
            | "defs"
            | "annotation"
            | "annotation-xml"
            | "rt"
            | "rp"
            | "rtc"
    )
}

/// Elements within a line that stand apart from what is beside them.
fn is_box(name: &str) -> bool {
    matches!(
        name,
        "button" | "label" | "select" | "textarea" | "output" | "text" | "tspan" | "meter" | "progress"
    )
}

fn is_block(name: &str) -> bool {
    heading_level(name).is_some()
        || matches!(
            name,
            "address"
                | "article"
                | "aside"
                | "blockquote"
                | "body"
                | "caption"
                | "center"
                | "dd"
                | "details"
                | "dialog"
                | "dir"
                | "div"
                | "dl"
                | "dt"
                | "fieldset"
                | "figcaption"
                | "figure"
                | "footer"
                | "form"
                | "header"
                | "hgroup"
                | "hr"
                | "legend"
                | "li"
                | "main"
                | "menu"
                | "nav"
                | "ol"
                | "p"
                | "pre"
                | "search"
                | "section"
                | "summary"
                | "svg"
                | "table"
                | "tbody"
                | "td"
                | "tfoot"
                | "th"
                | "thead"
                | "tr"
                | "ul"
        )
}
