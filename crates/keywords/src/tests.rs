use std::time::{Duration, Instant};

use roaring::RoaringBitmap;

use crate::{KeywordDocument, KeywordIndex, KeywordPassage, Upkeep};
use trove_core::domain::Language;

fn passage(point: u64, text: &str) -> KeywordPassage {
    KeywordPassage { point, text: text.to_owned(), headings: vec!["Notes".to_owned(), "Harbour".to_owned()] }
}

fn document<const N: usize>(passages: [KeywordPassage; N]) -> KeywordDocument {
    KeywordDocument { passages: passages.into(), ..KeywordDocument::default() }
}

fn points(index: &KeywordIndex, text: &str) -> Vec<u64> {
    let found = index.reader().search(text, 10, None).unwrap();
    found.matches.iter().map(|m| m.point).collect()
}

#[test]
fn passages_are_found_by_their_words_and_gone_when_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path, Language::English).unwrap();
    index
        .add(0, &document([passage(0, "Lighthouses warn ships."), passage(1, "The error was ERR_4711.")]))
        .unwrap();
    index.add(1, &document([passage(2, "A ship has sails. Ships have ropes.")])).unwrap();
    assert!(points(&index, "ship").is_empty(), "nothing is there before the commit");
    index.commit().unwrap();
    assert_eq!(points(&index, "shipping"), [2, 0]);
    assert_eq!(points(&index, "what is err_4711?"), [1]);
    assert_eq!(points(&index, "harbours").len(), 3, "headings are searched");
    assert_eq!(points(&index, "the of"), [1], "a query of stop words alone finds them");
    assert!(points(&index, "of").is_empty() && points(&index, "zebra").is_empty());

    let reader = index.reader();
    let allowed = RoaringBitmap::from_iter([0]);
    let found = reader.search("ship", 10, Some(&allowed)).unwrap();
    assert_eq!(found.matches.iter().map(|m| m.doc_no).collect::<Vec<_>>(), [0]);
    assert!(found.matches[0].score > 0.0 && found.matches[0].score < found.ceiling);
    assert_eq!(reader.search("ship", 1, None).unwrap().matches.len(), 1);

    index.remove(1).unwrap();
    index.commit().unwrap();
    assert_eq!(points(&index, "ship"), [0]);
    index.close_writer();
    drop(index);
    let index = KeywordIndex::open(&path, Language::English).unwrap();
    assert_eq!(points(&index, "ship"), [0]);
    assert_eq!(index.documents().unwrap(), RoaringBitmap::from_iter([0]));
}

#[test]
fn a_commit_that_a_crash_cut_off_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path, Language::English).unwrap();
    index.add(0, &document([passage(0, "Lighthouses warn ships.")])).unwrap();
    index.add(1, &document([passage(1, "A ship has sails.")])).unwrap();
    index.commit().unwrap();
    let before = std::fs::read(path.join("meta.json")).unwrap();
    index.remove(1).unwrap();
    index.commit().unwrap();
    drop(index);
    // The file that says what counts was not written; the file of the deletion was.
    std::fs::write(path.join("meta.json"), before).unwrap();
    let mut index = KeywordIndex::open(&path, Language::English).unwrap();
    assert_eq!(points(&index, "ship").len(), 2);
    index.remove(1).unwrap();
    index.commit().unwrap();
    assert_eq!(points(&index, "ship"), [0]);
}

#[test]
fn a_damaged_index_and_one_of_another_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path, Language::English).unwrap();
    index.add(0, &document([passage(0, "Lighthouses warn ships.")])).unwrap();
    index.commit().unwrap();
    drop(index);
    let refused = |what: &str| {
        let error = KeywordIndex::open(&path, Language::English).map(drop).unwrap_err();
        assert_eq!(error.reason, "KEYWORDS_DAMAGED", "{what}");
    };
    let files = || std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let postings = files().find(|p| p.extension().is_some_and(|e| e == "idx")).unwrap();
    let good = std::fs::read(&postings).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 4] ^= 0x40;
    std::fs::write(&postings, bad).unwrap();
    refused("a flipped bit");
    std::fs::write(&postings, &good[..good.len() / 2]).unwrap();
    refused("a file cut short");
    std::fs::remove_file(&postings).unwrap();
    refused("a missing file");
    std::fs::write(&postings, &good).unwrap();
    KeywordIndex::open(&path, Language::English).unwrap();
    let meta = path.join("meta.json");
    let text = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, text.replace("trove keywords 4 english", "trove keywords 3")).unwrap();
    refused("another version");
    std::fs::write(&meta, "{").unwrap();
    refused("a description cut short");
    let index = KeywordIndex::create(&path, Language::English).unwrap();
    assert!(index.documents().unwrap().is_empty());
}

