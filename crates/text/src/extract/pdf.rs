use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, PlainTextOutput, output_doc_page};

use super::{Builder, broken, pages};
use trove_core::domain::Extracted;
use trove_core::error::{Error, Result};

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    // The parser panics on some malformed files.
    catch_unwind(AssertUnwindSafe(|| read(bytes))).unwrap_or_else(|_| Err(broken("the PDF cannot be parsed")))
}

fn read(bytes: &[u8]) -> Result<Extracted> {
    let mut document =
        Document::load_mem(bytes).map_err(|e| broken(format!("the PDF cannot be parsed: {e}")))?;
    // Many files are encrypted with an empty password, only to restrict printing.
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(Error::invalid("ENCRYPTED_DOCUMENT", "expected a PDF that opens without a password"));
    }
    let numbers: Vec<u32> = document.get_pages().into_keys().collect();
    let mut pages: Vec<(u32, String)> =
        numbers.iter().filter_map(|n| Some((*n, page_text(&document, *n)?))).collect();
    if pages.is_empty() {
        return Err(broken(format!("none of the PDF's {} pages can be read", numbers.len())));
    }
    pages::clean(&mut pages);
    let mut builder = Builder::default();
    for (number, text) in pages {
        builder.page(number);
        builder.block(&text);
    }
    builder.finish(None)
}

/// The text of a page, or `None` where the page is broken; the other pages are still worth having.
fn page_text(document: &Document, number: u32) -> Option<String> {
    let read = || {
        let mut text = String::new();
        let mut output = PlainTextOutput::new(&mut text);
        let done = output_doc_page(document, &mut output, number);
        done.ok().map(|()| text)
    };
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}
