//! Records out of tables (CSV, TSV and their relatives) and JSON: one document a record.
//!
//! A record is read into fields, each with its text and a typed value. One of them gives the id, one the title and one
//! the text; where no field is the text, the text is made of all of them. The rest becomes metadata. What is too large
//! for metadata becomes text, so that nothing is lost.

mod columns;
mod dialect;
mod encoding;
mod fields;
mod json;
mod moment;
mod table;
mod template;

pub use fields::{Options, RecordDocument};
pub use json::{JsonShape, shape_of_json};
pub use moment::Moment;
pub use template::Template;

use std::io::{self, Read};

/// How a file of records is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table with a header: CSV, TSV and the like. The delimiter is found in the file; this one is taken where nothing
    /// in the file speaks for another.
    Table(u8),
    /// JSON Lines, or an array of objects.
    JsonLines,
    /// JSON values one after the other, or an array of objects.
    Json,
}

/// One record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where in the file it is, for people.
    pub place: String,
    /// Its number, from one: of its line in JSON Lines, else of the record.
    pub number: u64,
    /// Bytes of the file that it took, about.
    pub bytes: u64,
    /// The document, or why the record cannot be used.
    pub document: Result<RecordDocument, String>,
}

/// Reads the records of a file in order. Stops when `sink` says false. `open` is called for each pass over the file: a
/// table is read once for its encoding, once for the types of its columns and once for its records.
///
/// What cannot be read comes as a record with the reason; reading goes on after it where it can.
pub fn read<R: Read>(
    open: &dyn Fn() -> io::Result<R>,
    format: Format,
    options: &Options,
    sink: &mut dyn FnMut(Record) -> bool,
) {
    let done = match format {
        Format::Table(delimiter) => table::read(open, delimiter, options, sink),
        Format::JsonLines => json::read(open, true, options, sink),
        Format::Json => json::read(open, false, options, sink),
    };
    if let Err(reason) = done {
        sink(Record { place: "file".to_owned(), number: 0, bytes: 0, document: Err(reason) });
    }
}
