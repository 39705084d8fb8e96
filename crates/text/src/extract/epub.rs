//! E-books in EPUB: chapters in the order of reading, each through the reader of HTML.

use std::collections::{HashMap, HashSet};

use super::archive::{self, Archive, encrypted};
use super::properties::Properties;
use super::xml::{self, Node};
use super::{Builder, broken, decode, html, tell, warning};
use trove_core::domain::Extracted;
use trove_core::error::Result;

/// Most chapters of a book.
const MAX_CHAPTERS: usize = 20_000;
/// Elements that XHTML may close in one tag, and within which HTML would read all that follows.
const NEVER_EMPTY: [&str; 26] = [
    "a",
    "b",
    "blockquote",
    "code",
    "del",
    "div",
    "em",
    "h1",
    "h2",
    "h3",
    "i",
    "iframe",
    "li",
    "noscript",
    "p",
    "pre",
    "script",
    "section",
    "span",
    "strong",
    "style",
    "sub",
    "sup",
    "td",
    "textarea",
    "title",
];

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    let mut archive = Archive::open(bytes)?;
    let package_name = package_name(&archive.required("META-INF/container.xml")?)?;
    let package_part = archive.required(&package_name)?;
    let package = Package::read(&package_part, &package_name)?;
    let locked = locked(&mut archive)?;
    let labels = labels(&mut archive, &package)?;
    let mut builder = Builder::default();
    let mut warnings = Vec::new();
    let chapters: Vec<&String> =
        package.chapters.iter().filter(|name| Some(*name) != package.nav.as_ref()).collect();
    if !chapters.is_empty() && chapters.iter().all(|name| locked.contains(*name)) {
        return Err(encrypted());
    }
    for name in chapters {
        let label = labels.get(name);
        let chapter = match archive.part(name)? {
            _ if locked.contains(name) => Err(encrypted()),
            Some(part) => decode::decode_markup(&part, None)
                .and_then(|source| html::extract(&close_empty(&source.text))),
            None => Err(broken("it is not in the archive")),
        };
        builder.end_headings(1);
        match chapter {
            Ok(chapter) => {
                if let Some(label) = label.filter(|_| chapter.sections.iter().all(|s| s.headings.is_empty()))
                {
                    builder.heading(1, label);
                }
                builder.append(&chapter);
            }
            // A page with a picture alone.
            Err(e) if e.reason == "EMPTY_DOCUMENT" => {}
            Err(e) => {
                let message = format!("chapter {name:?} is not read: {}", e.message);
                tell(&mut warnings, warning(None, "CHAPTER_UNREADABLE", message));
            }
        }
    }
    let properties = Properties::of_xml(&package_part).unwrap_or_default();
    let title = properties.title.or_else(|| builder.first_heading());
    let found = builder.finish(title)?;
    Ok(Extracted { metadata: properties.metadata, warnings, ..found })
}

/// Where the package is, which says what the book is made of.
fn package_name(container: &[u8]) -> Result<String> {
    let mut name = None;
    xml::walk(container, |node| {
        if let Node::Open(element) = node
            && element.name() == "rootfile"
        {
            name = name.take().or(element.attribute("full-path"));
        }
        Ok(())
    })?;
    name.ok_or_else(|| broken("expected an EPUB that names its package, got none"))
}

/// What a package says of the parts of a book.
#[derive(Default)]
struct Package {
    /// The parts to read, in order.
    chapters: Vec<String>,
    /// The table of contents of EPUB 3.
    nav: Option<String>,
    /// The table of contents of EPUB 2.
    ncx: Option<String>,
}

