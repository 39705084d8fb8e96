//! Which formats are read, and which one a file is of.

use std::path::Path;

use memchr::memmem;

/// Media type of plain text.
pub const PLAIN: &str = "text/plain";
pub(super) const MARKDOWN: &str = "text/markdown";
/// Markdown with JSX in it.
pub(super) const MDX: &str = "text/mdx";
pub(super) const HTML: &str = "text/html";
pub(super) const PDF: &str = "application/pdf";
pub(super) const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
pub(super) const PPTX: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";
pub(super) const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
pub(super) const XLS: &str = "application/vnd.ms-excel";
pub(super) const ODT: &str = "application/vnd.oasis.opendocument.text";
pub(super) const ODS: &str = "application/vnd.oasis.opendocument.spreadsheet";
pub(super) const ODP: &str = "application/vnd.oasis.opendocument.presentation";
pub(super) const EPUB: &str = "application/epub+zip";
pub(super) const MAIL: &str = "message/rfc822";
pub(super) const MAILBOX: &str = "application/mbox";
pub(super) const RTF: &str = "application/rtf";
pub(super) const NOTEBOOK: &str = "application/x-ipynb+json";
pub(super) const ASCIIDOC: &str = "text/asciidoc";
pub(super) const RST: &str = "text/x-rst";
pub(super) const ORG: &str = "text/org";
pub(super) const LATEX: &str = "application/x-latex";

/// A format that is read.
pub(super) struct Format {
    /// Its media type, by which documents are known.
    pub(super) media_type: &'static str,
    /// Its name for people.
    name: &'static str,
    /// Other media types that programs give it.
    aliases: &'static [&'static str],
    /// Extensions of its files, in lower case.
    extensions: &'static [&'static str],
}

const fn format(
    media_type: &'static str,
    name: &'static str,
    extensions: &'static [&'static str],
    aliases: &'static [&'static str],
) -> Format {
    Format { media_type, name, aliases, extensions }
}

/// All formats that are read.
pub(super) const FORMATS: [Format; 21] = [
    format(PLAIN, "plain text", &["txt", "text", "log"], &[]),
    format(MARKDOWN, "Markdown", &["md", "markdown", "mdown", "mkd"], &["text/x-markdown"]),
    format(MDX, "MDX", &["mdx"], &[]),
    format(HTML, "HTML", &["html", "htm", "xhtml"], &["application/xhtml+xml"]),
    format(PDF, "PDF", &["pdf"], &["application/x-pdf"]),
    format(
        DOCX,
        "DOCX",
        &["docx", "docm", "dotx"],
        &[
            "application/vnd.ms-word.document.macroenabled.12",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.template",
        ],
    ),
    format(
        PPTX,
        "PPTX",
        &["pptx", "pptm", "ppsx", "potx"],
        &[
            "application/vnd.ms-powerpoint.presentation.macroenabled.12",
            "application/vnd.ms-powerpoint.slideshow.macroenabled.12",
            "application/vnd.openxmlformats-officedocument.presentationml.slideshow",
            "application/vnd.openxmlformats-officedocument.presentationml.template",
        ],
    ),
    format(
        XLSX,
        "XLSX",
        &["xlsx", "xlsm", "xltx"],
        &[
            "application/vnd.ms-excel.sheet.macroenabled.12",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.template",
        ],
    ),
    format(XLS, "XLS", &["xls"], &["application/msexcel", "application/x-msexcel", "application/x-excel"]),
    format(ODT, "ODT", &["odt", "ott"], &["application/vnd.oasis.opendocument.text-template"]),
    format(ODS, "ODS", &["ods", "ots"], &["application/vnd.oasis.opendocument.spreadsheet-template"]),
    format(ODP, "ODP", &["odp", "otp"], &["application/vnd.oasis.opendocument.presentation-template"]),
    format(EPUB, "EPUB", &["epub"], &[]),
    format(MAIL, "mail (EML)", &["eml"], &["message/global", "application/eml"]),
    format(MAILBOX, "mailbox (MBOX)", &["mbox", "mbx"], &["application/x-mbox"]),
    format(RTF, "RTF", &["rtf"], &["text/rtf", "text/richtext", "application/x-rtf"]),
    format(NOTEBOOK, "Jupyter notebook", &["ipynb"], &["application/vnd.jupyter"]),
    format(ASCIIDOC, "AsciiDoc", &["adoc", "asciidoc"], &["text/x-asciidoc"]),
    format(RST, "reStructuredText", &["rst"], &["text/prs.fallenstein.rst", "text/restructured"]),
    format(ORG, "Org", &["org"], &["text/x-org"]),
    format(
        LATEX,
        "LaTeX",
        &["tex", "ltx", "latex"],
        &["application/x-tex", "text/x-tex", "text/x-latex", "application/tex"],
    ),
];

