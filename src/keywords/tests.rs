use std::time::{Duration, Instant};

use roaring::RoaringBitmap;

use super::{KeywordIndex, KeywordPassage, Upkeep};

fn passage(point: u64, text: &str) -> KeywordPassage {
    KeywordPassage { point, text: text.to_owned(), headings: vec!["Notes".to_owned(), "Harbour".to_owned()] }
}

fn points(index: &KeywordIndex, text: &str) -> Vec<u64> {
    let found = index.reader().search(text, 10, None).unwrap();
    found.matches.iter().map(|m| m.point).collect()
}

#[test]
fn passages_are_found_by_their_words_and_gone_when_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path).unwrap();
    index.add(0, &[passage(0, "Lighthouses warn ships."), passage(1, "The error was ERR_4711.")]).unwrap();
    index.add(1, &[passage(2, "A ship has sails. Ships have ropes.")]).unwrap();
    assert!(points(&index, "ship").is_empty(), "nothing is there before the commit");
    index.commit().unwrap();
    assert_eq!(points(&index, "shipping"), [2, 0]);
    assert_eq!(points(&index, "what is err_4711?"), [1]);
    assert_eq!(points(&index, "harbours").len(), 3, "headings are searched");
    assert!(points(&index, "the of").is_empty() && points(&index, "zebra").is_empty());

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
    let index = KeywordIndex::open(&path).unwrap();
    assert_eq!(points(&index, "ship"), [0]);
    assert_eq!(index.documents().unwrap(), RoaringBitmap::from_iter([0]));
}

#[test]
fn a_commit_that_a_crash_cut_off_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path).unwrap();
    index.add(0, &[passage(0, "Lighthouses warn ships.")]).unwrap();
    index.add(1, &[passage(1, "A ship has sails.")]).unwrap();
    index.commit().unwrap();
    let before = std::fs::read(path.join("meta.json")).unwrap();
    index.remove(1).unwrap();
    index.commit().unwrap();
    drop(index);
    // The file that says what counts was not written; the file of the deletion was.
    std::fs::write(path.join("meta.json"), before).unwrap();
    let mut index = KeywordIndex::open(&path).unwrap();
    assert_eq!(points(&index, "ship").len(), 2);
    index.remove(1).unwrap();
    index.commit().unwrap();
    assert_eq!(points(&index, "ship"), [0]);
}

#[test]
fn a_damaged_index_and_one_of_another_version_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let mut index = KeywordIndex::open(&path).unwrap();
    index.add(0, &[passage(0, "Lighthouses warn ships.")]).unwrap();
    index.commit().unwrap();
    drop(index);
    let refused = |what: &str| {
        let error = KeywordIndex::open(&path).map(drop).unwrap_err();
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
    KeywordIndex::open(&path).unwrap();
    let meta = path.join("meta.json");
    let text = std::fs::read_to_string(&meta).unwrap();
    std::fs::write(&meta, text.replace("trove keywords", "other keywords")).unwrap();
    refused("another version");
    std::fs::write(&meta, "{").unwrap();
    refused("a description cut short");
    let index = KeywordIndex::create(&path).unwrap();
    assert!(index.documents().unwrap().is_empty());
}

#[test]
fn merges_keep_few_segments_and_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = KeywordIndex::open(&dir.path().join("1")).unwrap();
    for doc_no in 0..20u32 {
        index.add(doc_no, &[passage(u64::from(doc_no), "Lighthouses warn ships.")]).unwrap();
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
