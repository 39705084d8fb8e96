//! What must come out of small files of tests/data/cases, each of which stands for a kind.

use std::path::{Path, PathBuf};

use trove_core::domain::{Extracted, MetadataValue, Section};
use trove_text::extract::{extract, media_type_of};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/cases").join(file)
}

fn read(file: &str) -> Extracted {
    let bytes = std::fs::read(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let media_type = media_type_of(&path(file), &bytes).unwrap_or_else(|| panic!("{file}: no media type"));
    let found = extract(&bytes, media_type).unwrap_or_else(|e| panic!("{file}: {e}"));
    for section in &found.sections {
        let is_text = section.span.slice(&found.text).is_some_and(|text| !text.trim().is_empty());
        assert!(is_text, "{file}: a bad section");
    }
    found
}

/// That a file's text has some parts and lacks others.
fn check(file: &str, has: &[&str], lacks: &[&str]) {
    let text = read(file).text;
    has.iter().for_each(|part| assert!(text.contains(part), "{file} lacks {part:?}: {text:?}"));
    lacks.iter().for_each(|part| assert!(!text.contains(part), "{file} has {part:?}: {text:?}"));
}

fn check_title(file: &str, title: &str) {
    assert_eq!(read(file).title.as_deref(), Some(title), "{file}");
}

fn check_heading(file: &str, heading: &str) {
    let found = read(file);
    let is_it = found.sections.iter().any(|section| section.headings.iter().any(|of| of == heading));
    assert!(is_it, "{file} has no heading {heading:?}: {:?}", found.sections);
}

#[test]
fn pages_of_html() {
    check("H01/post.html", &["enemy of carvel planking"], &["Imprint"]);
    check_heading("H01/post.html", "Winter storage of wooden hulls");
    check("H02b/iso2022jp.html", &["漁港の天気"], &[]);
    check("H02b/turkish.html", &["Şişli iskelesi"], &[]);
    check("H02b/xhtml.xhtml", &["Příď lodi"], &[]);
    check("H02b/sjis.html", &["船長"], &[]);
    check("H03/hidden.html", &["opens at seven"], &["closed for ever", "opens at nine", "decorative"]);
    check("H05/form.html", &["Bergen\nStavanger\nMolde", "Crane\t11 t"], &["SearchReset"]);
    check("H07/empty-main.html", &["High water at Hull"], &[]);
    check("H07/search-main.html", &["drained in October"], &["loading"]);
    check("H09/alt.html", &["Wiring diagram of the anchor winch"], &[]);
    check_title("H10/meta.html", "Ballast water rules");
    check_title("H14/svgtitle.html", "Night watch rota");
    check("H20/ruby.html", &["灯台守は夜に働く"], &[]);
    check("H21/sup.html", &["Lindqvist^1,2", "Boer^3", "10^6"], &[" 106 "]);
}

#[test]
fn markdown_with_what_is_in_it() {
    check("M01/readme.md", &["logger for float gauges", "PX200", "Battery life\tnine months"], &[]);
    check_title("M01/readme.md", "Tidegauge");
    check("M02/table.md", &["Ines\tcook navigator medic", "First line\nsecond line"], &[]);
    check("M03/hugo.md", &["Sand with grade 240"], &["draft"]);
    check_title("M03/hugo.md", "Painting the topsides");
    check("M04/note.md", &["Aliases: Mast inspection", "cotter pin", "before the mast is stepped"], &[]);
    let tags = MetadataValue::StringList(vec!["rigging".to_owned(), "yearly".to_owned()]);
    assert_eq!(read("M04/note.md").metadata["tags"], tags);
    check("M05/page.mdx", &["Disconnect the battery", "four bolts"], &["import", "Steps"]);
    check("M06/links.md", &["https://docs.example.org/winch/EM-940/spares"], &[]);
    check_heading("M14/attr.md", "Fuel filters");
    check_heading("M16/faq.md", "Which grease is right?");
    check_heading("M16/faq.md", "Does salt water harm the winch?");
    check("T08/page.md", &["cod quota rises"], &["<p>"]);
}

#[test]
fn every_part_of_a_long_table_tells_what_its_columns_mean() {
    let found = read("M17/boats.md");
    let tells = |section: &Section| {
        let text = section.span.slice(&found.text).unwrap_or_default();
        !text.contains("Kestrel") || section.headings.last().is_some_and(|h| h.contains("Draught in metres"))
    };
    assert!(found.text.contains("Kestrel 1\t13.9\t2.0\t1995") && found.sections.iter().all(tells));
}

#[test]
fn word_documents() {
    check("D01/notes.docx", &["eleven fathoms", "fourth edition"], &[]);
    assert_eq!(read("D02/moved.docx").text.matches("Payment is due in thirty days").count(), 1);
    check("D02/moved.docx", &["fine is 750 crowns"], &[]);
    assert_eq!(read("D03/box.docx").text.matches("undertow at ebb").count(), 1);
    check_heading("D03/box.docx", "Swimming beach");
    check("D04/online.docx", &["dredger works at night"], &[]);
    check("D05/table.docx", &["EM-940\t940 kg\t1,250 euros"], &[]);
    check("D10/numbered.docx", &["§ 7 Liability"], &[]);
    check("D11/sup.docx", &["Lindqvist^1,2", "10^6"], &[]);
    let bytes = std::fs::read(path("D09/locked.docx")).unwrap();
    let media_type = media_type_of(&path("D09/locked.docx"), b"").unwrap();
    assert_eq!(extract(&bytes, media_type).unwrap_err().reason, "ENCRYPTED_DOCUMENT");
}

#[test]
fn text_of_any_encoding() {
    check("T01/u16le.txt", &["harbour ice broke"], &[]);
    check("T02/log.txt", &["operator Larsen"], &["\0"]);
    check("T03/mac.txt", &["paper\n\nFirst paragraph about cod.\n\nSecond"], &[]);
    check("T06/mixed.txt", &["Jürgen Groß", "Núñez", "one stray byte"], &[]);
    assert_eq!(read("T06/mixed.txt").warnings.len(), 1);
    check("T08/UPPER.TXT", &["Capital"], &[]);
    check("T10/man.txt", &["NAME\nerror: pump failed"], &["\u{8}", "[31m"]);
}