/// What files of other kinds are, by their extensions, and what to do with them.
const UNREAD: [(&[&str], &str); 8] = [
    (&["doc", "dot"], "old Word files: save them as DOCX"),
    (&["ppt", "pps"], "old PowerPoint files: save them as PPTX"),
    (&["xlsb"], "binary Excel files: save them as XLSX"),
    (&["pages", "numbers", "key"], "files of Apple's programs: export them as DOCX, XLSX or PPTX"),
    (&["msg", "pst", "ost"], "files of Outlook: save the mails as EML or MBOX"),
    (&["mobi", "azw", "azw3", "kfx", "djvu"], "e-books of another kind: convert them to EPUB or PDF"),
    (&["zip", "tar", "gz", "tgz", "7z", "rar", "xz", "bz2", "zst"], "archives: unpack them"),
    (
        &["png", "jpg", "jpeg", "tif", "tiff", "webp", "heic"],
        "images: make PDFs with a text layer of them by OCR",
    ),
];

/// A media type without its parameters, in lower case.
pub fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The media type of files of an extension, in lower case and without a dot; `None` where no such file is read.
pub fn media_type_of_extension(extension: &str) -> Option<&'static str> {
    FORMATS.iter().find(|format| format.extensions.contains(&extension)).map(|format| format.media_type)
}

/// What files of an extension are that are not read, and what to do with them; `None` where that is not known.
pub fn unread_kind(extension: &str) -> Option<&'static str> {
    UNREAD.iter().find(|(extensions, _)| extensions.contains(&extension)).map(|(_, what)| *what)
}

/// The media type of a file by its first bytes where they leave no doubt, else by its extension, else by its beginning.
///
/// `None` where none tells of a supported format.
pub fn media_type_of(path: &Path, bytes: &[u8]) -> Option<&'static str> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    signature(bytes).or_else(|| media_type_of_extension(&extension)).or_else(|| look(bytes))
}

/// The format that a file is read as: what its first bytes say, else what it is said to be.
///
/// `None` where that is not supported.
pub(super) fn resolve(media_type: &str, bytes: &[u8]) -> Option<&'static str> {
    match known(media_type) {
        // Programs write HTML, text and mail under names of other formats, in which they cannot be read.
        Some(known) if !is_text(known) => {
            signature(bytes).or_else(|| look(bytes).filter(|_| !begins_as(known, bytes))).or(Some(known))
        }
        Some(known) => signature(bytes).or(Some(known)),
        None => signature(bytes).or_else(|| look(bytes)),
    }
}

/// The media type by which a format is known that is called so, if it is read.
pub(super) fn known(media_type: &str) -> Option<&'static str> {
    let is_called =
        |format: &&Format| format.media_type == media_type || format.aliases.contains(&media_type);
    FORMATS.iter().find(is_called).map(|format| format.media_type)
}

/// Whether files of a format are PDF, or may hold some.
pub(super) fn may_hold_pdf(media_type: &str) -> bool {
    matches!(media_type, PDF | MAIL | MAILBOX)
}

/// The names of all formats that are read.
pub(super) fn names() -> String {
    FORMATS.map(|format| format.name).join(", ")
}

/// What to do with a file of a media type that is not read, where that is known.
pub(super) fn advice(media_type: &str) -> Option<&'static str> {
    let extension = match media_type {
        "application/msword" => "doc",
        "application/vnd.ms-powerpoint" => "ppt",
        "application/vnd.ms-excel.sheet.binary.macroenabled.12" => "xlsb",
        "application/vnd.apple.pages" | "application/vnd.apple.numbers" | "application/vnd.apple.keynote" => {
            "pages"
        }
        "application/vnd.ms-outlook" => "msg",
        "application/x-mobipocket-ebook" | "application/vnd.amazon.ebook" | "image/vnd.djvu" => "mobi",
        "application/zip"
        | "application/gzip"
        | "application/x-tar"
        | "application/x-7z-compressed"
        | "application/vnd.rar" => "zip",
        _ if media_type.starts_with("image/") => "png",
        _ => return None,
    };
    unread_kind(extension)
}

