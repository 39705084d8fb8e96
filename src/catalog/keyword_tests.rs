use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use super::{Keywords, Wake};
use crate::domain::{Language, MetadataValue, Span};
use crate::error::Result;
use crate::store::{
    CollectionRecord, CommitListener, Committed, DocumentRecord, DocumentUpdate, LANGUAGE_KEY, NewDocument,
    NewPassage, Store, StoreOptions,
};

struct Follower(Arc<Keywords>);

impl CommitListener for Follower {
    fn committed(&self, event: &Committed) -> Result<()> {
        self.0.apply(event);
        Ok(())
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    cid: u32,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { cache_bytes: 16 << 20, queue: 64, ..StoreOptions::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let record = CollectionRecord { name: "a".to_owned(), dimensions: 2, ..CollectionRecord::default() };
        let cid = store.create_collection(record).unwrap().cid;
        Self { dir, store, cid }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("keywords").join("1")
    }

    /// Opens the index and lets it follow the store; there is no thread to rebuild it.
    fn open(&self) -> Arc<Keywords> {
        self.open_with(mpsc::channel().0)
    }

    fn open_with(&self, wakes: mpsc::Sender<Wake>) -> Arc<Keywords> {
        let keywords = Arc::new(Keywords::new(self.cid, self.path(), Language::English, wakes));
        self.store.set_listener(Arc::new(Follower(keywords.clone())));
        keywords
    }

    async fn put(&self, id: &str, text: &str) -> DocumentRecord {
        self.put_passages(id, text, 1).await
    }

    /// Puts a document whose first passage is all of its text, and the others its end.
    async fn put_passages(&self, id: &str, text: &str, count: u32) -> DocumentRecord {
        let end = text.len() as u32;
        let passage = |at: u32| NewPassage {
            span: Span::new(if at == 0 { 0 } else { end - 1 }, end),
            vector: vec![1.0, 0.0],
            ..NewPassage::default()
        };
        let document = NewDocument {
            id: id.to_owned(),
            text: text.to_owned(),
            passages: (0..count).map(passage).collect(),
            ..NewDocument::default()
        };
        self.store.upsert(self.cid, document).await.unwrap()
    }

    async fn delete(&self, id: &str) {
        self.store.delete_documents(self.cid, vec![id.to_owned()]).await.unwrap();
    }

    fn found(&self, keywords: &Keywords, text: &str) -> Vec<u32> {
        let found = keywords.search(&self.store, text, 100, None).unwrap();
        let mut numbers: Vec<u32> = found.matches.iter().map(|m| m.doc_no).collect();
        numbers.sort_unstable();
        numbers
    }
}

#[tokio::test]
async fn each_write_is_seen_by_the_next_search() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    assert!(fixture.found(&keywords, "ship").is_empty());
    fixture.put("a", "ships at sea").await;
    assert_eq!(fixture.found(&keywords, "ship"), [0]);
    fixture.put("b", "a ship in port").await;
    fixture.put("a", "trains on rails").await;
    assert_eq!(fixture.found(&keywords, "ship"), [1]);
    assert_eq!(fixture.found(&keywords, "rail"), [2]);
    fixture.delete("b").await;
    assert!(fixture.found(&keywords, "ship").is_empty());
    while keywords.maintain(&fixture.store, false).0 {}
    fixture.put("c", "ships again").await;
    assert_eq!(keywords.maintain(&fixture.store, true), (true, true));
    assert_eq!(fixture.found(&keywords, "ship"), [3]);
    assert_eq!(keywords.documents(&fixture.store), [2, 3]);
}

#[tokio::test]
async fn what_was_not_written_before_the_end_is_caught_up() {
    let fixture = Fixture::new();
    {
        let keywords = fixture.open();
        for i in 0..10 {
            fixture.put(&format!("d{i}"), "ships at sea").await;
        }
        assert_eq!(fixture.found(&keywords, "ship").len(), 10);
        // None of this is searched for or written.
        fixture.put("d10", "ships at sea").await;
        fixture.put("d0", "trains on rails").await;
        fixture.delete("d1").await;
    }
    let keywords = fixture.open();
    fixture.put("d11", "ships at sea").await;
    assert_eq!(fixture.found(&keywords, "ship"), [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]);
    assert_eq!(fixture.found(&keywords, "train"), [11]);
}

