//! PowerPoint presentations.

use std::collections::HashMap;

use super::archive::{self, Archive};
use super::properties::Properties;
use super::slides::{Slide, push_words};
use super::xml::{self, Element, Node};
use super::{Builder, CELL, broken, tell, warning};
use trove_core::domain::Extracted;
use trove_core::error::Result;

const PRESENTATION: &str = "ppt/presentation.xml";
/// Most slides of a presentation.
const MAX_SLIDES: usize = 20_000;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    let mut archive = Archive::open(bytes)?;
    let presentation = archive.required(PRESENTATION)?;
    let links = Links::of(&mut archive, PRESENTATION)?;
    let mut slides = Vec::new();
    xml::walk(&presentation, |node| {
        if let Node::Open(element) = node
            && element.name() == "sldId"
            && let Some(slide) = element.attribute_named("r:id").and_then(|id| links.target(&id))
        {
            slides.push(slide.to_owned());
        }
        Ok(())
    })?;
    if slides.len() > MAX_SLIDES {
        return Err(broken(format!("expected at most {MAX_SLIDES} slides, got {}", slides.len())));
    }
    let mut builder = Builder::default();
    let mut warnings = Vec::new();
    for (number, name) in (1..).zip(&slides) {
        match slide(&mut archive, name) {
            Ok(slide) => slide.write(&mut builder, number),
            Err(e) if e.reason == "BROKEN_DOCUMENT" => {
                tell(&mut warnings, warning(Some(number), "SLIDE_UNREADABLE", e.message));
            }
            Err(e) => return Err(e),
        }
    }
    let properties = match archive.part("docProps/core.xml")? {
        Some(part) => Properties::of_xml(&part).unwrap_or_default(),
        None => Properties::default(),
    };
    // What PowerPoint writes where nobody gave a title.
    let title = properties.title.filter(|title| !title.trim().starts_with("PowerPoint"));
    let title = title.or_else(|| builder.first_heading());
    let found = builder.finish(title)?;
    Ok(Extracted { metadata: properties.metadata, warnings, ..found })
}

/// What a part links to, by the ids of the links: the kind of link and the part.
struct Links(HashMap<String, (String, String)>);

impl Links {
    fn of(archive: &mut Archive<'_>, part: &str) -> Result<Self> {
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let mut links = HashMap::new();
        if let Some(bytes) = archive.part(&format!("{folder}/_rels/{name}.rels"))? {
            xml::walk(&bytes, |node| {
                if let Node::Open(element) = node
                    && let (Some(id), Some(kind), Some(target)) =
                        (element.attribute("Id"), element.attribute("Type"), element.attribute("Target"))
                    && element.attribute("TargetMode").as_deref() != Some("External")
                {
                    links.insert(id, (kind, archive::resolve(part, &target)));
                }
                Ok(())
            })?;
        }
        Ok(Self(links))
    }

    fn target(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|(_, target)| target.as_str())
    }

    /// The targets of links of a kind, in the order of their names.
    fn of_kind(&self, kind: &str) -> Vec<&str> {
        let is_kind = |found: &str| found.rsplit('/').next() == Some(kind);
        let mut targets: Vec<&str> =
            self.0.values().filter(|(found, _)| is_kind(found)).map(|(_, target)| target.as_str()).collect();
        targets.sort_unstable();
        targets
    }
}

fn slide(archive: &mut Archive<'_>, name: &str) -> Result<Slide> {
    let mut reader = Reader::default();
    reader.read(&archive.required(name)?)?;
    let mut slide = reader.slide;
    let links = Links::of(archive, name)?;
    // Text in drawings stands in parts of its own.
    for part in links.of_kind("diagramData").into_iter().chain(links.of_kind("chart")) {
        if let Some(bytes) = archive.part(part)? {
            let mut reader = Reader { in_drawing: true, ..Reader::default() };
            reader.read(&bytes)?;
            slide.blocks.append(&mut reader.slide.blocks);
        }
    }
    for part in links.of_kind("notesSlide") {
        if let Some(bytes) = archive.part(part)? {
            let mut reader = Reader { notes: true, ..Reader::default() };
            reader.read(&bytes)?;
            slide.notes.append(&mut reader.slide.blocks);
        }
    }
    Ok(slide)
}

/// What a box on a slide is for.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Role {
    #[default]
    Text,
    Title,
    /// Page number, date, header and footer, and on a page of notes the picture of the slide.
    Furniture,
}

