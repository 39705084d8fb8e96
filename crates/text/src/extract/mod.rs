//! Text with headings and pages out of files, in this process or in a child of limited means.

mod archive;
mod asciidoc;
mod builder;
mod charset;
mod decode;
mod docx;
mod epub;
mod front_matter;
mod grid;
mod html;
mod inline;
mod kind;
mod latex;
mod mail;
mod markdown;
mod mdx;
mod metadata;
mod notebook;
mod number;
mod odf;
mod org;
mod pdf;
mod plain;
mod pptx;
mod properties;
mod rst;
mod rtf;
#[cfg(test)]
mod samples;
mod script;
mod sheets;
mod slides;
mod table;
mod warnings;
mod worker;
mod xml;

pub use kind::{PLAIN, essence, media_type_of, media_type_of_extension, unread_kind};
pub use pdf::{find_pdfium, load_pdfium};
pub use worker::{Extractor, MAX_TEXT_BYTES, MEMORY_VARIABLE, PDFIUM_VARIABLE, worker_main};

use builder::Builder;
use decode::Decoded;
use encoding_rs::Encoding;
pub use plain::read as plain_text;
use table::Table;
use trove_core::domain::{CELL, Extracted};
use trove_core::error::{Error, Result};
use warnings::{tell, warning};

/// Extracts the text of a file in this process.
///
/// Parsers of untrusted binary formats may use much time and memory; see [`Extractor`].
pub fn extract(bytes: &[u8], media_type: &str) -> Result<Extracted> {
    extract_nested(bytes, media_type, 0)
}

/// Reads a decoded file, and tells what of it could not be decoded.
fn from_text(decoded: Decoded, read: impl Fn(&str) -> Result<Extracted>) -> Result<Extracted> {
    let mut extracted = read(&decoded.text)?;
    extracted.warnings.extend(decoded.warning());
    Ok(extracted)
}

/// Extracts the text of a file that is within so many others.
fn extract_nested(bytes: &[u8], media_type: &str, depth: usize) -> Result<Extracted> {
    let charset = charset::of(media_type);
    let media_type = kind::essence(media_type);
    let Some(found) = kind::resolve(&media_type, bytes) else {
        return Err(unsupported(&media_type, bytes));
    };
    if kind::is_encrypted_office(bytes) {
        return Err(archive::encrypted());
    }
    match found {
        kind::PLAIN => from_text(decode::decode_as(bytes, charset)?, |text| plain::read(plain::clean(text))),
        kind::MARKDOWN => from_text(decode::decode_as(bytes, charset)?, markdown::extract),
        kind::MDX => from_text(decode::decode_as(bytes, charset)?, markdown::extract_mdx),
        kind::HTML => from_text(decode::decode_markup(bytes, charset)?, html::extract),
        kind::PDF => pdf::extract(bytes),
        _ if kind::compound_advice(bytes).is_some() => Err(unsupported(found, bytes)),
        kind::DOCX => docx::extract(bytes),
        kind::PPTX => pptx::extract(bytes),
        kind::XLSX => sheets::extract_xlsx(bytes),
        kind::XLS => sheets::extract_xls(bytes),
        kind::ODT | kind::ODS | kind::ODP => odf::extract(bytes),
        kind::EPUB => epub::extract(bytes),
        kind::MAIL => mail::extract(bytes, depth),
        kind::MAILBOX => mail::extract_mailbox(bytes, depth),
        kind::RTF => rtf::extract(bytes),
        kind::NOTEBOOK => notebook::extract(bytes),
        kind::ASCIIDOC => from_text(lines(bytes, charset)?, asciidoc::extract),
        kind::RST => from_text(lines(bytes, charset)?, rst::extract),
        kind::ORG => from_text(lines(bytes, charset)?, org::extract),
        kind::LATEX => from_text(lines(bytes, charset)?, latex::extract),
        _ => Err(unsupported(found, bytes)),
    }
}

/// A text with the ends of lines that Unix has.
fn lines(bytes: &[u8], charset: Option<&'static Encoding>) -> Result<Decoded> {
    let mut decoded = decode::decode_as(bytes, charset)?;
    decoded.text = decoded.text.replace("\r\n", "\n");
    Ok(decoded)
}

/// A file of a kind that is not read, with what to do where that is known.
fn unsupported(media_type: &str, bytes: &[u8]) -> Error {
    if kind::is_encrypted_office(bytes) {
        return archive::encrypted();
    }
    let got: String = media_type.chars().take(100).collect();
    let advice = kind::compound_advice(bytes).or_else(|| kind::advice(media_type));
    let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
    Error::invalid("UNSUPPORTED_FORMAT", format!("expected one of {}, got {got:?}{advice}", kind::names()))
}

/// More text than any document has.
fn too_large() -> Error {
    let message = format!("expected a document of at most {MAX_TEXT_BYTES} bytes of text, got more");
    Error::invalid("DOCUMENT_TOO_LARGE", message)
}

fn broken(message: impl Into<String>) -> Error {
    Error::invalid("BROKEN_DOCUMENT", message)
}

#[cfg(test)]
mod tests {
    use super::kind::{DOCX, HTML, PDF};
    use super::*;

    fn reason(bytes: &[u8], media_type: &str) -> &'static str {
        extract(bytes, media_type).unwrap_err().reason
    }

    #[test]
    fn bad_input_has_reasons() {
        assert_eq!(reason(b"x", "image/png"), "UNSUPPORTED_FORMAT");
        assert_eq!(reason(b"a\0b", PLAIN), "NOT_TEXT");
        assert_eq!(reason(b" \n", PLAIN), "EMPTY_DOCUMENT");
        assert_eq!(reason(b"<p> </p>", HTML), "EMPTY_DOCUMENT");
        // Where no library was loaded.
        assert_eq!(reason(b"not a pdf", PDF), "PDFIUM_NOT_FOUND");
        assert_eq!(reason(b"not a zip", DOCX), "BROKEN_DOCUMENT");
    }

    #[test]
    fn real_pages() {
        let html = extract(include_bytes!("../../../../tests/data/appetite.html"), HTML).unwrap();
        assert!(html.title.unwrap().contains("Whetting Your Appetite"));
        assert_eq!(html.sections.last().unwrap().headings, ["1. Whetting Your Appetite"]);
        assert!(html.text.contains("Python is an interpreted language"));
        assert!(!html.text.contains("Navigation") && !html.text.contains('¶'));

        let markdown =
            extract(include_bytes!("../../../../tests/data/node-path.md"), "text/markdown; charset=utf-8")
                .unwrap();
        assert_eq!(markdown.title.as_deref(), Some("Path"));
        assert!(markdown.sections.iter().any(|s| s.headings.len() == 2 && s.headings[0] == "Path"));
    }
}