#[tokio::test]
async fn a_damaged_or_missing_index_is_rebuilt_from_the_store() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    for i in 0..5 {
        fixture.put(&format!("d{i}"), "ships at sea").await;
    }
    assert_eq!(fixture.found(&keywords, "ship").len(), 5);
    drop(keywords);
    drop(fixture.open());
    for entry in std::fs::read_dir(fixture.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "idx") {
            std::fs::write(path, b"garbage").unwrap();
        }
    }
    let keywords = fixture.open();
    assert_eq!(fixture.found(&keywords, "ship").len(), 5);
    drop(keywords);
    drop(fixture.open());
    std::fs::remove_dir_all(fixture.path()).unwrap();
    assert_eq!(fixture.found(&fixture.open(), "ship").len(), 5);
}

#[tokio::test]
async fn an_index_that_cannot_be_written_says_so_and_comes_back() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    // A file stands where the directory should be.
    std::fs::create_dir_all(fixture.path().parent().unwrap()).unwrap();
    std::fs::write(fixture.path(), b"").unwrap();
    fixture.put("a", "ships at sea").await;
    let error = keywords.search(&fixture.store, "ship", 10, None).unwrap_err();
    assert_eq!(error.reason, "KEYWORDS_FAILED");
    std::fs::remove_file(fixture.path()).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while keywords.search(&fixture.store, "ship", 10, None).is_err() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(fixture.found(&keywords, "ship"), [0]);
}

#[tokio::test]
async fn the_files_go_with_a_deleted_collection() {
    let fixture = Fixture::new();
    let keywords = Keywords::new(fixture.cid, fixture.path(), Language::English, mpsc::channel().0);
    fixture.put("a", "ships at sea").await;
    assert_eq!(fixture.found(&keywords, "ship"), [0]);
    assert!(fixture.path().is_dir());
    keywords.delete();
    drop(keywords);
    assert!(!fixture.path().exists());
}

#[tokio::test]
async fn a_new_title_is_found_and_the_old_one_is_not_even_after_a_restart() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    let record = fixture.put("a", "waves and wind").await;
    let retitle = async |doc_no, title: &str| {
        let title = title.to_owned();
        let update = DocumentUpdate { id: "a".to_owned(), doc_no, title, ..DocumentUpdate::default() };
        fixture.store.update_document(fixture.cid, update).await.unwrap().unwrap();
    };
    retitle(record.doc_no, "The lighthouse").await;
    assert_eq!(fixture.found(&keywords, "lighthouse"), [record.doc_no]);
    assert!(fixture.store.retitled(fixture.cid).unwrap().is_empty());
    retitle(record.doc_no, "The harbour").await;
    // What waits is lost; the store still tells whose title is new.
    drop(keywords);
    let keywords = fixture.open();
    assert_eq!(fixture.store.retitled(fixture.cid).unwrap().len(), 1);
    assert!(fixture.found(&keywords, "lighthouse").is_empty());
    assert_eq!(fixture.found(&keywords, "harbours"), [record.doc_no]);
    assert!(fixture.store.retitled(fixture.cid).unwrap().is_empty());
    retitle(record.doc_no, "The pier").await;
    fixture.delete("a").await;
    assert!(fixture.store.retitled(fixture.cid).unwrap().is_empty());
    assert!(fixture.found(&keywords, "pier").is_empty());
}

#[tokio::test]
async fn another_language_makes_the_index_anew() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    fixture.put("a", "Die Häuser am Hafen").await;
    assert!(fixture.found(&keywords, "Haus").is_empty());
    keywords.set_language(Language::German);
    assert_eq!(fixture.found(&keywords, "das Haus"), [0]);
    fixture.put("b", "Ein Haus").await;
    assert_eq!(fixture.found(&keywords, "Häuser"), [0, 1]);
}

#[tokio::test]
async fn a_rebuild_is_left_to_the_thread_and_nobody_waits_for_it() {
    let fixture = Fixture::new();
    let (wakes, woken) = mpsc::channel();
    let keywords = fixture.open_with(wakes);
    for id in ["a", "b", "c"] {
        fixture.put_passages(id, "ships at sea", 2000).await;
    }
    let reason = || keywords.search(&fixture.store, "ship", 10, None).unwrap_err().reason;
    let asked = || woken.try_iter().collect::<Vec<_>>();
    assert_eq!(reason(), "KEYWORDS_NOT_READY");
    assert_eq!(asked(), [Wake::Rebuild]);
    fixture.put("d", "a ship in port").await;
    assert_eq!(reason(), "KEYWORDS_NOT_READY");
    assert!(asked().is_empty(), "it is known that the thread will do it");
    assert_eq!(keywords.compact(&fixture.store, &|| true).unwrap_err().reason, "CANCELLED");
    while keywords.maintain(&fixture.store, false).0 {}
    assert_eq!(fixture.found(&keywords, "ship"), [0, 1, 2, 3]);
    fixture.put("e", "ships again").await;
    assert_eq!(fixture.found(&keywords, "ship"), [0, 1, 2, 3, 4]);

    keywords.set_language(Language::German);
    assert_eq!(reason(), "KEYWORDS_NOT_READY");
    keywords.set_language(Language::English);
    while keywords.maintain(&fixture.store, false).0 {}
    assert_eq!(fixture.found(&keywords, "ship"), [0, 1, 2, 3, 4]);
    drop(woken);
    keywords.set_language(Language::None);
    assert_eq!(fixture.found(&keywords, "ships"), [0, 1, 2, 4], "without the thread a search does it");
}