#[derive(Default)]
struct Reader {
    slide: Slide,
    /// Whether it is a page of notes.
    notes: bool,
    in_drawing: bool,
    role: Role,
    paragraph: String,
    in_text: bool,
    passed_over: usize,
    rows: Vec<String>,
    /// Labels of a chart.
    in_labels: bool,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) -> Result<()> {
        xml::walk(bytes, |node| {
            match node {
                Node::Open(element) if element.name() == "Fallback" => self.passed_over += 1,
                Node::Close("Fallback") => self.passed_over = self.passed_over.saturating_sub(1),
                _ if self.passed_over > 0 => {}
                Node::Open(element) => self.open(&element),
                Node::Close(name) => self.close(name),
                Node::Text(text) if self.in_text => self.paragraph.push_str(text),
                Node::Text(_) => {}
            }
            Ok(())
        })
    }

    fn open(&mut self, element: &Element<'_>) {
        match element.name() {
            "sp" | "graphicFrame" | "pic" => {
                // On a page of notes only the box for the text holds notes.
                self.role = if self.notes { Role::Furniture } else { Role::Text };
            }
            "ph" => {
                self.role = match element.attribute("type").as_deref() {
                    Some("title" | "ctrTitle") if !self.notes => Role::Title,
                    Some("sldNum" | "dt" | "ftr" | "hdr" | "sldImg") => Role::Furniture,
                    Some("body") => Role::Text,
                    _ if self.notes => Role::Furniture,
                    _ => Role::Text,
                }
            }
            "tr" => self.rows.push(String::new()),
            "t" => self.in_text = true,
            "strCache" if self.in_drawing => self.in_labels = true,
            "v" if self.in_labels => self.in_text = true,
            "br" => self.paragraph.push('\n'),
            // A tab stop is none, since it is in the properties under another name.
            "tab" => {}
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "strCache" => self.in_labels = false,
            "v" if self.in_labels => {
                self.in_text = false;
                self.end_paragraph();
            }
            "p" => self.end_paragraph(),
            "tc" => self.rows.last_mut().into_iter().for_each(|row| row.push(CELL)),
            "tr" => {
                if let Some(row) = self.rows.pop() {
                    self.slide.paragraph(false, row.strip_suffix(CELL).unwrap_or(&row));
                }
            }
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        match self.rows.last_mut() {
            Some(row) => push_words(row, &text),
            None if self.role == Role::Furniture || text.trim().is_empty() => {}
            None => self.slide.paragraph(self.role == Role::Title, &text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::archive::zip;

    const RELS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

    fn shape(kind: &str, text: &str) -> String {
        format!(
            "<p:sp><p:nvSpPr><p:nvPr><p:ph type=\"{kind}\"/></p:nvPr></p:nvSpPr><p:txBody>{text}</p:txBody></p:sp>"
        )
    }

    fn paragraph(text: &str) -> String {
        format!(
            "<a:p><a:pPr><a:tabLst><a:tab pos=\"1\"/></a:tabLst></a:pPr><a:r><a:t>{text}</a:t></a:r></a:p>"
        )
    }

    #[test]
    fn slides_come_in_the_order_of_the_presentation() {
        let rel = |id: &str, kind: &str, target: &str| {
            format!("<Relationship Id=\"{id}\" Type=\"{RELS}/{kind}\" Target=\"{target}\"/>")
        };
        let row = |cells: &[&str]| {
            let cells: String =
                cells.iter().map(|c| format!("<a:tc><a:txBody>{}</a:txBody></a:tc>", paragraph(c))).collect();
            format!("<a:tr>{cells}</a:tr>")
        };
        let table = format!(
            "<p:graphicFrame><a:tbl>{}{}</a:tbl></p:graphicFrame>",
            row(&["Model", "Price"]),
            row(&["EM-940", "1,250"])
        );
        let first = [
            shape("body", &(paragraph("Point one") + &paragraph("Point two"))),
            table,
            shape("title", &paragraph("Prices")),
            shape("sldNum", &paragraph("7")),
        ]
        .concat();
        let notes = shape("sldImg", &paragraph("no")) + &shape("body", &paragraph("Say thanks"));
        let bytes = zip(&[
            (PRESENTATION, "<p:p xmlns:p='p'><p:sldId id='1' r:id='b'/><p:sldId id='2' r:id='a'/></p:p>"),
            (
                "ppt/_rels/presentation.xml.rels",
                &format!(
                    "<r>{}{}</r>",
                    rel("a", "slide", "slides/slide1.xml"),
                    rel("b", "slide", "slides/slide2.xml")
                ),
            ),
            ("ppt/slides/slide1.xml", &format!("<p:sld>{first}</p:sld>")),
            (
                "ppt/slides/_rels/slide1.xml.rels",
                &format!("<r>{}</r>", rel("n", "notesSlide", "../notesSlides/n.xml")),
            ),
            ("ppt/notesSlides/n.xml", &format!("<p:notes>{notes}</p:notes>")),
            (
                "ppt/slides/slide2.xml",
                &format!("<p:sld>{}</p:sld>", shape("ctrTitle", &paragraph("Welcome"))),
            ),
        ]);
        let found = extract(&bytes).unwrap();
        assert_eq!(
            found.text,
            "Welcome\n\nPrices\n\nPoint one\n\nPoint two\n\nModel\tPrice\n\nEM-940\t1,250\n\nNotes\n\nSay thanks"
        );
        assert_eq!(found.title.as_deref(), Some("Welcome"));
        let places: Vec<_> = found.sections.iter().map(|s| (s.page, s.headings.join("/"))).collect();
        let expected = [(1, "Welcome"), (2, "Prices"), (2, "Prices/Notes")];
        assert_eq!(places, expected.map(|(page, path)| (Some(page), path.to_owned())));
    }

    #[test]
    fn a_broken_slide_is_told_and_the_others_are_read() {
        let rels = format!(
            "<r><R Id='a' Type='{RELS}/slide' Target='slides/a.xml'/><R Id='b' Type='{RELS}/slide' Target='slides/b.xml'/></r>"
        );
        let bytes = zip(&[
            (PRESENTATION, "<p><sldId r:id='a'/><sldId r:id='b'/></p>"),
            ("ppt/_rels/presentation.xml.rels", &rels),
            ("ppt/slides/a.xml", "<p:sld><a:p></p:sld>"),
            ("ppt/slides/b.xml", &format!("<p:sld>{}</p:sld>", paragraph("text"))),
        ]);
        let found = extract(&bytes).unwrap();
        assert_eq!((found.text.as_str(), found.sections[0].page), ("text", Some(2)));
        assert_eq!(
            (found.warnings[0].page, found.warnings[0].reason.as_str()),
            (Some(1), "SLIDE_UNREADABLE")
        );
    }
}
