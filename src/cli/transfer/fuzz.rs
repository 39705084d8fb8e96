//! Ways for `fuzz/` to the lines of an export.

use super::format;

/// Reads a line as the header and as a document. A document that is read stays the same when it is written and read
/// again.
pub fn line(bytes: &[u8]) {
    let _ = format::Header::parse(bytes);
    let Ok(whole) = format::parse(bytes) else { return };
    let Ok(again) = format::line(&whole) else { return };
    let read = format::parse(again.as_bytes()).map(|whole| format::line(&whole).ok());
    assert_eq!(read, Ok(Some(again)));
}
