//! Text with headings out of Word documents: the main part, and the notes, comments, boxes and margins beside it.

mod body;
mod numbering;
mod package;
mod styles;
mod xml;

use std::collections::{HashMap, HashSet};

use quick_xml::events::Event;

use super::{Builder, broken, metadata};
use body::{Block, Context, Notes};
use numbering::Numbering;
use package::{Package, Relationship};
use styles::Styles;
use trove_core::domain::{Extracted, MetadataValue, Warning};
use trove_core::error::Result;

/// Most bytes of the inflated parts that are read; far beyond any book, and a bound for zip bombs.
const MAX_INFLATED_BYTES: u64 = 128 << 20;
/// Most bytes of the inflated styles, lists or properties that are read.
const MAX_STYLES_BYTES: u64 = 8 << 20;

pub(super) fn extract(bytes: &[u8]) -> Result<Extracted> {
    read(bytes, MAX_INFLATED_BYTES)
}

fn read(bytes: &[u8], limit: u64) -> Result<Extracted> {
    let mut package = Package::open(bytes, limit)?;
    let name = package.main_part()?;
    let Some(main) = package.part(&name, limit)? else {
        return Err(broken(format!("the DOCX has no main part {name}")));
    };
    let relationships = related(&mut package, &name)?;
    let mut document = Document { package, relationships, builder: Builder::default() };
    document.describe()?;
    let styles = document.beside("styles")?.map(|part| Styles::parse(&part)).unwrap_or_default();
    let mut numbering = document.beside("numbering")?.map(|part| Numbering::parse(&part)).unwrap_or_default();
    let mut notes = document.notes(&styles)?;
    let links = document.links();
    let mut context =
        Context { styles: &styles, numbering: &mut numbering, notes: &mut notes, links: &links };
    let blocks = body::read(&main, &mut context).map_err(|e| broken(format!("the DOCX has bad XML: {e}")))?;
    let unread = notes.into_unread();
    let title = blocks.iter().find_map(|block| match block {
        Block::Title(text) if !text.trim().is_empty() => Some(text.clone()),
        _ => None,
    });
    add(&blocks, &mut document.builder);
    let title = title.or_else(|| document.builder.first_heading()).or(document.core("title")?);
    document.margins(&styles, unread)?;
    document.builder.finish(title)
}

/// What the main part refers to. Where it does not say, parts have their usual names.
fn related(package: &mut Package<'_>, name: &str) -> Result<HashMap<String, Relationship>> {
    let found = package.relationships(name)?;
    if !found.is_empty() {
        return Ok(found);
    }
    let kinds = ["styles", "numbering", "footnotes", "endnotes", "comments"];
    let folder = name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let usual = kinds.map(|kind| {
        let target = format!("{folder}{kind}.xml");
        (kind.to_owned(), Relationship { kind: kind.to_owned(), target, is_external: false })
    });
    Ok(usual.into_iter().collect())
}

fn add(blocks: &[Block], builder: &mut Builder) {
    for block in blocks {
        match block {
            Block::Heading(level, text) => builder.heading(*level, text),
            Block::Text(text) | Block::Title(text) => builder.block(text),
            Block::Table(table) => builder.table(table),
        }
    }
}

/// A document that is being read.
struct Document<'a> {
    package: Package<'a>,
    relationships: HashMap<String, Relationship>,
    builder: Builder,
}

