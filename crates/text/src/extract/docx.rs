use std::collections::HashMap;
use std::io::{BufReader, Cursor, Read};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use zip::ZipArchive;

use super::{Builder, CELL, broken};
use trove_core::domain::Extracted;
use trove_core::error::{Error, Result};

/// Most bytes of the inflated main part; far beyond any book, and a bound for zip bombs.
const MAX_INFLATED_BYTES: u64 = 128 << 20;
/// Most bytes of the inflated styles that are read.
const MAX_STYLES_BYTES: u64 = 8 << 20;
/// Most styles that are looked at for what a style has from those it is based on.
const MAX_BASES: usize = 16;
/// Outline level of body text; those of headings are less.
const BODY: u8 = 9;

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
    parse(&xml, &Styles::of(&mut archive))
}

fn main_part(archive: &mut ZipArchive<Cursor<&[u8]>>) -> Result<impl Read> {
    let part = archive.by_name("word/document.xml");
    part.map_err(|e| broken(format!("the DOCX has no readable word/document.xml: {e}")))
}

/// Paragraph styles by their ids, which Word writes in the language of its user.
#[derive(Default)]
struct Styles(HashMap<String, Style>);

#[derive(Default)]
struct Style {
    outline: Option<u8>,
    is_title: bool,
    based_on: String,
}

impl Styles {
    /// The styles of a document. Where they are missing or broken there are fewer: they are worth less than the text.
    fn of(archive: &mut ZipArchive<Cursor<&[u8]>>) -> Self {
        match archive.by_name("word/styles.xml") {
            Ok(part) => Self::parse(part.take(MAX_STYLES_BYTES)),
            Err(_) => Self::default(),
        }
    }

    fn parse(xml: impl Read) -> Self {
        let mut reader = Reader::from_reader(BufReader::new(xml));
        let mut buffer = Vec::new();
        let mut styles = Self::default();
        let (mut id, mut style) = (String::new(), Style::default());
        loop {
            buffer.clear();
            match reader.read_event_into(&mut buffer) {
                Err(_) | Ok(Event::Eof) => return styles,
                Ok(Event::Start(e) | Event::Empty(e)) => match e.local_name().as_ref() {
                    "style" => {
                        id = attribute(&e, "styleId");
                        style = Style { outline: outline_of(&id), ..Style::default() };
                    }
                    // The names of built-in styles are English in all languages.
                    "name" => {
                        let name = value(&e);
                        style.is_title = name == "title";
                        style.outline = outline_of(&name).or(style.outline);
                    }
                    "basedOn" => style.based_on = value(&e),
                    "outlineLvl" => style.outline = style.outline.or(value(&e).parse().ok()),
                    _ => {}
                },
                Ok(Event::End(e)) if e.local_name().as_ref() == "style" => {
                    styles.0.insert(std::mem::take(&mut id), std::mem::take(&mut style));
                }
                Ok(_) => {}
            }
        }
    }

    /// The heading level that a style has, by itself or from a style it is based on.
    fn level(&self, id: &str) -> Option<u8> {
        let mut id = id;
        let mut outline = None;
        for _ in 0..MAX_BASES {
            let Some(style) = self.0.get(id) else {
                outline = outline_of(id);
                break;
            };
            outline = style.outline;
            if outline.is_some() {
                break;
            }
            id = &style.based_on;
        }
        outline.filter(|outline| *outline < BODY).map(|outline| outline + 1)
    }

    fn is_title(&self, id: &str) -> bool {
        id == "title" || self.0.get(id).is_some_and(|style| style.is_title)
    }
}

/// The outline level of a style of headings.
fn outline_of(name: &str) -> Option<u8> {
    let level: u8 = name.strip_prefix("heading")?.trim().parse().ok()?;
    level.checked_sub(1).filter(|outline| *outline < BODY)
}

#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<u8>,
    is_title: bool,
}

