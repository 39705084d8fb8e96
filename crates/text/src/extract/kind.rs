use std::path::Path;

use encoding_rs::Encoding;

/// Media type of plain text.
pub const PLAIN: &str = "text/plain";
pub(super) const MARKDOWN: &str = "text/markdown";
/// Markdown with JSX in it.
pub(super) const MDX: &str = "text/mdx";
pub(super) const HTML: &str = "text/html";
pub(super) const PDF: &str = "application/pdf";
pub(super) const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
pub(super) const SUPPORTED: [&str; 6] = [PLAIN, MARKDOWN, MDX, HTML, PDF, DOCX];

/// A media type without its parameters, in lower case.
pub fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The encoding that a media type names in its `charset` parameter.
pub(super) fn charset(media_type: &str) -> Option<&'static Encoding> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("charset").then(|| Encoding::for_label(value.as_bytes()))?
    })
}

/// A media type with nothing but its encoding beside it, if it names one that is known.
pub(super) fn with_charset(media_type: &str) -> String {
    let essence = essence(media_type);
    charset(media_type).map_or(essence.clone(), |encoding| format!("{essence}; charset={}", encoding.name()))
}

/// The media type of a file by its extension, else by its first bytes.
///
/// `None` where neither tells of a supported format. A file that is named as text and is plainly something else is
/// taken for that.
pub fn media_type_of(path: &Path, bytes: &[u8]) -> Option<&'static str> {
    let named = named(path);
    let found = || infer::get(bytes).and_then(|kind| SUPPORTED.into_iter().find(|s| *s == kind.mime_type()));
    match named {
        None => found(),
        Some(PLAIN | MARKDOWN) => found().filter(|found| matches!(*found, PDF | DOCX)).or(named),
        Some(_) => named,
    }
}

/// The media type that the extension of a file stands for.
fn named(path: &Path) -> Option<&'static str> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    Some(match extension.as_str() {
        "txt" | "text" | "rst" | "adoc" | "org" | "log" => PLAIN,
        "md" | "markdown" | "mdown" | "mkd" => MARKDOWN,
        "mdx" => MDX,
        "html" | "htm" | "xhtml" => HTML,
        "pdf" => PDF,
        "docx" | "docm" | "dotx" => DOCX,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets() {
        assert_eq!(with_charset("Text/HTML; a=b; Charset=\"latin1\""), "text/html; charset=windows-1252");
        assert_eq!(with_charset("text/plain; charset=x;"), "text/plain");
    }

    #[test]
    fn extension_then_content() {
        assert_eq!(media_type_of(Path::new("a/B.MD"), b""), Some(MARKDOWN));
        assert_eq!(media_type_of(Path::new("a"), b"%PDF-1.7 x"), Some(PDF));
        assert_eq!(media_type_of(Path::new("a.mdx"), b"# A"), Some(MDX));
        assert_eq!(media_type_of(Path::new("a.txt"), b"%PDF-1.7 x"), Some(PDF));
        assert_eq!(media_type_of(Path::new("a.txt"), b"text"), Some(PLAIN));
        assert_eq!(media_type_of(Path::new("a.png"), b"\x89PNG\r\n\x1a\n"), None);
    }
}
