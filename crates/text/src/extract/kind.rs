use std::path::Path;

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

/// The media type of a file by its extension, else by its first bytes.
///
/// `None` where neither tells of a supported format.
pub fn media_type_of(path: &Path, bytes: &[u8]) -> Option<&'static str> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "txt" | "text" | "rst" | "adoc" | "org" | "log" => return Some(PLAIN),
        "md" | "markdown" | "mdown" | "mkd" => return Some(MARKDOWN),
        "mdx" => return Some(MDX),
        "html" | "htm" | "xhtml" => return Some(HTML),
        "pdf" => return Some(PDF),
        "docx" => return Some(DOCX),
        _ => {}
    }
    let found = infer::get(bytes)?.mime_type();
    SUPPORTED.into_iter().find(|s| *s == found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_then_content() {
        assert_eq!(media_type_of(Path::new("a/B.MD"), b""), Some(MARKDOWN));
        assert_eq!(media_type_of(Path::new("a"), b"%PDF-1.7 x"), Some(PDF));
        assert_eq!(media_type_of(Path::new("a.mdx"), b""), Some(MDX));
        assert_eq!(media_type_of(Path::new("a.png"), b"\x89PNG\r\n\x1a\n"), None);
    }
}
