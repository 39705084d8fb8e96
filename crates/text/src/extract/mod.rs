//! Text with headings and pages out of files, in this process or in a child of limited means.

mod builder;
mod decode;
mod docx;
mod html;
mod kind;
mod markdown;
mod pdf;
mod plain;
mod warnings;
mod worker;

pub use kind::{PLAIN, essence, media_type_of};
pub use pdf::{find_pdfium, load_pdfium};
pub use worker::{Extractor, MAX_TEXT_BYTES, MEMORY_VARIABLE, PDFIUM_VARIABLE, worker_main};

use builder::Builder;
use kind::{DOCX, HTML, MARKDOWN, PDF, SUPPORTED};
pub use plain::read as plain_text;
use trove_core::domain::{CELL, Extracted};
use trove_core::error::{Error, Result};

/// Extracts the text of a file in this process.
///
/// Parsers of untrusted binary formats may use much time and memory; see [`Extractor`].
pub fn extract(bytes: &[u8], media_type: &str) -> Result<Extracted> {
    match kind::essence(media_type).as_str() {
        PLAIN => plain::read(decode::decode(bytes)?.replace("\r\n", "\n")),
        MARKDOWN => markdown::extract(&decode::decode(bytes)?),
        HTML => html::extract(&decode::decode(bytes)?),
        PDF => pdf::extract(bytes),
        DOCX => docx::extract(bytes),
        other => Err(unsupported(other)),
    }
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
