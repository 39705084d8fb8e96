//! The encoding that a media type names.

use encoding_rs::Encoding;

use super::kind::essence;

/// The encoding that a media type names in its `charset` parameter.
pub(super) fn of(media_type: &str) -> Option<&'static Encoding> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("charset").then(|| Encoding::for_label(value.as_bytes()))?
    })
}

/// A media type with nothing but its encoding beside it, if it names one that is known.
pub(super) fn with_charset(media_type: &str) -> String {
    let essence = essence(media_type);
    of(media_type).map_or(essence.clone(), |encoding| format!("{essence}; charset={}", encoding.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets() {
        assert_eq!(with_charset("Text/HTML; a=b; Charset=\"latin1\""), "text/html; charset=windows-1252");
        assert_eq!(with_charset("text/plain; charset=x;"), "text/plain");
        assert_eq!(of("text/plain; charset=shift_jis").map(Encoding::name), Some("Shift_JIS"));
    }
}
