//! PDF, read by PDFium, which finds letters and where they stand; words, columns, paragraphs and tables are made of them
//! here.

mod blocks;
mod columns;
mod heads;
mod letters;
mod library;
mod outline;
mod page;
mod repair;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use library::{find_pdfium, load_pdfium};
use pdfium_render::prelude::*;

use super::warnings::warning;
use super::worker::{MAX_TEXT_BYTES, too_large};
use super::{Builder, broken};
use blocks::Block;
use page::{ASKEW, Page};
use trove_core::domain::{Extracted, Warning};
use trove_core::error::{Error, Result};

/// Share of a page's signs that may be no letters before it is told.
const MOST_UNREADABLE: f32 = 0.02;
/// Letters up to which a page of a picture has next to no text.
const FEW_LETTERS: usize = 100;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    // The library has assertions of its own.
    let read = || library::with(|pdfium| read(pdfium, bytes));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(broken("the PDF cannot be parsed")))
}

fn read(pdfium: &Pdfium, bytes: &[u8]) -> Result<Extracted> {
    match library::open(pdfium, bytes) {
        Err(e) if e.reason == "BROKEN_DOCUMENT" => match repair::with_table(bytes) {
            Some(repaired) => read_document(pdfium, &repaired, &library::open(pdfium, &repaired)?, true),
            None => Err(e),
        },
        document => read_document(pdfium, bytes, &document?, false),
    }
}

fn read_document(pdfium: &Pdfium, bytes: &[u8], document: &PdfDocument, repaired: bool) -> Result<Extracted> {
    let count = document.pages().len();
    let mut warnings = Vec::new();
    let mut pages = Vec::new();
    let mut length = 0;
    let rebuilt = library::read_signs(pdfium, bytes, count, |at, signs| {
        let number = at as u32 + 1;
        let Some(signs) = signs else {
            let message = format!("page {number} is damaged and cannot be read");
            warnings.push(warning(Some(number), "UNREADABLE_PAGE", message));
            return Ok(());
        };
        let mut page = page::lines(&signs.signs, number);
        // Most pages have neither notes nor too little text, and need not be opened again.
        if (signs.annotated || page.readable < FEW_LETTERS)
            && let Ok(opened) = document.pages().get(at)
        {
            page::read_annotations(&opened, &mut page);
            page.pictured = page.readable < FEW_LETTERS && page::has_pictures(&opened, page.readable);
        }
        length += page.lines.iter().map(|line| line.text.len()).sum::<usize>();
        pages.push(page);
        if length > MAX_TEXT_BYTES { Err(too_large(MAX_TEXT_BYTES, length)) } else { Ok(()) }
    })?;
    if repaired || rebuilt {
        let message = "the file is damaged: it was read by looking for its parts, and some may be missing";
        warnings.push(warning(None, "DAMAGED_FILE", message));
    }
    if pages.is_empty() {
        return Err(broken(format!("none of the PDF's {count} pages can be read")));
    }
    warnings.extend(pages.iter().filter_map(lacking));
    warnings.sort_by_key(|warning| warning.page);
    let empty = without_text(&pages);
    heads::drop(&mut pages);
    let numbers: Vec<u32> = pages.iter().map(|page| page.number).collect();
    let mut set: Vec<Vec<Block>> = pages.into_iter().map(set).collect();
    words::join(&mut set);
    let builder = build(&numbers, set, document);
    let title = document.metadata().get(PdfDocumentMetadataTagType::Title);
    let title = title.as_ref().and_then(|title| own_title(title.value()));
    match builder.finish(title) {
        Ok(extracted) => Ok(Extracted { warnings, ..extracted }),
        Err(e) if e.reason == "EMPTY_DOCUMENT" => Err(empty),
        Err(e) => Err(e),
    }
}

