//! The PDFium library of this process.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
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

/// Draws notes as they are shown, not as they are printed.
const AS_SHOWN: i32 = 0;
/// That they were drawn.
const FLATTENED: i32 = 1;
/// Most bytes of the name of a font; those of longer ones count as one.
const MAX_FONT_NAME: usize = 128;
/// Smallest size of letters, for those that say none.
const MIN_EM: f32 = 1.0;

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

/// A sign on a page, as PDFium finds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sign {
    /// Its code in Unicode, or half of it; where no letter is known, in its font.
    pub code: u32,
    /// Whether PDFium put it there, such as the end of a line.
    pub generated: bool,
    /// Whether it stands for the hyphen of a word that is divided at the end of a line.
    pub divides: bool,
    /// Whether it is not known which letter it is.
    pub unmapped: bool,
    /// Where it stands: left, bottom, right and top, in points from the bottom of the page.
    pub bounds: [f32; 4],
    /// Where it begins on its baseline.
    pub origin: [f32; 2],
    /// How far it is turned to the right, in radians.
    pub angle: f32,
    /// Its size in points.
    pub em: f32,
    /// Its font, by the hash of its name.
    pub font: u64,
}

/// The signs of a page, those of its fields, notes and stamps as they are drawn too.
#[derive(Debug, Default)]
pub(super) struct Signs {
    pub signs: Vec<Sign>,
    /// Whether it has fields, notes or links.
    pub annotated: bool,
}

/// Reads the signs of all pages, calling a function with the index of each page from zero and its signs, or none where it
/// cannot be read. Tells whether the table of objects was of no use, so that PDFium looked for them.
#[allow(
    unsafe_code,
    reason = "pdfium-render has no safe call for signs without a letter, for damage, and for drawing \
                               notes into a copy of the page"
)]
pub(super) fn read_signs(
    pdfium: &Pdfium,
    bytes: &[u8],
    pages: i32,
    mut each: impl FnMut(i32, Option<Signs>) -> Result<()>,
) -> Result<bool> {
    let library = pdfium.bindings();
    // SAFETY: every handle is of this library, is checked, is used before it is closed, and is closed once, in reverse order,
    // by a guard; the bytes outlive the document. The lock of `with` keeps other threads away. What is written to is on
    // the stack, or a buffer whose length is told.
    unsafe {
        let document = library.FPDF_LoadMemDocument64(bytes, None);
        if document.is_null() {
            return Err(broken("the PDF cannot be parsed"));
        }
        let _document = Guard(|| library.FPDF_CloseDocument(document));
        for number in 0..pages {
            let page = library.FPDF_LoadPage(document, number);
            if page.is_null() {
                each(number, None)?;
                continue;
            }
            let guard = Guard(|| library.FPDF_ClosePage(page));
            let annotated = library.FPDFPage_GetAnnotCount(page) > 0;
            let read = |page| {
                let mut signs = Vec::new();
                let text = library.FPDFText_LoadPage(page);
                if text.is_null() {
                    return signs;
                }
                let _text = Guard(|| library.FPDFText_ClosePage(text));
                let mut name = [0_u8; MAX_FONT_NAME];
                for at in 0..library.FPDFText_CountChars(text) {
                    let (mut bounds, mut matrix) = (std::mem::zeroed(), std::mem::zeroed());
                    let (mut x, mut y) = (0.0, 0.0);
                    library.FPDFText_GetLooseCharBox(text, at, &raw mut bounds);
                    library.FPDFText_GetMatrix(text, at, &raw mut matrix);
                    library.FPDFText_GetCharOrigin(text, at, &raw mut x, &raw mut y);
                    let to = name.as_mut_ptr().cast();
                    let length =
                        library.FPDFText_GetFontInfo(text, at, to, MAX_FONT_NAME as _, std::ptr::null_mut());
                    let mut font = DefaultHasher::new();
                    font.write(name.get(..length as usize).unwrap_or_default());
                    let em = library.FPDFText_GetFontSize(text, at) as f32 * matrix.c.hypot(matrix.d);
                    signs.push(Sign {
                        code: library.FPDFText_GetUnicode(text, at),
                        generated: library.FPDFText_IsGenerated(text, at) == 1,
                        divides: library.FPDFText_IsHyphen(text, at) == 1,
                        unmapped: library.FPDFText_HasUnicodeMapError(text, at) == 1,
                        bounds: [bounds.left, bounds.bottom, bounds.right, bounds.top],
                        origin: [x as f32, y as f32],
                        angle: library.FPDFText_GetCharAngle(text, at),
                        em: if em.is_finite() { em.abs().max(MIN_EM) } else { MIN_EM },
                        font: font.finish().max(1),
                    });
                }
                signs
            };
            let mut signs = read(page);
            if annotated && library.FPDFPage_Flatten(page, AS_SHOWN) == FLATTENED {
                drop(guard);
                let drawn = library.FPDF_LoadPage(document, number);
                if !drawn.is_null() {
                    let _drawn = Guard(|| library.FPDF_ClosePage(drawn));
                    let all = read(drawn);
                    if holds(&all, &signs) {
                        signs = all;
                    }
                }
            }
            each(number, Some(Signs { signs, annotated }))?;
        }
        Ok(library.FPDF_DocumentHasValidCrossReferenceTable(document) == 0)
    }
}

/// Whether a page on which notes are drawn holds all letters that it held before: drawing takes some pages their fonts.
fn holds(drawn: &[Sign], before: &[Sign]) -> bool {
    let mut left: HashMap<(u32, bool), usize> = HashMap::new();
    let letters = |signs: &[Sign]| -> Vec<(u32, bool)> {
        signs.iter().filter(|sign| !sign.generated).map(|sign| (sign.code, sign.unmapped)).collect()
    };
    letters(drawn).into_iter().for_each(|letter| *left.entry(letter).or_default() += 1);
    letters(before).into_iter().all(|letter| match left.get_mut(&letter) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    })
}

/// Closes something when it goes, however that comes.
struct Guard<F: FnMut()>(F);

impl<F: FnMut()> Drop for Guard<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
