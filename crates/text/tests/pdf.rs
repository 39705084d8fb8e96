//! What real PDF files hold comes out as readers see it. Needs the PDFium library in `TROVE_DATA_DIR`.

use std::path::{Path, PathBuf};

use trove_core::domain::Extracted;
use trove_core::error::Result;
use trove_text::extract::{extract, find_pdfium, load_pdfium};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The PDFium library; without it nothing here can be tested.
fn pdfium() -> bool {
    let data = std::env::var_os("TROVE_DATA_DIR").map_or_else(|| root().join(".trove"), PathBuf::from);
    let Some(library) = find_pdfium(&data.join("runtime/pdfium")) else {
        assert!(std::env::var_os("TROVE_DATA_DIR").is_none(), "no PDFium library in {}", data.display());
        eprintln!("skipped: no PDFium library in {}; `make models` fetches it", data.display());
        return false;
    };
    load_pdfium(&library).unwrap();
    true
}

fn read(file: &str) -> Result<Extracted> {
    let path = root().join("tests/data").join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    extract(&bytes, "application/pdf")
}

fn text(case: &str) -> String {
    read(&format!("cases/{case}")).unwrap_or_else(|e| panic!("{case}: {e}")).text
}

/// On one line.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn reasons(extracted: &Extracted) -> Vec<&str> {
    extracted.warnings.iter().map(|warning| warning.reason.as_str()).collect()
}

#[test]
fn texts_hold_what_readers_see() {
    if !pdfium() {
        return;
    }
    let cases = [
        ("P01/quote-operators.pdf", "keel bolts were replaced"),
        ("P01/quote-operators.pdf", "KB-77120"),
        ("P02/unigb-ucs2.pdf", "发动机每五百小时更换机油"),
        ("P02/unigb-ucs2.pdf", "Order 4471"),
        ("P02/sjis-90ms.pdf", "漁船の点検は毎年四月に行う"),
        ("P03/rotated-table.pdf", "Price per night eighteen euros"),
        ("P04/two-columns.pdf", "customs house and looked at the plans for the new breakwater"),
        ("P04/two-columns.pdf", "second cold store near the rail siding"),
        ("P05/filled-form.pdf", "Solveig Brandvold"),
        ("P05/filled-form.pdf", "Diesel inboard"),
        ("P06/hebrew.pdf", "הספינה עוגנת בנמל יפו"),
        ("P08/bad-startxref.pdf", "windlass motor"),
        ("P08/no-xref.pdf", "windlass motor"),
        ("P08/shifted-offsets.pdf", "windlass motor"),
        ("P11/standard-encoding.pdf", "slewing crane lifts"),
        ("P12/form-xobject.pdf", "ANCHORCHAIN"),
        ("P13/IMG_20240105_scan_003.pdf", "The horn sounds every two minutes."),
        ("P16/ligatures.pdf", "The office filed the float plan"),
        ("P16/ligatures.pdf", "Traffic is efficient"),
        ("P17/hyphens.pdf", "a breakwater of granite blocks and a navigation light"),
        ("P24/indexed-colour.pdf", "signal flag Kilo"),
        ("P25/gray-119.pdf", "lighthouse keeper"),
        ("P25/gradient.pdf", "lighthouse keeper"),
        ("P25/noise-0.pdf", "lighthouse keeper"),
        ("P25/noise-1.pdf", "lighthouse keeper"),
        ("P25/noise-2.pdf", "lighthouse keeper"),
        ("P25/noise-3.pdf", "lighthouse keeper"),
        ("P25/noise-4.pdf", "lighthouse keeper"),
        ("P25/noise-5.pdf", "lighthouse keeper"),
        ("P27/nfd.pdf", "Herr Müller prüft die Schleuse für die Flößerei"),
        ("P28/gdocs.pdf", "A heron stands in the shallows"),
        ("P31/tounicode-identity.pdf", "Wydruk pochodzi z systemu"),
        ("P34/filter-ref.pdf", "Pump test of the second"),
        ("P35/japan1-cids.pdf", "あぃい"),
        ("P38/spaced.pdf", "three months to the end of the season"),
    ];
    let missing: Vec<_> = cases
        .iter()
        .filter(|(case, words)| !flat(&text(case)).contains(words))
        .map(|(case, _)| (case, text(case)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert_eq!(text("P22/fake-bold.pdf").matches("Emergency towing gear").count(), 1);
    assert!(!text("P38/spaced.pdf").contains("\n\n"));
}

#[test]
fn titles_and_outlines_are_read() {
    if !pdfium() {
        return;
    }
    let titled = read("cases/P13/IMG_20240105_scan_003.pdf").unwrap();
    assert_eq!(titled.title.as_deref(), Some("Fog procedures of the Sund ferry"));
    let outlined = read("cases/P39/outline.pdf").unwrap();
    let headings: Vec<_> = outlined.sections.iter().map(|s| (s.page, s.headings.join(" > "))).collect();
    assert!(headings.iter().any(|(_, path)| path.split(" > ").any(|name| name == "Rigging")), "{headings:?}");
    let real = read("project-history.en.pdf").unwrap();
    assert!(real.sections.len() > 5);
    assert_eq!(real.sections[0].page, Some(1));
    for section in &real.sections {
        assert!(section.span.slice(&real.text).is_some_and(|s| !s.trim().is_empty()));
    }
    assert!(real.text.contains("Debian"));
    assert!(real.sections.iter().any(|section| !section.headings.is_empty()));
}

#[test]
fn what_is_missing_is_told() {
    if !pdfium() {
        return;
    }
    let scan = read("cases/P09/scan.pdf").unwrap_err();
    assert_eq!(scan.reason, "SCANNED_DOCUMENT");
    assert!(scan.message.contains("scan") && scan.message.contains("OCR"), "{scan}");
    let unmapped = read("cases/P19/no-tounicode.pdf").unwrap();
    assert_eq!(unmapped.text, "Page footer 12");
    assert_eq!(reasons(&unmapped), ["UNMAPPED_TEXT"]);
    assert!(unmapped.warnings[0].message.contains("cannot be read"), "{:?}", unmapped.warnings);
    let cut = read("cases/P08/no-xref.pdf").unwrap();
    assert_eq!(reasons(&cut), ["DAMAGED_FILE"]);
    assert!(read("project-history.en.pdf").unwrap().warnings.is_empty());
    assert_eq!(read("encrypted.pdf").unwrap_err().reason, "ENCRYPTED_DOCUMENT");
    assert!(read("owner-password.pdf").is_ok());
}

#[test]
#[ignore = "shows texts: cargo test -p trove-text --test pdf -- --ignored --nocapture show, with FILES"]
fn show() {
    assert!(pdfium());
    for file in std::env::var("FILES").unwrap().split_whitespace() {
        let started = std::time::Instant::now();
        let found = extract(&std::fs::read(file).unwrap(), "application/pdf");
        println!("===== {file} {:?}", started.elapsed());
        match found {
            Ok(found) => {
                println!("title {:?} warnings {:?}\n{}", found.title, found.warnings, found.text);
                let paths: Vec<_> = found.sections.iter().map(|s| (s.page, s.headings.join(" > "))).collect();
                println!("{paths:?}");
            }
            Err(e) => println!("{} {e}", e.reason),
        }
    }
}