#[tokio::test]
async fn only_what_was_lost_is_told_of() {
    let fixture = Fixture::new();
    let logged = |keywords: &Keywords, expected: &[u32]| {
        let path = fixture.dir.path().join("log");
        let log = Arc::new(std::fs::File::create(&path).unwrap());
        let subscriber = tracing_subscriber::fmt().with_writer(log).finish();
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(fixture.found(keywords, "ship"), expected);
        });
        std::fs::read_to_string(path).unwrap()
    };
    let keywords = fixture.open();
    fixture.put("a", "ships at sea").await;
    assert_eq!(logged(&keywords, &[0]), "");
    drop(keywords);
    // A write that no search and no round of upkeep takes over.
    fixture.put("b", "ships at sea").await;
    let keywords = fixture.open();
    fixture.put("c", "ships at sea").await;
    let log = logged(&keywords, &[0, 1, 2]);
    assert!(log.contains("brought to what the store holds"), "{log}");
}

#[tokio::test]
async fn compaction_leaves_one_segment_and_no_file_of_others() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    for i in 0..5 {
        fixture.put(&format!("d{i}"), "ships at sea").await;
        assert_eq!(fixture.found(&keywords, "ship").len(), i + 1);
    }
    fixture.delete("d0").await;
    let files = || std::fs::read_dir(fixture.path()).unwrap().count();
    let before = files();
    keywords.compact(&fixture.store, &|| false).unwrap();
    assert_eq!(fixture.found(&keywords, "ship"), [1, 2, 3, 4]);
    assert_eq!(keywords.segments(), 1);
    assert!(files() < before / 2, "{} of {before}", files());
    keywords.compact(&fixture.store, &|| false).unwrap();
    assert_eq!(fixture.found(&keywords, "ship"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_index_of_the_version_before_is_made_anew_by_itself() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    fixture.put("a", "The EM940-SK22 of the ships").await;
    // It holds an entry for a document of the same number.
    let old = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/keywords-format-3");
    std::fs::create_dir_all(fixture.path()).unwrap();
    for file in std::fs::read_dir(old).unwrap().map(|file| file.unwrap()) {
        std::fs::copy(file.path(), fixture.path().join(file.file_name())).unwrap();
    }
    assert_eq!(fixture.found(&keywords, "EM940SK22"), [0]);
    assert!(fixture.found(&keywords, "entry").is_empty());
}

#[tokio::test]
async fn a_document_that_names_its_language_is_found_by_its_words() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    let record = fixture.put("a", "Die Häuser am Hafen").await;
    assert!(fixture.found(&keywords, "Haus").is_empty());
    let name = async |language: &str| {
        let metadata = [(LANGUAGE_KEY.to_owned(), MetadataValue::String(language.to_owned()))].into();
        let update = DocumentUpdate {
            id: "a".to_owned(),
            doc_no: record.doc_no,
            metadata,
            ..DocumentUpdate::default()
        };
        fixture.store.update_document(fixture.cid, update).await.unwrap().unwrap();
    };
    name("de").await;
    assert_eq!(fixture.found(&keywords, "Haus"), [0]);
    assert!(fixture.store.retitled(fixture.cid).unwrap().is_empty());
    name("klingon").await;
    assert!(fixture.found(&keywords, "Haus").is_empty(), "what is no language counts for nothing");
}

#[tokio::test]
async fn the_language_of_each_document_is_told_where_the_collection_leaves_it_open() {
    let fixture = Fixture::new();
    let keywords = fixture.open();
    keywords.set_language(Language::Auto);
    fixture.put("a", "Die Versicherungen gelten für alle Häuser am Hafen, und die Lotsen wissen es.").await;
    fixture.put("b", "The keepers of the lighthouses counted all the ships that were passing by.").await;
    assert_eq!(fixture.found(&keywords, "Haus"), [0]);
    assert_eq!(fixture.found(&keywords, "Versicherung"), [0]);
    assert_eq!(fixture.found(&keywords, "lighthouse ship"), [1]);
}
