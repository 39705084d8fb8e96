//! Files that the libraries of the world wrote: `scripts/make_format_samples.py` makes them.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{extract, kind};
use trove_core::domain::{Extracted, MetadataValue};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/formats")
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Reads a sample as what it is by its name; by its content alone it must be the same.
fn read(name: &str) -> Extracted {
    let bytes = sample(name);
    let media_type = kind::media_type_of(Path::new(name), &bytes).unwrap();
    assert_eq!(kind::media_type_of(Path::new("file"), &bytes), Some(media_type), "{name} by its content");
    let found = extract(&bytes, media_type).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(extract(&bytes, "application/octet-stream").unwrap(), found);
    for section in &found.sections {
        assert!(section.span.slice(&found.text).is_some_and(|text| !text.trim().is_empty()), "{name}");
    }
    found
}

fn paths(found: &Extracted) -> Vec<String> {
    found.sections.iter().map(|s| s.headings.join(" / ")).collect()
}

fn written_by_anna(found: &Extracted) {
    assert_eq!(found.metadata["author"], MetadataValue::String("Anna Berg".to_owned()));
    assert_eq!(found.metadata["date"], MetadataValue::Timestamp(1_709_648_521, 0));
}

#[test]
fn presentations() {
    let found = read("python-pptx.pptx");
    assert_eq!(
        found.text,
        "The new dock\n\nPlans for 2024\n\nCosts\n\nPiles are the largest part\n\nCranes come second\n\nPart\tEuros\n\nPiles\t410,000\n\nCranes\t220,000\n\n\
         Notes\n\nMention the grant of the region\n\nQuestions go to the pilot house"
    );
    assert_eq!(found.title.as_deref(), Some("Harbour plan"));
    let pages: Vec<_> = found.sections.iter().filter_map(|s| s.page).collect();
    assert_eq!(pages, [1, 2, 2, 3]);
    assert_eq!(paths(&found), ["The new dock", "Costs", "Costs / Notes", ""]);
    written_by_anna(&found);

    let found = read("odfpy.odp");
    assert_eq!(found.text, "The new dock\n\nPlans for 2024\n\nCosts\n\nPiles are the largest part");
    assert_eq!((found.sections[1].page, found.sections[1].headings[0].as_str()), (Some(2), "Costs"));
    written_by_anna(&found);
}

#[test]
fn workbooks() {
    let found = read("openpyxl.xlsx");
    assert_eq!(
        found.text,
        "Prices\n\nPumps of 2024\n\nModel\tPrice\tShare\tSince\n\nEM-940\t1,250.50 €\t25.0%\t04.11.2023\n\nEM-941\t19.90 €\t12.5%\t31.01.2024\n\n\
         Stock\tCount\n\nEM-940\t12\n\nFar\n\nfirst corner\n\nlast corner"
    );
    assert_eq!(paths(&found), ["Prices", "Far"]);
    assert_eq!(found.title.as_deref(), Some("Price list"));
    written_by_anna(&found);

    let found = read("xlsxwriter.xlsx");
    assert_eq!(found.text, "Tides\n\nPort\tHigh water\tLevel\n\nOstend\t14:22\t4.25\n\nZeebrugge\t\t5.25");

    let found = read("xlwt.xls");
    assert_eq!(
        found.text,
        "Prices\n\nModel\tPrice\tShare\tSince\n\nEM-940\t1250.5\t0.25\t2023-11-04\n\nEM-941\t19.9\t0.125\t2024-01-31\n\nTief\n\nGröße über Café"
    );

    let found = read("odfpy.ods");
    assert_eq!(found.text, "Prices\n\nModel\tPrice\n\nEM-940\t1,250.50 €");
    written_by_anna(&found);
}

#[test]
fn texts_and_books() {
    let found = read("odfpy.odt");
    assert_eq!(
        found.text,
        "Mooring\n\nBoats moor at the north quay.\n\nThe south quay is for ferries.\n\nbow line\n\nstern line\n\nFees\n\nLength\tFee\n\n12 m\t40.00 €"
    );
    assert_eq!(paths(&found), ["Mooring", "Mooring / Fees"]);
    written_by_anna(&found);

    let found = read("ebooklib.epub");
    assert_eq!(
        found.text,
        "Departure\n\nThe ferry leaves at noon.\n\nFog\n\nIn fog it waits.\n\nArrival\n\nIt arrives at dusk."
    );
    assert_eq!(paths(&found), ["Departure", "Departure / Fog", "Arrival"]);
    assert_eq!(found.title.as_deref(), Some("The ferry"));
    assert_eq!(found.metadata["author"], MetadataValue::String("Anna Berg".to_owned()));

    let found = read("nbformat.ipynb");
    assert_eq!(
        found.text,
        "Tide levels\n\nWe fit the levels of March.\n\nlevels = [3, 4]\nprint(sum(levels))\n\n7\n\nResult\n\nThe mean is 3.5 m."
    );
}

#[test]
fn mails() {
    let found = read("python.eml");
    assert_eq!(found.title.as_deref(), Some("Kräne für den Hafen"));
    assert!(found.text.contains("Der Kran am Südkai braucht neue Seile.\n\nGrüße, Jürgen"), "{}", found.text);
    assert!(found.text.contains("EM-940\t1,250.50 €") && found.text.contains("We offer 40 m of rope."));
    let subject = "Kräne für den Hafen";
    let expected = ["", "/ Preise März.xlsx / Prices", "/ notes.md / Notes", "/ Offer for ropes"];
    for path in expected.map(|path| format!("{subject} {path}").trim().to_owned()) {
        assert!(paths(&found).contains(&path), "{path} among {:?}", paths(&found));
    }
    assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
    assert!(found.warnings[0].message.contains("data.bin"));
    assert_eq!(found.metadata["date"], MetadataValue::Timestamp(1_709_648_521, 0));

    let found = read("python.mbox");
    assert_eq!(paths(&found), ["Lock times", "Lock fees"]);
    assert!(found.text.contains("\n\nFrom here the lock opens at six.\n\n"), "{}", found.text);
}

#[test]
fn files_with_a_password_are_told() {
    for media_type in [kind::XLSX, "application/octet-stream", "application/vnd.ms-excel"] {
        let error = extract(&sample("encrypted.xlsx"), media_type).unwrap_err();
        assert_eq!(error.reason, "ENCRYPTED_DOCUMENT", "{media_type}");
    }
}

/// What is written over the samples.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn changed_samples_are_read_or_refused(changes in changes(), cut in any::<prop::sample::Index>()) {
        for entry in std::fs::read_dir(folder()).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let media_type = kind::media_type_of(&path, &bytes).unwrap_or(kind::XLSX);
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = extract(&bytes, media_type);
            bytes.truncate(cut.index(bytes.len()));
            let _ = extract(&bytes, media_type);
        }
    }
}