/// Whether a format is text that people write.
pub(super) fn is_text(media_type: &str) -> bool {
    matches!(
        media_type,
        PLAIN | MARKDOWN | MDX | HTML | MAIL | MAILBOX | NOTEBOOK | ASCIIDOC | RST | ORG | LATEX
    )
}

/// Whether a file begins as one of a binary format does, though it may be broken.
fn begins_as(media_type: &str, bytes: &[u8]) -> bool {
    match media_type {
        PDF => memmem::find(&bytes[..bytes.len().min(1024)], b"%PDF-").is_some(),
        XLS => bytes.starts_with(COMPOUND),
        RTF => bytes.starts_with(b"{\\rt"),
        _ => bytes.starts_with(b"PK"),
    }
}

/// The format by a signature that no file of another format has.
fn signature(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"%PDF-") {
        return Some(PDF);
    }
    if bytes.starts_with(b"{\\rtf") {
        return Some(RTF);
    }
    if bytes.starts_with(COMPOUND) {
        // Before 1997 it was called otherwise.
        return (has_stream(bytes, "Workbook") || has_stream(bytes, "Book")).then_some(XLS);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return zipped(bytes);
    }
    None
}

/// How files of Microsoft's compound format begin, in which the old formats of Office and all that are encrypted are.
const COMPOUND: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// Whether a compound file has a stream of a name.
fn has_stream(bytes: &[u8], name: &str) -> bool {
    // A name is followed by NUL and stands at the start of an entry, of which a sector holds four.
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    memmem::find_iter(bytes, &name).any(|at| at % 128 == 0)
}

/// Whether a file of Office's is encrypted with a password.
pub(super) fn is_encrypted_office(bytes: &[u8]) -> bool {
    bytes.starts_with(COMPOUND) && has_stream(bytes, "EncryptedPackage")
}

/// What a compound file is that is not read.
pub(super) fn compound_advice(bytes: &[u8]) -> Option<&'static str> {
    let kinds = [("WordDocument", "doc"), ("PowerPoint Document", "ppt"), ("__properties_version1.0", "msg")];
    if !bytes.starts_with(COMPOUND) {
        return None;
    }
    kinds.into_iter().find(|(name, _)| has_stream(bytes, name)).and_then(|(_, kind)| unread_kind(kind))
}

/// The format of a ZIP archive, by its first file or the names of its files, without reading more of it than those.
fn zipped(bytes: &[u8]) -> Option<&'static str> {
    // OpenDocument and EPUB begin with a file of this name that is stored as it is.
    if bytes.get(30..38) == Some(b"mimetype") {
        let length = u16::from_le_bytes([*bytes.get(28)?, *bytes.get(29)?]);
        let content = bytes.get(38 + usize::from(length)..)?;
        let begins = |format: &&Format| {
            format.aliases.iter().chain([&format.media_type]).any(|kind| {
                let rest = content.strip_prefix(kind.as_bytes());
                rest.is_some_and(|rest| {
                    rest.starts_with(b"PK") || rest.starts_with(b"\n") || rest.starts_with(b"\r")
                })
            })
        };
        if let Some(format) = FORMATS.iter().find(begins) {
            return Some(format.media_type);
        }
    }
    let parts: [(&[u8], &str); 5] = [
        (b"word/document.xml", DOCX),
        (b"ppt/presentation.xml", PPTX),
        (b"xl/workbook.xml", XLSX),
        (b"META-INF/container.xml", EPUB),
        (b"content.xml", ODT),
    ];
    let mut found = None;
    for name in names_in_zip(bytes)? {
        found = parts.iter().position(|(part, _)| *part == name).into_iter().chain(found).min();
    }
    let media_type = parts.get(found?)?.1;
    // Of OpenDocument only its own word tells which it is.
    (media_type != ODT).then_some(media_type)
}

