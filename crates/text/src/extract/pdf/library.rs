//! The PDFium library of this process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pdfium_render::prelude::*;

use crate::extract::broken;
use trove_core::error::{Error, Result};

/// Name of the library in a folder.
const NAME: &str = "libpdfium.so";
/// Where fonts of the machine are looked for: nowhere. What a file says of its letters must not depend on the machine,
/// and a file must not make a worker read others.
const NO_FONTS: &str = "/dev/null";

/// The library, once it is loaded. It keeps state that all documents share, so one is read at a time.
static LIBRARY: Mutex<Option<Pdfium>> = Mutex::new(None);

/// The PDFium library that a path means: itself, or the one in a directory.
pub fn find_pdfium(library: &Path) -> Option<PathBuf> {
    [library.to_owned(), library.join(NAME)].into_iter().find(|path| path.is_file())
}

/// Loads PDFium, once for the process; later calls do nothing. The path is the library or a directory that holds it.
///
/// # Errors
/// `PDFIUM_NOT_FOUND`; `PDFIUM_UNUSABLE` where it cannot be loaded or is of another version.
pub fn load_pdfium(library: &Path) -> Result<()> {
    let mut slot = lock();
    if slot.is_some() {
        return Ok(());
    }
    let path = find_pdfium(library).ok_or_else(|| not_found(&library.display().to_string()))?;
    let failed = |e: PdfiumError| {
        let told = format!("cannot load {}, which reads PDF files: {e}", path.display());
        Error::precondition("PDFIUM_UNUSABLE", told)
    };
    let bindings = Pdfium::bind_to_library(&path).map_err(failed)?;
    let config = PdfiumLibraryConfig::new().set_user_font_paths(&[NO_FONTS]).map_err(failed)?;
    *slot = Some(Pdfium::new_with_config(bindings, config));
    Ok(())
}

/// Where it is not, and how it gets there.
fn not_found(place: &str) -> Error {
    Error::precondition(
        "PDFIUM_NOT_FOUND",
        format!(
            "no PDFium library at {place}, which reads PDF files: `trove setup` fetches it, in a clone `make models`"
        ),
    )
}

fn lock() -> MutexGuard<'static, Option<Pdfium>> {
    // A panic in the midst of a document leaves the library as it is.
    LIBRARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls a function with the library, which nobody else uses meanwhile.
pub(super) fn with<T>(read: impl FnOnce(&Pdfium) -> Result<T>) -> Result<T> {
    match lock().as_ref() {
        Some(pdfium) => read(pdfium),
        None => Err(not_found("extract.pdfium")),
    }
}

/// Opens a document. Many are encrypted with an empty password, only to restrict printing: they open.
pub(super) fn open<'a>(pdfium: &'a Pdfium, bytes: &'a [u8]) -> Result<PdfDocument<'a>> {
    use PdfiumInternalError::{PasswordError, SecurityError};
    pdfium.load_pdf_from_byte_slice(bytes, None).map_err(|e| match e {
        PdfiumError::PdfiumLibraryInternalError(PasswordError | SecurityError) => {
            Error::invalid("ENCRYPTED_DOCUMENT", "expected a PDF that opens without a password")
        }
        _ => broken("the PDF cannot be parsed"),
    })
}

/// What PDFium knows of a file and has no safe call for.
#[derive(Default)]
pub(super) struct Doubts {
    /// Whether its table of objects was of no use, so that they were looked for.
    pub rebuilt: bool,
    /// Places of the signs on each page whose letter is not known.
    pub unmapped: Vec<Vec<usize>>,
}

/// Looks at a file a second time, for what the safe calls do not tell.
#[allow(unsafe_code, reason = "pdfium-render has no safe call for what is asked here")]
pub(super) fn doubts(pdfium: &Pdfium, bytes: &[u8], pages: i32) -> Doubts {
    let library = pdfium.bindings();
    let mut doubts = Doubts::default();
    // SAFETY: every handle is of this library, is checked, is used before it is closed, and is closed once, in the
    // reverse order; the bytes outlive the document. The lock of `with` keeps other threads away.
    unsafe {
        let document = library.FPDF_LoadMemDocument64(bytes, None);
        if document.is_null() {
            return doubts;
        }
        doubts.rebuilt = library.FPDF_DocumentHasValidCrossReferenceTable(document) == 0;
        for number in 0..pages {
            let mut unmapped = Vec::new();
            let page = library.FPDF_LoadPage(document, number);
            if !page.is_null() {
                let text = library.FPDFText_LoadPage(page);
                if !text.is_null() {
                    let count = library.FPDFText_CountChars(text);
                    let is_unknown = |at: &i32| library.FPDFText_HasUnicodeMapError(text, *at) == 1;
                    unmapped.extend((0..count).filter(is_unknown).map(|at| at as usize));
                    library.FPDFText_ClosePage(text);
                }
                library.FPDF_ClosePage(page);
            }
            doubts.unmapped.push(unmapped);
        }
        library.FPDF_CloseDocument(document);
    }
    doubts
}