impl Package {
    fn read(bytes: &[u8], name: &str) -> Result<Self> {
        let mut items: HashMap<String, String> = HashMap::new();
        let mut package = Self::default();
        let mut seen = HashSet::new();
        xml::walk(bytes, |node| {
            let Node::Open(element) = node else { return Ok(()) };
            match element.name() {
                "item" => {
                    let (Some(id), Some(href)) = (element.attribute("id"), element.attribute("href")) else {
                        return Ok(());
                    };
                    let part = archive::resolve(name, &unescaped(&href));
                    let kind = element.attribute("media-type").unwrap_or_default();
                    if element.attribute("properties").is_some_and(|p| p.split(' ').any(|p| p == "nav")) {
                        package.nav = Some(part.clone());
                    }
                    if kind == "application/x-dtbncx+xml" {
                        package.ncx = Some(part.clone());
                    }
                    items.insert(id, part);
                }
                "itemref" => {
                    let part = element.attribute("idref").and_then(|id| items.get(&id)).cloned();
                    if let Some(part) = part.filter(|part| seen.insert(part.clone())) {
                        package.chapters.push(part);
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        if package.chapters.len() > MAX_CHAPTERS {
            let got = package.chapters.len();
            return Err(broken(format!("expected at most {MAX_CHAPTERS} chapters, got {got}")));
        }
        Ok(package)
    }
}

/// The names that the table of contents gives to parts, the first for each.
fn labels(archive: &mut Archive<'_>, package: &Package) -> Result<HashMap<String, String>> {
    let mut labels = HashMap::new();
    for name in package.nav.iter().chain(&package.ncx) {
        let Some(bytes) = archive.part(name)? else { continue };
        let (mut link, mut text) = (None, String::new());
        // What a broken table does not name goes without a name.
        let _ = xml::walk(&bytes, |node| {
            match node {
                Node::Open(element) => match element.name() {
                    "a" => {
                        link = element.attribute("href");
                        text.clear();
                    }
                    "navLabel" => text.clear(),
                    "content" => link = element.attribute("src"),
                    _ => {}
                },
                Node::Text(piece) => text.push_str(piece),
                Node::Close("a" | "content") => {
                    if let Some(link) = link.take() {
                        let target = unescaped(link.split('#').next().unwrap_or_default());
                        let label = text.split_whitespace().collect::<Vec<_>>().join(" ");
                        labels.entry(archive::resolve(name, &target)).or_insert(label);
                    }
                }
                Node::Close(_) => {}
            }
            Ok(())
        });
    }
    labels.retain(|_, label: &mut String| !label.is_empty());
    Ok(labels)
}

/// Parts that are encrypted; fonts, which are only made harder to copy, are no text.
fn locked(archive: &mut Archive<'_>) -> Result<HashSet<String>> {
    let mut locked = HashSet::new();
    if let Some(bytes) = archive.part("META-INF/encryption.xml")? {
        xml::walk(&bytes, |node| {
            if let Node::Open(element) = node
                && element.name() == "CipherReference"
            {
                locked.extend(element.attribute("URI").map(|uri| archive::resolve("", &unescaped(&uri))));
            }
            Ok(())
        })?;
    }
    Ok(locked)
}

/// A link without its `%` escapes.
fn unescaped(link: &str) -> String {
    let mut bytes = Vec::with_capacity(link.len());
    let mut rest = link.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| byte == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| link.to_owned())
}

/// XHTML as HTML reads it: elements that are closed in one tag get a tag that closes them.
fn close_empty(source: &str) -> String {
    let mut html = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(end) = rest.find("/>") {
        let (before, after) = (&rest[..end], &rest[end + 2..]);
        let name = before.rfind('<').map_or("", |start| &before[start + 1..]);
        let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        html.push_str(before);
        match NEVER_EMPTY.contains(&name.to_ascii_lowercase().as_str()) {
            true => {
                html.push_str("></");
                html.push_str(name);
                html.push('>');
            }
            false => html.push_str("/>"),
        }
        rest = after;
    }
    html.push_str(rest);
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::archive::zip;

    const CONTAINER: (&str, &str) = (
        "META-INF/container.xml",
        "<container><rootfiles><rootfile full-path=\"OEBPS/book.opf\"/></rootfiles></container>",
    );
    const PACKAGE: &str = "<package><metadata><dc:title>The Ferry</dc:title><dc:creator>Anna Berg</dc:creator></metadata>\
        <manifest><item id=\"nav\" href=\"nav.xhtml\" properties=\"nav\"/><item id=\"b\" href=\"text/b%20b.xhtml\"/>\
        <item id=\"a\" href=\"text/a.xhtml\"/><item id=\"c\" href=\"text/gone.xhtml\"/></manifest>\
        <spine><itemref idref=\"nav\"/><itemref idref=\"a\"/><itemref idref=\"b\"/><itemref idref=\"c\"/></spine></package>";
    const NAV: &str = "<html><body><nav><a href=\"text/a.xhtml#x\">Departure</a><a href=\"text/b%20b.xhtml\">Arrival</a></nav></body></html>";

    #[test]
    fn chapters_come_in_the_order_of_reading() {
        let bytes = zip(&[
            CONTAINER,
            ("OEBPS/book.opf", PACKAGE),
            ("OEBPS/nav.xhtml", NAV),
            (
                "OEBPS/text/a.xhtml",
                "<html><head><title/><script src=\"x\"/></head><body><h1>One</h1><p>It <a id=\"p1\"/>left.</p></body></html>",
            ),
            ("OEBPS/text/b b.xhtml", "<html><body><p>It came.</p></body></html>"),
        ]);
        let found = extract(&bytes).unwrap();
        assert_eq!(found.text, "One\n\nIt left.\n\nArrival\n\nIt came.");
        assert_eq!(found.title.as_deref(), Some("The Ferry"));
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join("/")).collect();
        assert_eq!(paths, ["One", "Arrival"]);
        assert_eq!(found.warnings[0].reason, "CHAPTER_UNREADABLE");
        assert!(found.metadata.contains_key("author"));
    }

    #[test]
    fn locked_books_are_told() {
        let package = "<package><manifest><item id=\"a\" href=\"a.xhtml\"/></manifest><spine><itemref idref=\"a\"/></spine></package>";
        let lock =
            "<encryption><CipherData><CipherReference URI=\"OEBPS/a.xhtml\"/></CipherData></encryption>";
        let bytes = zip(&[
            CONTAINER,
            ("OEBPS/book.opf", package),
            ("META-INF/encryption.xml", lock),
            ("OEBPS/a.xhtml", "?"),
        ]);
        assert_eq!(extract(&bytes).unwrap_err().reason, "ENCRYPTED_DOCUMENT");
    }
}