impl Document<'_> {
    /// The names of the parts of a kind, in order.
    fn targets(&self, kind: &str) -> Vec<String> {
        let of_kind = self.relationships.values().filter(|to| to.kind == kind && !to.is_external);
        let mut names: Vec<_> = of_kind.map(|to| to.target.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The first part of a kind that says how the text is to be read. One that cannot be read is worth less than the text.
    fn beside(&mut self, kind: &str) -> Result<Option<Vec<u8>>> {
        match self.targets(kind).first() {
            Some(name) => Ok(self.package.part(name, MAX_STYLES_BYTES).unwrap_or_default()),
            None => Ok(None),
        }
    }

    /// The notes and comments, which stand behind the paragraphs that refer to them.
    fn notes(&mut self, styles: &Styles) -> Result<Notes> {
        let mut notes = Notes::default();
        for kind in ["footnotes", "endnotes", "comments"] {
            for name in self.targets(kind) {
                let Some(part) = self.part(&name)? else { continue };
                if let Err(e) = notes.add(&part, styles) {
                    self.warn_of(&name, &e);
                }
            }
        }
        Ok(notes)
    }

    /// A part of the text, or a warning where it cannot be read.
    fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let part = self.package.part(name, MAX_INFLATED_BYTES);
        match part {
            Err(e) if e.reason != "BROKEN_DOCUMENT" => Err(e),
            Err(e) => {
                self.warn_of(name, &e);
                Ok(None)
            }
            Ok(part) => Ok(part),
        }
    }

    fn warn_of(&mut self, name: &str, error: &dyn std::fmt::Display) {
        self.builder.warn(Warning {
            page: None,
            reason: "PART_UNREADABLE".to_owned(),
            message: format!("{name} cannot be read ({error}); its text is missing"),
        });
    }

    /// The addresses of links by their ids.
    fn links(&self) -> HashMap<String, String> {
        let links = self.relationships.iter().filter(|(_, to)| to.kind == "hyperlink" && to.is_external);
        links.map(|(id, to)| (id.clone(), to.target.clone())).collect()
    }

    /// Adds notes that no paragraph refers to and what stands in the margins of pages and in diagrams, each once, under no
    /// heading.
    fn margins(&mut self, styles: &Styles, notes: Vec<String>) -> Result<()> {
        let mut known = HashSet::new();
        let mut is_first = notes.is_empty();
        if !is_first {
            self.builder.end_headings(0);
        }
        notes.iter().for_each(|note| self.builder.block(note));
        for kind in ["header", "footer", "diagramData", "chart"] {
            for name in self.targets(kind) {
                let Some(part) = self.part(&name)? else { continue };
                let (mut numbering, mut notes, links) =
                    (Numbering::default(), Notes::default(), HashMap::new());
                let mut context =
                    Context { styles, numbering: &mut numbering, notes: &mut notes, links: &links };
                let blocks = match body::read(&part, &mut context) {
                    Ok(blocks) => blocks,
                    Err(e) => {
                        self.warn_of(&name, &e);
                        continue;
                    }
                };
                for block in blocks {
                    let text = block.text();
                    // A page number says nothing.
                    if !text.chars().any(char::is_alphabetic) || !known.insert(text.clone()) {
                        continue;
                    }
                    if std::mem::take(&mut is_first) {
                        self.builder.end_headings(0);
                    }
                    self.builder.block(&text);
                }
            }
        }
        Ok(())
    }

    /// A field of the document's properties.
    fn core(&mut self, field: &str) -> Result<Option<String>> {
        let Some(part) = self.package.part("docProps/core.xml", MAX_STYLES_BYTES).unwrap_or_default() else {
            return Ok(None);
        };
        let (mut is_open, mut text) = (false, String::new());
        let _ = xml::each(&part, |event| match event {
            Event::Start(e) => is_open = e.local_name().as_ref() == field,
            Event::End(_) => is_open = false,
            event if is_open => text.push_str(&xml::text_of(event)),
            _ => {}
        });
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// Keeps what the document says of itself.
    fn describe(&mut self) -> Result<()> {
        for (field, key) in [
            ("creator", "author"),
            ("subject", "subject"),
            ("description", "description"),
            ("category", "category"),
        ] {
            if let Some(text) = self.core(field)? {
                self.builder.tell(key, MetadataValue::String(text));
            }
        }
        if let Some(keywords) = self.core("keywords")? {
            let words =
                keywords.split([',', ';']).map(|word| word.trim().to_owned()).filter(|word| !word.is_empty());
            self.builder.tell("keywords", MetadataValue::StringList(words.collect()));
        }
        for key in ["created", "modified"] {
            if let Some(time) = self.core(key)?.and_then(|text| metadata::timestamp(&text)) {
                self.builder.tell(key, time);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

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

    /// A package of parts, each with its name.
    fn package(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, xml) in parts {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(xml.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn relationships(targets: &[(&str, &str)]) -> String {
        let one = |(kind, target): &(&str, &str)| {
            let mode = if target.contains("://") { r#" TargetMode="External""# } else { "" };
            format!(r#"<Relationship Id="r{kind}" Type="http://x/{kind}" Target="{target}"{mode}/>"#)
        };
        format!("<Relationships>{}</Relationships>", targets.iter().map(one).collect::<String>())
    }

    fn text(runs: &str) -> String {
        format!("<w:p>{runs}</w:p>")
    }

    fn run(text: &str) -> String {
        format!("<w:r><w:t>{text}</w:t></w:r>")
    }

    #[test]
    fn parts_are_found_by_the_relationships_of_the_package() {
        let note = |element: &str, id: u32, text: &str| {
            format!(r#"<w:{element} w:id="{id}" w:author="Ann"><w:p>{}</w:p></w:{element}>"#, run(text))
        };
        let reference = |element: &str, id: u32| format!(r#"<w:r><w:{element}Reference w:id="{id}"/></w:r>"#);
        let body = [
            text(
                &(run("Deep.")
                    + &reference("footnote", 1)
                    + &reference("endnote", 2)
                    + &reference("comment", 3)),
            ),
            text(&format!(r#"<w:hyperlink r:id="rhyperlink">{}</w:hyperlink>"#, run("Link"))),
        ];
        let bytes = package(&[
            ("_rels/.rels", &relationships(&[("officeDocument", "/doc/main2.xml")])),
            ("doc/main2.xml", &format!("<w:document><w:body>{}</w:body></w:document>", body.concat())),
            (
                "doc/_rels/main2.xml.rels",
                &relationships(&[
                    ("footnotes", "f.xml"),
                    ("endnotes", "../e.xml"),
                    ("comments", "c.xml"),
                    ("header", "h.xml"),
                    ("footer", "i.xml"),
                    ("hyperlink", "https://e.org/EM-940"),
                ]),
            ),
            (
                "doc/f.xml",
                &format!(
                    "<w:footnotes>{}{}</w:footnotes>",
                    note("footnote", 1, "Eleven."),
                    note("footnote", 7, "Lost.")
                ),
            ),
            ("e.xml", &format!("<w:endnotes>{}</w:endnotes>", note("endnote", 2, "Fourth."))),
            ("doc/c.xml", &format!("<w:comments>{}</w:comments>", note("comment", 3, "Check it."))),
            ("doc/h.xml", &format!("<w:hdr>{}</w:hdr>", text(&run("Contract 4711")))),
            ("doc/i.xml", &format!("<w:ftr>{}{}</w:ftr>", text(&run("12")), text(&run("Contract 4711")))),
            (
                "docProps/core.xml",
                "<cp:coreProperties><dc:creator>Ann</dc:creator><cp:keywords>a; b</cp:keywords><dcterms:created>1970-01-02T00:00:00Z</dcterms:created><dc:title>Depths</dc:title></cp:coreProperties>",
            ),
        ]);
        let found = extract(&bytes).unwrap();
        assert_eq!(
            found.text,
            "Deep.\n\nEleven.\n\nFourth.\n\nComment by Ann: Check it.\n\nLink\n\nhttps://e.org/EM-940\n\nLost.\n\nContract 4711"
        );
        assert_eq!((found.title.as_deref(), found.warnings.len()), (Some("Depths"), 0));
        assert_eq!(found.metadata["author"], MetadataValue::String("Ann".to_owned()));
        assert_eq!(found.metadata["created"], MetadataValue::Timestamp(86_400, 0));
    }

    #[test]
    fn a_broken_part_costs_that_part() {
        let bytes = package(&[
            ("word/document.xml", &format!("<w:document>{}</w:document>", text(&run("Text.")))),
            ("word/footnotes.xml", "<w:footnotes></w:x>"),
        ]);
        let found = extract(&bytes).unwrap();
        assert_eq!((found.text.as_str(), found.warnings[0].reason.as_str()), ("Text.", "PART_UNREADABLE"));
    }

    #[test]
    fn of_tracked_changes_the_last_state_is_read() {
        let body = [
            text(&format!("<w:moveTo>{}</w:moveTo>", run("Thirty days."))),
            text(&format!("<w:moveFrom>{}</w:moveFrom>", run("Thirty days."))),
            text(&format!(
                "{}<w:del><w:r><w:delText>5</w:delText><w:t>5</w:t></w:r></w:del><w:ins>{}</w:ins>",
                run("Fine "),
                run("7")
            )),
            text(&format!("<w:pPr><w:rPr><w:del w:id=\"1\"/></w:rPr></w:pPr>{}", run("One ")))
                + &text(&run("line.")),
            format!(
                "<w:tbl><w:tr><w:trPr><w:del/></w:trPr><w:tc>{}</w:tc></w:tr><w:tr><w:tc>{}</w:tc></w:tr></w:tbl>",
                text(&run("gone")),
                text(&run("kept"))
            ),
            text(
                "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:rPr><w:vanish w:val=\"0\"/></w:rPr><w:t>shown</w:t></w:r>",
            ),
        ];
        assert_eq!(
            extract(&docx(&body.concat())).unwrap().text,
            "Thirty days.\n\nFine 7\n\nOne line.\n\nkept\n\nshown"
        );
    }

    #[test]
    fn boxes_are_read_once_behind_their_paragraph() {
        let boxed = |text_: &str| format!("<w:txbxContent>{}</w:txbxContent>", text(&run(text_)));
        let choice = format!(
            "<w:r><mc:AlternateContent><mc:Choice>{}</mc:Choice><mc:Fallback>{}</mc:Fallback></mc:AlternateContent></w:r>",
            boxed("Beware."),
            boxed("Beware.")
        );
        let fallback = format!(
            "<w:r><mc:AlternateContent><mc:Fallback>{}</mc:Fallback></mc:AlternateContent></w:r>",
            boxed("Only.")
        );
        let picture = r#"<w:r><w:drawing><wp:docPr descr="A winch"/></w:drawing></w:r>"#;
        let heading = r#"<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>"#;
        let body = text(&[heading, &run("Swimming "), &choice, &run("beach"), &fallback, picture].concat());
        let found = extract(&docx(&body)).unwrap();
        assert_eq!(found.text, "Swimming beach\n\nBeware.\n\nOnly.\n\nA winch");
        assert_eq!(found.sections[0].headings, ["Swimming beach"]);
    }

    #[test]
    fn raised_text_stands_apart() {
        let raised = |text: &str| {
            format!(r#"<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>{text}</w:t></w:r>"#)
        };
        let body = text(
            &[run("Lindqvist"), raised("1"), raised(",2"), run(" counted 10"), raised("6"), run(" cells.")]
                .concat(),
        );
        assert_eq!(extract(&docx(&body)).unwrap().text, "Lindqvist^1,2 counted 10^6 cells.");
    }

    #[test]
    fn numbers_of_sections_are_text() {
        let numbering = r#"<w:numbering><w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:start w:val="7"/>
            <w:numFmt w:val="decimal"/><w:lvlText w:val="§ %1"/><w:pStyle w:val="Heading1"/></w:lvl></w:abstractNum>
            <w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num></w:numbering>"#;
        let styles = r#"<w:styles><w:style w:styleId="Heading1"><w:name w:val="heading 1"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style></w:styles>"#;
        let body = styled("Heading1", "Liability") + &styled("Heading1", "Costs");
        let bytes = package(&[
            ("word/document.xml", &format!("<w:document>{body}</w:document>")),
            ("word/styles.xml", styles),
            ("word/numbering.xml", numbering),
        ]);
        assert_eq!(extract(&bytes).unwrap().text, "§ 7 Liability\n\n§ 8 Costs");
    }

    #[test]
    fn merged_cells_are_in_each_row() {
        let cell =
            |merge: &str, words: &str| format!("<w:tc><w:tcPr>{merge}</w:tcPr>{}</w:tc>", text(&run(words)));
        let rows = [
            cell(r#"<w:vMerge w:val="restart"/>"#, "North") + &cell("", "11 t"),
            cell("<w:vMerge/>", "") + &cell("", "25 t"),
        ];
        let body: String = rows.iter().map(|row| format!("<w:tr>{row}</w:tr>")).collect();
        assert_eq!(
            extract(&docx(&format!("<w:tbl>{body}</w:tbl>"))).unwrap().text,
            "North\t11 t\n\nNorth\t25 t"
        );
    }

    #[test]
    fn other_containers_are_named() {
        let ole = |name: &str| {
            let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            extract(&[b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".as_slice(), &name].concat()).unwrap_err()
        };
        assert_eq!(ole("EncryptedPackage").reason, "ENCRYPTED_DOCUMENT");
        let old = ole("WordDocument");
        assert!(old.reason == "UNSUPPORTED_FORMAT" && old.message.contains(".doc"), "{old}");
    }
}