/// What a page lacks.
fn lacking(page: &Page) -> Option<Warning> {
    let number = page.number;
    let signs = page.unreadable + page.readable;
    if page.unreadable as f32 > MOST_UNREADABLE * signs as f32 {
        let told = format!(
            "{} of {signs} signs on page {number} cannot be read: their fonts do not say which letters they are; OCR can",
            page.unreadable
        );
        return Some(warning(Some(number), "UNMAPPED_TEXT", told));
    }
    let message = match page.readable {
        0 => format!("page {number} has pictures and no text: it looks like a scan, which needs OCR"),
        few if few < FEW_LETTERS => {
            format!(
                "page {number} has a picture of the whole page and next to no text: it looks like a scan, which needs OCR"
            )
        }
        _ => return None,
    };
    page.pictured.then(|| warning(Some(number), "PAGE_WITHOUT_TEXT", message))
}

/// Why a document has no text.
fn without_text(pages: &[Page]) -> Error {
    let count = pages.len();
    let of_pages = if count == 1 { "one page".to_owned() } else { format!("{count} pages") };
    if pages.iter().any(|page| page.unreadable > 0) {
        let what = "signs that cannot be read, since their fonts do not say which letters they are; OCR can";
        Error::invalid("UNMAPPED_TEXT", format!("expected a PDF with text, got {of_pages} of {what}"))
    } else if pages.iter().any(|page| page.pictured) {
        let what = "pictures: it looks like a scan, which needs OCR";
        Error::invalid("SCANNED_DOCUMENT", format!("expected a PDF with text, got {of_pages} of {what}"))
    } else {
        Error::invalid("EMPTY_DOCUMENT", format!("expected a PDF with text, got {of_pages} without any"))
    }
}

/// The blocks of a page, in the order in which it is read.
fn set(page: Page) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut turns: Vec<u8> = Vec::new();
    for line in &page.lines {
        if !turns.contains(&line.turn) {
            turns.push(line.turn);
        }
    }
    let mut lines = page.lines;
    for turn in turns {
        let (turned, rest): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.turn == turn);
        lines = rest;
        if turn == ASKEW {
            blocks.extend(turned.into_iter().map(|line| Block {
                text: line.text,
                y: line.y,
                em: line.em,
                is_row: false,
                full: false,
            }));
            continue;
        }
        for column in columns::split(turned) {
            append(blocks::of(column), &mut blocks);
        }
    }
    let notes = page.notes.into_iter();
    blocks.extend(notes.map(|text| Block { text, y: f32::MAX, em: 10.0, is_row: false, full: false }));
    blocks
}

/// Appends the blocks of the next column; a paragraph may go on in it.
fn append(column: Vec<Block>, blocks: &mut Vec<Block>) {
    let mut column = column.into_iter().peekable();
    if let (Some(last), Some(first)) = (blocks.last_mut(), column.peek()) {
        let same = !last.is_row && !first.is_row && (last.em - first.em).abs() <= 0.12 * last.em;
        if same && last.full && columns::goes_on(&last.text, &first.text, true) {
            last.text = format!("{}\n{}", last.text, first.text);
            last.full = first.full;
            column.next();
        }
    }
    blocks.extend(column);
}

fn build(numbers: &[u32], pages: Vec<Vec<Block>>, document: &PdfDocument) -> Builder {
    let outline = outline::read(document);
    let mut builder = Builder::default();
    for (number, blocks) in numbers.iter().zip(pages) {
        builder.page(*number);
        let entries = outline.get(number).map(Vec::as_slice).unwrap_or_default();
        let mut places = outline::places(entries, &blocks).into_iter().peekable();
        for (at, block) in blocks.iter().enumerate() {
            while let Some((_, entry)) = places.next_if(|(place, _)| *place <= at) {
                builder.section(entry.level, &entry.title);
            }
            builder.block(&block.text);
        }
        places.for_each(|(_, entry)| builder.section(entry.level, &entry.title));
    }
    builder
}

/// The title that the file says, but for what programs write there by themselves.
fn own_title(title: &str) -> Option<String> {
    let title = title.trim();
    let title = title.strip_prefix("Microsoft Word - ").unwrap_or(title);
    let is_none =
        title.is_empty() || title.eq_ignore_ascii_case("untitled") || title.chars().any(|c| c == '\u{fffd}');
    (!is_none).then(|| letters::plain(title))
}