/// The names of the files in a ZIP archive, from its directory.
fn names_in_zip(bytes: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let end = memmem::rfind(bytes, b"PK\x05\x06")?;
    let offset = bytes.get(end + 16..end + 20)?;
    let mut at = u32::from_le_bytes(offset.try_into().ok()?) as usize;
    Some(std::iter::from_fn(move || {
        let header = bytes.get(at..at.checked_add(46)?)?;
        if !header.starts_with(b"PK\x01\x02") {
            return None;
        }
        let length = |from: usize| usize::from(u16::from_le_bytes([header[from], header[from + 1]]));
        let name = bytes.get(at + 46..at + 46 + length(28))?;
        at += 46 + length(28) + length(30) + length(32);
        Some(name)
    }))
}

/// The format that the beginning of a text looks like.
fn look(bytes: &[u8]) -> Option<&'static str> {
    if infer::text::is_html(bytes) {
        return Some(HTML);
    }
    let start = &bytes[..bytes.len().min(4096)];
    let start = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
    };
    let start = start.trim_start_matches('\u{feff}');
    if start.starts_with("From ") && start.lines().nth(1).is_some_and(|line| header(line).is_some()) {
        return Some(MAILBOX);
    }
    if is_mail(start) {
        return Some(MAIL);
    }
    let is_notebook = start.starts_with('{')
        && ["\"cells\"", "\"nbformat\""].iter().all(|key| memmem::find(bytes, key.as_bytes()).is_some());
    if is_notebook {
        return Some(NOTEBOOK);
    }
    (start.starts_with("\\documentclass") || start.contains("\n\\documentclass")).then_some(LATEX)
}

/// Whether a text begins with the header of a mail: fields alone, with a sender and what programs add.
fn is_mail(start: &str) -> bool {
    let mut fields = Vec::new();
    for line in start.lines() {
        match header(line) {
            Some(name) => fields.push(name.to_ascii_lowercase()),
            None if line.is_empty() => break,
            None if line.starts_with([' ', '\t']) && !fields.is_empty() => {}
            None => return false,
        }
    }
    let has = |names: &[&str]| fields.iter().any(|field| names.contains(&field.as_str()));
    has(&["from", "return-path", "received"]) && has(&["date", "message-id", "received", "mime-version"])
}

/// The name of a header field that a line begins.
fn header(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_then_extension() {
        assert_eq!(media_type_of(Path::new("a/B.MD"), b""), Some(MARKDOWN));
        assert_eq!(media_type_of(Path::new("a"), b"%PDF-1.7 x"), Some(PDF));
        assert_eq!(media_type_of(Path::new("a.mdx"), b""), Some(MDX));
        assert_eq!(media_type_of(Path::new("a.txt"), b"%PDF-1.7 x"), Some(PDF));
        assert_eq!(media_type_of(Path::new("a.doc"), b"{\\rtf1 x}"), Some(RTF));
        assert_eq!(media_type_of(Path::new("a.png"), b"\x89PNG\r\n\x1a\n"), None);
        assert_eq!(media_type_of(Path::new("a.xyz"), b"From: a@b.c\nDate: x\nSubject: y\n\nz"), Some(MAIL));
        assert_eq!(media_type_of(Path::new("a"), b"From: the desk of Anna\n\nz"), None);
        assert_eq!(media_type_of(Path::new("a"), b"From a@b Tue Mar  5\nSubject: y\n\nz"), Some(MAILBOX));
        assert_eq!(media_type_of(Path::new("a"), b"{\"nbformat\": 4, \"cells\": []}"), Some(NOTEBOOK));
        assert_eq!(media_type_of(Path::new("a"), b"% x\n\\documentclass{article}"), Some(LATEX));
    }

    #[test]
    fn what_clients_call_a_format_is_understood() {
        assert_eq!(resolve("text/rtf", b"{\\rtf1}"), Some(RTF));
        assert_eq!(resolve("application/octet-stream", b"%PDF-1.7"), Some(PDF));
        assert_eq!(resolve(XLS, b"<html><body>x</body></html>"), Some(HTML));
        assert_eq!(resolve(PDF, b"nothing"), Some(PDF));
        assert_eq!(resolve("application/x-unknown", b"abc"), None);
        for format in &FORMATS {
            assert_eq!(essence(format.media_type), format.media_type);
            assert!(format.aliases.iter().all(|alias| essence(alias) == **alias), "{}", format.name);
            assert!(format.extensions.iter().all(|e| unread_kind(e).is_none()), "{}", format.name);
        }
    }
}
