use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::Encoding;

use trove_core::error::{Error, Result};

/// Decodes by byte order mark, else as UTF-8, else in the encoding it looks like.
pub(super) fn decode(bytes: &[u8]) -> Result<String> {
    let text = if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned()
    } else if let Ok(text) = std::str::from_utf8(bytes) {
        text.to_owned()
    } else if bytes.contains(&0) {
        return Err(not_text());
    } else {
        let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
        detector.feed(bytes, true);
        detector.guess(None, Utf8Detection::Allow).decode_without_bom_handling(bytes).0.into_owned()
    };
    if text.contains('\0') { Err(not_text()) } else { Ok(text) }
}

fn not_text() -> Error {
    Error::invalid("NOT_TEXT", "expected text, got bytes with NUL among them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        assert_eq!(decode(b"\xef\xbb\xbfna\xc3\xafve").unwrap(), "naïve");
        assert_eq!(decode(b"\xff\xfeh\0i\0").unwrap(), "hi");
        assert_eq!(decode(b"un caf\xe9 tr\xe8s serr\xe9").unwrap(), "un café très serré");
        assert_eq!(decode(b"\xe9\0").unwrap_err().reason, "NOT_TEXT");
    }
}
