use std::io::{BufReader, Cursor, Read};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use zip::ZipArchive;

use super::{Builder, broken};
use crate::domain::Extracted;
use crate::error::{Error, Result};

/// Most bytes of the inflated main part; far beyond any book, and a bound for zip bombs.
const MAX_INFLATED_BYTES: u64 = 128 << 20;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    read(bytes, MAX_INFLATED_BYTES)
}

fn read(bytes: &[u8], limit: u64) -> Result<Extracted> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|e| broken(format!("the DOCX is no ZIP archive: {e}")))?;
    // What the archive says of its sizes may be a lie, so the bytes that come out are counted, before any
    // memory is taken for them.
    let inflated = |e| broken(format!("the DOCX cannot be inflated: {e}"));
    let size = std::io::copy(&mut main_part(&mut archive)?.take(limit + 1), &mut std::io::sink())
        .map_err(inflated)?;
    if size > limit {
        return Err(Error::invalid(
            "DOCUMENT_TOO_LARGE",
            format!("expected a DOCX of at most {limit} inflated bytes, got more"),
        ));
    }
    let mut xml = Vec::with_capacity(size as usize);
    main_part(&mut archive)?.take(limit).read_to_end(&mut xml).map_err(inflated)?;
    parse(&xml)
}

fn main_part(archive: &mut ZipArchive<Cursor<&[u8]>>) -> Result<impl Read> {
    let part = archive.by_name("word/document.xml");
    part.map_err(|e| broken(format!("the DOCX has no readable word/document.xml: {e}")))
}

#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<u8>,
    is_title: bool,
}

fn parse(xml: &[u8]) -> Result<Extracted> {
    let mut reader = Reader::from_reader(BufReader::new(xml));
    let mut buffer = Vec::new();
    let mut builder = Builder::default();
    let mut title = None;
    let mut paragraph = Paragraph::default();
    let (mut in_text, mut fallbacks) = (false, 0usize);
    loop {
        buffer.clear();
        let event =
            reader.read_event_into(&mut buffer).map_err(|e| broken(format!("the DOCX has bad XML: {e}")))?;
        match event {
            Event::Eof => break,
            Event::Start(e) if e.local_name().as_ref() == "Fallback" => fallbacks += 1,
            Event::End(e) if e.local_name().as_ref() == "Fallback" => fallbacks = fallbacks.saturating_sub(1),
            // A fallback says again what the alternative before it says.
            _ if fallbacks > 0 => {}
            Event::Start(e) | Event::Empty(e) if e.local_name().as_ref() != "t" => mark(&e, &mut paragraph),
            Event::Start(_) => in_text = true,
            Event::Text(t) if in_text => paragraph.text.push_str(&t.xml10_content()),
            Event::CData(t) if in_text => paragraph.text.push_str(&t.xml10_content()),
            Event::GeneralRef(r) if in_text => match r.resolve_char_ref() {
                Ok(Some(c)) => paragraph.text.push(c),
                _ => paragraph.text.push_str(entity(&r.xml10_content())),
            },
            Event::End(e) => match e.local_name().as_ref() {
                "t" => in_text = false,
                "p" => {
                    let done = std::mem::take(&mut paragraph);
                    if done.is_title {
                        title.get_or_insert(done.text.clone());
                    }
                    match done.level {
                        Some(level) => builder.heading(level, &done.text),
                        None => builder.block(&done.text),
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
    builder.block(&paragraph.text);
    let title = title.or_else(|| builder.first_heading());
    builder.finish(title)
}

fn mark(element: &BytesStart<'_>, paragraph: &mut Paragraph) {
    match element.local_name().as_ref() {
        "tab" => paragraph.text.push('\t'),
        "br" | "cr" => paragraph.text.push('\n'),
        "noBreakHyphen" => paragraph.text.push('-'),
        "pStyle" => {
            let style = value(element);
            paragraph.is_title = style == "title";
            paragraph.level = style
                .strip_prefix("heading")
                .and_then(|n| n.trim().parse().ok())
                .filter(|n| (1..=9).contains(n));
        }
        "outlineLvl" => {
            // Nine is the level of body text.
            let level = value(element).parse::<u8>().ok().filter(|n| *n < 9);
            paragraph.level = paragraph.level.or(level.map(|n| n + 1));
        }
        _ => {}
    }
}

fn value(element: &BytesStart<'_>) -> String {
    let found =
        element.attributes().with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == "val");
    let value =
        found.and_then(|a| a.normalized_value(XmlVersion::Implicit1_0).ok().map(|v| v.to_ascii_lowercase()));
    value.unwrap_or_default()
}

fn entity(name: &str) -> &'static str {
    quick_xml::escape::resolve_predefined_entity(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn docx(body: &str) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("word/document.xml", zip::write::SimpleFileOptions::default()).unwrap();
        write!(
            writer,
            r#"<?xml version="1.0"?><w:document xmlns:w="w"><w:body>{body}</w:body></w:document>"#
        )
        .unwrap();
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn headings_and_paragraphs() {
        let found = extract(&docx(
            r#"<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Top</w:t></w:r></w:p>
            <w:p><w:r><w:t>a &amp; b</w:t></w:r><w:r><w:tab/><w:t xml:space="preserve"> c&#233;</w:t></w:r></w:p>
            <w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Sub</w:t></w:r></w:p><w:p/>
            <w:p><w:r><w:t>end</w:t></w:r></w:p>"#,
        ))
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("Top"));
        assert_eq!(found.text, "Top\n\na & b\t cé\n\nSub\n\nend");
        assert_eq!(found.sections[1].headings, ["Top", "Sub"]);
    }

    #[test]
    fn inflation_is_limited() {
        let bomb = docx(&" ".repeat(1 << 20));
        assert!(bomb.len() < 10_000);
        assert_eq!(read(&bomb, 100_000).unwrap_err().reason, "DOCUMENT_TOO_LARGE");
        assert_eq!(read(&docx("<w:p>"), 100_000).unwrap_err().reason, "BROKEN_DOCUMENT");
    }
}
