use std::collections::BTreeMap;

/// A half-open range of UTF-8 bytes, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span from its bounds.
    pub fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// Length in bytes; zero where the bounds are reversed.
    pub fn len(&self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text it covers, or `None` where it is out of bounds or cuts a character.
    pub fn slice<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.get(self.start as usize..self.end as usize)
    }
}

/// Separates the cells of a table's row in extracted text; a row is a block of its own.
pub const CELL: char = '\t';

/// A run of a document's text under one heading path and on one page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Section {
    /// Where in the text.
    pub span: Span,
    /// Heading path, outermost first.
    pub headings: Vec<String>,
    /// Page, from one, where the format has pages.
    pub page: Option<u32>,
}

/// A part of a file that could not be read, or not as it was meant; the rest of the file was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Warning {
    /// Page, from one, where it concerns one.
    pub page: Option<u32>,
    /// Stable reason in UPPER_SNAKE_CASE, such as `PAGE_WITHOUT_TEXT`.
    pub reason: String,
    /// What is missing and what to do, in lower case without a full stop.
    pub message: String,
}

/// What extraction makes of a file.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Extracted {
    /// Title, where the file names one.
    pub title: Option<String>,
    /// Plain text; every span of the document refers to it.
    pub text: String,
    /// Sections in order, not overlapping.
    pub sections: Vec<Section>,
    /// What the file says of itself, such as its front matter or the people of a mail.
    #[serde(default)]
    pub metadata: Metadata,
    /// What could not be read.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// One typed metadata value.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum MetadataValue {
    /// Nothing.
    Null,
    /// A string.
    String(String),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// A boolean.
    Bool(bool),
    /// Seconds and nanoseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64, i32),
    /// A list of strings.
    StringList(Vec<String>),
    /// A list of integers.
    IntList(Vec<i64>),
    /// A list of floating-point numbers.
    DoubleList(Vec<f64>),
}

/// A document's filterable values by key.
pub type Metadata = BTreeMap<String, MetadataValue>;
