//! Text with headings and pages out of files, in this process or in a child of limited means.

mod builder;
mod charset;
mod decode;
mod docx;
mod front_matter;
mod html;
mod kind;
mod markdown;
mod mdx;
mod metadata;
mod pdf;
mod plain;
mod script;
mod table;
mod warnings;
mod worker;

pub use kind::{PLAIN, essence, media_type_of};
pub use pdf::{find_pdfium, load_pdfium};
pub use worker::{Extractor, MAX_TEXT_BYTES, MEMORY_VARIABLE, PDFIUM_VARIABLE, worker_main};

use builder::Builder;
use decode::Decoded;
use kind::{DOCX, HTML, MARKDOWN, MDX, PDF, SUPPORTED};
pub use plain::read as plain_text;
use table::Table;
use trove_core::domain::{CELL, Extracted};
use trove_core::error::{Error, Result};

/// Extracts the text of a file in this process.
///
/// Parsers of untrusted binary formats may use much time and memory; see [`Extractor`].
pub fn extract(bytes: &[u8], media_type: &str) -> Result<Extracted> {
    let charset = charset::of(media_type);
    match kind::essence(media_type).as_str() {
        PLAIN => from_text(decode::decode_as(bytes, charset)?, |text| plain::read(plain::clean(text))),
        MARKDOWN => from_text(decode::decode_as(bytes, charset)?, markdown::extract),
        MDX => from_text(decode::decode_as(bytes, charset)?, markdown::extract_mdx),
        HTML => from_text(decode::decode_markup(bytes, charset)?, html::extract),
        PDF => pdf::extract(bytes),
        DOCX => docx::extract(bytes),
        other => Err(unsupported(other)),
    }
}

/// Reads a decoded file, and tells what of it could not be decoded.
fn from_text(decoded: Decoded, read: impl Fn(&str) -> Result<Extracted>) -> Result<Extracted> {
    let mut extracted = read(&decoded.text)?;
    extracted.warnings.extend(decoded.warning());
    Ok(extracted)
}

fn unsupported(media_type: &str) -> Error {
    let got: String = media_type.chars().take(100).collect();
    Error::invalid("UNSUPPORTED_FORMAT", format!("expected one of {}, got {got:?}", SUPPORTED.join(", ")))
}

fn broken(message: impl Into<String>) -> Error {
    Error::invalid("BROKEN_DOCUMENT", message)
}

#[cfg(test)]
mod tests {
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