fn parse(xml: &[u8], styles: &Styles) -> Result<Extracted> {
    let mut reader = Reader::from_reader(BufReader::new(xml));
    let mut buffer = Vec::new();
    let mut builder = Builder::default();
    let mut title = None;
    let mut paragraph = Paragraph::default();
    let (mut in_text, mut passed_over) = (false, 0usize);
    let mut rows: Vec<String> = Vec::new();
    loop {
        buffer.clear();
        let event =
            reader.read_event_into(&mut buffer).map_err(|e| broken(format!("the DOCX has bad XML: {e}")))?;
        match event {
            Event::Eof => break,
            Event::Start(e) if is_passed_over(e.local_name().as_ref()) => passed_over += 1,
            Event::End(e) if is_passed_over(e.local_name().as_ref()) => {
                passed_over = passed_over.saturating_sub(1);
            }
            _ if passed_over > 0 => {}
            Event::Start(e) if e.local_name().as_ref() == "tr" => rows.push(String::new()),
            Event::Start(e) | Event::Empty(e) if e.local_name().as_ref() != "t" => {
                mark(&e, styles, &mut paragraph);
            }
            Event::Start(_) => in_text = true,
            Event::Text(t) if in_text => paragraph.text.push_str(&t.xml10_content()),
            Event::CData(t) if in_text => paragraph.text.push_str(&t.xml10_content()),
            Event::GeneralRef(r) if in_text => match r.resolve_char_ref() {
                Ok(Some(c)) => paragraph.text.push(c),
                _ => paragraph.text.push_str(entity(&r.xml10_content())),
            },
            Event::End(e) => match e.local_name().as_ref() {
                "t" => in_text = false,
                "tc" => rows.last_mut().into_iter().for_each(|row| row.push(CELL)),
                // A table in a cell is part of the cell.
                "tr" => match (rows.pop(), rows.last_mut()) {
                    (Some(row), Some(outer)) => push_words(outer, &row),
                    (Some(row), None) => builder.block(&row),
                    (None, _) => {}
                },
                "p" => {
                    let done = std::mem::take(&mut paragraph);
                    if let Some(row) = rows.last_mut() {
                        push_words(row, &done.text);
                        continue;
                    }
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
    rows.iter().for_each(|row| builder.block(row));
    builder.block(&paragraph.text);
    let title = title.or_else(|| builder.first_heading());
    builder.finish(title)
}

/// Adds the words of a paragraph to a row of a table, in which only cells are divided otherwise.
fn push_words(row: &mut String, text: &str) {
    for word in text.split_whitespace() {
        if !row.is_empty() && !row.ends_with([' ', CELL]) {
            row.push(' ');
        }
        row.push_str(word);
    }
}

/// A fallback says again what the alternative before it says, `tabs` are the places of tab stops, and `pPrChange` has
/// the properties that a paragraph had before a tracked change.
fn is_passed_over(name: &str) -> bool {
    matches!(name, "Fallback" | "tabs" | "pPrChange")
}

fn mark(element: &BytesStart<'_>, styles: &Styles, paragraph: &mut Paragraph) {
    match element.local_name().as_ref() {
        "tab" => paragraph.text.push('\t'),
        "br" | "cr" => paragraph.text.push('\n'),
        "noBreakHyphen" => paragraph.text.push('-'),
        "pStyle" => {
            let style = value(element);
            paragraph.is_title = styles.is_title(&style);
            paragraph.level = styles.level(&style);
        }
        "outlineLvl" => {
            let outline = value(element).parse::<u8>().ok().filter(|outline| *outline < BODY);
            paragraph.level = paragraph.level.or(outline.map(|outline| outline + 1));
        }
        _ => {}
    }
}

fn value(element: &BytesStart<'_>) -> String {
    attribute(element, "val")
}

/// An attribute in lower case; empty where there is none.
fn attribute(element: &BytesStart<'_>, name: &str) -> String {
    let found =
        element.attributes().with_checks(false).flatten().find(|a| a.key.local_name().as_ref() == name);
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

    #[test]
    fn rows_of_tables_are_blocks_of_cells() {
        let cell = |text: &str| format!("<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>");
        let row = |cells: &[&str]| {
            format!("<w:tr>{}</w:tr>", cells.iter().map(|text| cell(text)).collect::<String>())
        };
        let inner = format!("<w:tc><w:tbl>{}</w:tbl></w:tc>", row(&["a", "b"]));
        let body = format!(
            "<w:tbl>{}{}<w:tr>{}{inner}</w:tr></w:tbl><w:p><w:r><w:t>after</w:t></w:r></w:p>",
            row(&["Model", "Price"]),
            row(&["EM-940", "1,250  euros"]),
            cell("x"),
        );
        let found = extract(&docx(&body)).unwrap();
        assert_eq!(found.text, "Model\tPrice\n\nEM-940\t1,250 euros\n\nx\ta b\n\nafter");
    }

    fn docx(body: &str) -> Vec<u8> {
        docx_with(body, None)
    }

    fn docx_with(body: &str, styles: Option<&str>) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("word/document.xml", zip::write::SimpleFileOptions::default()).unwrap();
        write!(
            writer,
            r#"<?xml version="1.0"?><w:document xmlns:w="w"><w:body>{body}</w:body></w:document>"#
        )
        .unwrap();
        if let Some(styles) = styles {
            writer.start_file("word/styles.xml", zip::write::SimpleFileOptions::default()).unwrap();
            write!(writer, r#"<?xml version="1.0"?><w:styles xmlns:w="w">{styles}</w:styles>"#).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn styled(style: &str, text: &str) -> String {
        let properties = format!(r#"<w:pPr><w:pStyle w:val="{style}"/></w:pPr>"#);
        format!("<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>")
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
    fn styles_are_known_by_their_names_in_all_languages() {
        let styles = r#"
            <w:style w:type="paragraph" w:default="1" w:styleId="Standard"><w:name w:val="Normal"/></w:style>
            <w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/>
                <w:basedOn w:val="Standard"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style>
            <w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>
            <w:style w:type="paragraph" w:styleId="Anhang"><w:name w:val="Anhang"/>
                <w:basedOn w:val="berschrift1"/></w:style>
            <w:style w:type="paragraph" w:styleId="Punkt"><w:name w:val="Punkt"/>
                <w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
            <w:style w:type="paragraph" w:styleId="Inhalt"><w:name w:val="TOC Heading"/>
                <w:basedOn w:val="berschrift1"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style>
            <w:style w:type="paragraph" w:styleId="Kreis"><w:name w:val="Kreis"/><w:basedOn w:val="Kreis"/>
            </w:style>"#;
        let paragraphs = [
            ("Titel", "Der Hafen"),
            ("berschrift1", "Lage"),
            ("Punkt", "Norden"),
            ("Inhalt", "Inhalt"),
            ("Kreis", "Text"),
            ("Anhang", "Karten"),
            ("Heading2", "Seekarten"),
        ];
        let body: String = paragraphs.iter().map(|(style, text)| styled(style, text)).collect();
        let found = extract(&docx_with(&body, Some(styles))).unwrap();
        assert_eq!(found.title.as_deref(), Some("Der Hafen"));
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join(" / ")).collect();
        assert_eq!(paths, ["", "Lage", "Lage / Norden", "Karten", "Karten / Seekarten"]);
        // What stands before the break counts.
        let broken = extract(&docx_with(&body, Some(&format!("{styles}<w:style></w:name>")))).unwrap();
        assert_eq!(broken, found);
    }

    #[test]
    fn tab_stops_are_no_tabs_and_old_properties_no_properties() {
        let found = extract(&docx(
            r#"<w:p><w:pPr><w:tabs><w:tab w:val="left" w:pos="720"/><w:tab w:val="clear" w:pos="9"/></w:tabs></w:pPr>
            <w:r><w:t>a</w:t><w:tab/><w:t>b</w:t></w:r></w:p>
            <w:p><w:pPr><w:pStyle w:val="Heading1"/><w:pPrChange w:id="1"><w:pPr><w:pStyle w:val="Heading3"/>
            <w:outlineLvl w:val="4"/></w:pPr></w:pPrChange></w:pPr><w:r><w:t>Top</w:t></w:r></w:p>
            <w:p><w:pPr><w:pPrChange w:id="2"><w:pPr><w:pStyle w:val="Heading2"/></w:pPr></w:pPrChange></w:pPr>
            <w:r><w:t>text</w:t></w:r></w:p><w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Sub</w:t></w:r></w:p>"#,
        ))
        .unwrap();
        assert_eq!(found.text, "a\tb\n\nTop\n\ntext\n\nSub");
        let paths: Vec<_> = found.sections.iter().map(|s| s.headings.join(" / ")).collect();
        assert_eq!(paths, ["", "Top", "Top / Sub"]);
    }

    #[test]
    fn inflation_is_limited() {
        let bomb = docx(&" ".repeat(1 << 20));
        assert!(bomb.len() < 10_000);
        assert_eq!(read(&bomb, 100_000).unwrap_err().reason, "DOCUMENT_TOO_LARGE");
        assert_eq!(read(&docx("<w:p>"), 100_000).unwrap_err().reason, "BROKEN_DOCUMENT");
    }
}