#[test]
fn merges_keep_few_segments_and_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = KeywordIndex::open(&dir.path().join("1"), Language::English).unwrap();
    for doc_no in 0..20u32 {
        index.add(doc_no, &document([passage(u64::from(doc_no), "Lighthouses warn ships.")])).unwrap();
        if doc_no % 4 == 3 {
            index.remove(doc_no).unwrap();
        }
        index.commit().unwrap();
    }
    assert!(index.segments() > 6);
    let deadline = Instant::now() + Duration::from_secs(60);
    while index.maintain().unwrap() == Upkeep::Merging {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(index.segments() < 6, "{}", index.segments());
    assert_eq!(index.documents().unwrap().len(), 15);
    let found = index.reader().search("ships", 100, None).unwrap();
    assert_eq!(found.matches.len(), 15);
    assert!(found.matches.is_sorted_by_key(|m| m.point), "equal scores go by point");
}

#[test]
fn titles_are_searched_with_every_passage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path, Language::English).unwrap();
    let titled = |title: &str, point| KeywordDocument {
        title: title.to_owned(),
        passages: vec![passage(point, "Ships at sea."), passage(point + 1, "Waves and wind.")],
        ..KeywordDocument::default()
    };
    index.add(0, &titled("", 0)).unwrap();
    index.add(1, &titled("The lighthouse", 2)).unwrap();
    index.commit().unwrap();
    assert_eq!(points(&index, "lighthouses"), [2, 3]);
    assert_eq!(points(&index, "lighthouse ships")[0], 2);
}

#[test]
fn an_index_of_another_language_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path, Language::German).unwrap();
    index.add(0, &document([passage(0, "Die Häuser am Hafen.")])).unwrap();
    index.commit().unwrap();
    assert_eq!(points(&index, "das Haus"), [0]);
    drop(index);
    let error = KeywordIndex::open(&path, Language::English).map(drop).unwrap_err();
    assert_eq!(error.reason, "KEYWORDS_DAMAGED");
    assert_eq!(points(&KeywordIndex::open(&path, Language::German).unwrap(), "Haus"), [0]);
}

#[test]
fn few_documents_are_looked_up_and_many_gone_through_with_the_same_result() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = KeywordIndex::open(&dir.path().join("1"), Language::English).unwrap();
    let words = ["ship", "sea", "sail", "rope", "harbour", "light"];
    for doc_no in 0..600u32 {
        let text = |at: u32| {
            let mut word = doc_no.wrapping_mul(2_654_435_761).wrapping_add(at * 40_503);
            let chosen = (0..8).map(|_| {
                word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                words[(word >> 16) as usize % words.len()]
            });
            chosen.collect::<Vec<_>>().join(" ")
        };
        let point = u64::from(doc_no) * 2;
        index.add(doc_no, &document([passage(point, &text(0)), passage(point + 1, &text(1))])).unwrap();
        if doc_no % 200 == 199 {
            index.commit().unwrap();
        }
    }
    index.remove(3).unwrap();
    index.commit().unwrap();
    let reader = index.reader();
    let all = reader.search("ships sailing at sea", 10_000, None).unwrap();
    for every in [1u32, 2, 50, 299, 599] {
        let allowed: RoaringBitmap = (0..600).filter(|doc_no| doc_no % every == 3 % every).collect();
        let found = reader.search("ships sailing at sea", 10_000, Some(&allowed)).unwrap();
        let mut expected = all.matches.clone();
        expected.retain(|m| allowed.contains(m.doc_no));
        assert_eq!(found.ceiling, all.ceiling);
        assert_eq!(found.matches.len(), expected.len());
        for (found, expected) in found.matches.iter().zip(&expected) {
            assert!((found.score - expected.score).abs() < 1e-4, "{found:?} {expected:?}");
        }
        let top = reader.search("ships sailing at sea", 5, Some(&allowed)).unwrap();
        let score = |m: &super::KeywordMatch| (m.score * 1e4).round();
        assert!(top.matches.iter().map(score).eq(expected.iter().take(5).map(score)));
    }
}
