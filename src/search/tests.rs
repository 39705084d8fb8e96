//! Searches of a store without models: vectors are made from numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::candidates::Probe;
use super::retrieve::retrieve;
use super::vectors::unit;
use super::*;
use crate::catalog::Catalog;
use crate::domain::{CollectionName, Filter, Level, MetadataValue, Span, Test, dot};
use crate::encoder::Encoders;
use crate::error::ErrorKind;
use crate::index::IndexOptions;
use crate::store::{NewDocument, NewPassage, SnapshotName, Store, StoreOptions};

const NEVER: task::Cancelled<'static> = &|| false;

/// A vector that a number decides.
fn vector(number: u32) -> Vec<f32> {
    let component = |x: u32| ((number * 16 + x).wrapping_mul(2_654_435_761) >> 16) as f32 - 32_768.0;
    unit((0..16).map(component).collect()).unwrap()
}

/// Between two vectors, nearer to the first one.
fn near(vector: &[f32], other: &[f32]) -> Vec<f32> {
    unit(vector.iter().zip(other).map(|(a, b)| 4.0 * a + b).collect()).unwrap()
}

fn options(mode: Option<Mode>, unit: Level, fusion: Option<Fusion>) -> Options {
    Options {
        unit,
        is_last_word_prefix: false,
        keeps_repeats: true,
        mode,
        fusion,
        limit: 10,
        filter: None,
        score_threshold: None,
        ef_search: None,
        exact: false,
        max_per_document: 0,
        rerank: None,
        include_vectors: false,
        include_highlights: false,
        room: AnswerRoom::unbounded(),
    }
}

fn probe(mode: Mode, text: &str, vector: Vec<f32>) -> Probe {
    Probe {
        mode,
        fusion: Fusion::default(),
        vector: Some(vector),
        text: text.to_owned(),
        is_last_word_prefix: false,
        excluded: None,
        caller: CancellationToken::new(),
    }
}

/// A document whose passages have these vectors, and sentences with the same ones.
fn document(id: &str, sentence: &str, passages: Vec<Vec<f32>>, sentences: usize) -> NewDocument {
    let length = sentence.len() as u32;
    let passage = |(at, vector): (u32, Vec<f32>)| {
        let span = Span::new(at * length, (at + 1) * length);
        NewPassage {
            span,
            sentences: vec![span; sentences],
            sentence_vectors: vec![vector.clone(); sentences],
            vector,
            ..NewPassage::default()
        }
    };
    NewDocument {
        id: id.to_owned(),
        text: sentence.repeat(passages.len()),
        document_vector: passages[0].clone(),
        passages: (0..).zip(passages).map(passage).collect(),
        ..NewDocument::default()
    }
}

/// A store with one collection.
struct Fixture {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    catalog: Arc<Catalog>,
    record: CollectionRecord,
}

impl Fixture {
    fn new(index_sentences: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let small = StoreOptions { cache_bytes: 16 << 20, ..StoreOptions::default() };
        let store = Arc::new(Store::open(&dir.path().join("store"), small).unwrap());
        let record = CollectionRecord {
            name: "a".to_owned(),
            dimensions: 16,
            ef_search: 64,
            index_sentences,
            ..CollectionRecord::default()
        };
        let record = store.create_collection(record).unwrap();
        let catalog =
            Catalog::open(store.clone(), dir.path(), Encoders::none(), IndexOptions::default()).unwrap();
        Self { _dir: dir, store, catalog, record }
    }

    async fn add(&self, document: NewDocument) -> u32 {
        self.store.upsert(self.record.cid, document).await.unwrap().doc_no
    }

    fn reading(&self) -> crate::catalog::Reading {
        self.catalog.read(&CollectionName::new("a").unwrap()).unwrap()
    }

    fn found(&self, probe: Probe, options: &Options) -> Found {
        retrieve(&self.catalog, &self.reading(), probe, options).unwrap()
    }
}

fn numbers(found: &Found) -> Vec<u32> {
    found.hits.iter().map(|hit| hit.document.doc_no).collect()
}

#[tokio::test]
async fn a_hit_matches_the_filter_with_the_record_that_it_shows() {
    let fixture = Fixture::new(true);
    let kind = |kind: &str| [("kind".to_owned(), MetadataValue::String(kind.to_owned()))].into();
    for n in 0..30 {
        let document = document(&format!("d{n}"), "One word. ", vec![vector(n)], 1);
        fixture.add(NewDocument { metadata: kind("old"), ..document }).await;
    }
    // Described anew, and the indexes have not heard of it: as between the store's commit and theirs.
    (0..25).for_each(|n| fixture.store.describe_quietly(fixture.record.cid, &format!("d{n}"), kind("new")));
    let filter = Filter::Field("kind".to_owned(), Test::Equals(MetadataValue::String("old".to_owned())));
    for unit in [Level::Passage, Level::Sentence, Level::Document] {
        for mode in [Mode::Vector, Mode::Keyword, Mode::Hybrid] {
            if unit == Level::Sentence && mode != Mode::Vector {
                continue;
            }
            let options = Options { filter: Some(filter.clone()), ..options(Some(mode), unit, None) };
            let found = fixture.found(probe(mode, "word", vector(3)), &options);
            let mut ids: Vec<_> = found.hits.iter().map(|hit| hit.document.id.clone()).collect();
            ids.sort();
            assert_eq!(ids, ["d25", "d26", "d27", "d28", "d29"], "{unit:?} {mode:?}");
        }
    }
}

#[tokio::test]
async fn a_collection_that_is_deleted_is_read_to_the_end() {
    let fixture = Fixture::new(false);
    for n in 0..30 {
        fixture.add(document(&format!("d{n}"), "One word. ", vec![vector(n)], 1)).await;
    }
    // The keyword index is made with the first search.
    fixture
        .found(probe(Mode::Keyword, "word", vector(3)), &options(Some(Mode::Keyword), Level::Passage, None));
    let reading = fixture.reading();
    fixture.catalog.delete(&CollectionName::new("a").unwrap(), "", true).unwrap();
    for mode in [Mode::Vector, Mode::Keyword, Mode::Hybrid] {
        let options = options(Some(mode), Level::Passage, None);
        let found = retrieve(&fixture.catalog, &reading, probe(mode, "word", vector(3)), &options).unwrap();
        assert_eq!((found.hits.len(), found.damaged), (10, 0), "{mode:?}");
    }
    let page = fixture.catalog.page(&reading, None, 100, None, NEVER).unwrap();
    assert_eq!((page.documents.len(), page.is_more), (30, false));
    drop(reading);
    fixture.store.wait_for_reaper(fixture.record.cid);
}

#[test]
fn texts_are_searched_by_both_and_all_else_by_vectors() {
    let text = Query::Text("x".to_owned());
    let document = Query::Document("d".to_owned());
    let of = |query: &Query, mode, unit| mode_of(query, &options(mode, unit, None));
    assert_eq!(of(&text, None, Level::Passage).unwrap(), Mode::Hybrid);
    assert_eq!(of(&text, None, Level::Document).unwrap(), Mode::Hybrid);
    assert_eq!(of(&text, None, Level::Sentence).unwrap(), Mode::Vector);
    assert_eq!(of(&document, None, Level::Passage).unwrap(), Mode::Vector);
    assert_eq!(of(&text, Some(Mode::Keyword), Level::Passage).unwrap(), Mode::Keyword);
    for (query, unit) in [(&document, Level::Passage), (&text, Level::Sentence)] {
        let error = of(query, Some(Mode::Hybrid), unit).unwrap_err();
        assert_eq!((error.reason, error.field.as_deref()), ("BAD_SEARCH_MODE", Some("mode")));
    }
    let fusion = Some(Fusion::default());
    let error = mode_of(&text, &options(Some(Mode::Vector), Level::Passage, fusion)).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), ("BAD_FUSION", Some("fusion")));
}

#[tokio::test]
async fn hits_by_both_have_the_similarity_of_their_vectors_and_damage_counts_once() {
    let fixture = Fixture::new(false);
    for number in 0..400 {
        let text = format!("lighthouse {}", "lamp ".repeat(number as usize % 9));
        fixture.add(document(&format!("d{number}"), &text, vec![vector(number)], 0)).await;
    }
    let query = vector(1000);
    let options = Options { include_vectors: true, ..options(None, Level::Passage, None) };
    let search = || fixture.found(probe(Mode::Hybrid, "lighthouse lamp", query.clone()), &options);
    let found = search();
    assert_eq!((found.hits.len(), found.damaged, found.mode), (10, 0, Mode::Hybrid));
    for hit in &found.hits {
        let stored = hit.vector.as_ref().unwrap();
        assert_eq!(hit.vector_score, Some(dot(&query, stored)));
        assert!(hit.keyword_score.is_some());
    }
    assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score));
    // The best is a candidate by its words and by its vector.
    let best = found.hits[0].document.doc_no;
    fixture.store.damage_vector(fixture.record.cid, Level::Passage, u64::from(best));
    let without = search();
    assert_eq!((without.hits.len(), without.damaged), (10, 1));
    assert_eq!(numbers(&without)[..9], numbers(&found)[1..]);
}

#[tokio::test]
async fn sentences_like_a_document_are_those_of_others_however_many_are_its_own() {
    for index_sentences in [false, true] {
        let fixture = Fixture::new(index_sentences);
        let query = vector(1);
        let own = (0..210).map(|number| near(&query, &near(&query, &vector(number)))).collect();
        let own = fixture.add(document("own", "A lamp burns. ", own, 2)).await;
        let other = (0..3).map(|number| near(&query, &vector(500 + number))).collect();
        let other = fixture.add(document("other", "A light shines. ", other, 4)).await;
        let mut options = options(None, Level::Sentence, None);
        options.score_threshold = Some(0.5);
        let excluded = Some(candidates::Excluded { id: "own".to_owned(), doc_no: own, passages: 210 });
        let probe = Probe { excluded, ..probe(Mode::Vector, "", query) };
        let found = fixture.found(probe, &options);
        assert_eq!(numbers(&found), [other; 10], "index_sentences {index_sentences}");
    }
}

#[tokio::test]
async fn damage_hides_the_sentences_of_its_passage_alone() {
    let fixture = Fixture::new(false);
    fixture.add(document("a", "A lamp burns. ", vec![vector(1)], 2)).await;
    let whole = fixture.add(document("b", "A light shines. ", vec![vector(2)], 2)).await;
    fixture.store.damage_vector(fixture.record.cid, Level::Sentence, 0);
    let found = fixture.found(probe(Mode::Vector, "", vector(1)), &options(None, Level::Sentence, None));
    assert_eq!((numbers(&found), found.damaged), (vec![whole; 2], 1));
}

#[tokio::test]
async fn a_passage_is_found_by_its_best_sentence() {
    let fixture = Fixture::new(false);
    // Among the first thirty vectors none is nearer to this one than 0.66.
    let query = vector(1007);
    for number in 0..30 {
        fixture.add(document(&format!("d{number}"), "lighthouse", vec![vector(number)], 2)).await;
    }
    // One of its sentences is the query itself, and the whole is half about something else.
    let whole = unit(vector(7).iter().zip(&query).map(|(a, b)| a + b).collect()).unwrap();
    let mut answer = document("answer", "lighthouse", vec![whole.clone()], 2);
    answer.passages[0].sentence_vectors = vec![vector(7), query.clone()];
    let answer = fixture.add(answer).await;
    let options = Options { include_highlights: true, ..options(None, Level::Passage, None) };
    let by = |sentence_weight, method| {
        let fusion = Fusion { method, sentence_weight };
        fixture.found(Probe { fusion, ..probe(Mode::Hybrid, "lighthouse", query.clone()) }, &options)
    };
    assert_ne!(numbers(&by(0.0, FusionMethod::Adaptive))[0], answer);
    let found = by(0.5, FusionMethod::Adaptive);
    assert_eq!(numbers(&found)[0], answer);
    let hit = &found.hits[0];
    assert!((hit.sentence_score.unwrap() - 1.0).abs() < 1e-3, "kept in half precision");
    assert_eq!(hit.highlights[0].1, hit.sentence_score.unwrap());
    assert_eq!(hit.vector_score, Some(dot(&query, &whole)));
    assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score));
    // Where sentences do not count their scores are not told, and they are marked all the same.
    for (weight, method) in [(0.0, FusionMethod::Adaptive), (0.5, FusionMethod::ReciprocalRank { k: 60 })] {
        let found = by(weight, method);
        assert!(found.hits.iter().all(|hit| hit.sentence_score.is_none() && hit.highlights.len() == 2));
    }
    // A passage whose sentences are damaged is left out, and counted.
    fixture.store.damage_vector(fixture.record.cid, Level::Sentence, u64::from(answer));
    let without = by(0.5, FusionMethod::Adaptive);
    assert_eq!((without.hits.len(), without.damaged), (10, 1));
    assert!(!numbers(&without).contains(&answer));
}

#[tokio::test]
async fn a_limit_for_each_document_ends_where_all_have_given_theirs() {
    let fixture = Fixture::new(false);
    for number in 0..3 {
        let passages = (0..100).map(|at| vector(number * 100 + at)).collect();
        fixture.add(document(&format!("d{number}"), "A lamp burns. ", passages, 0)).await;
    }
    let options = Options { max_per_document: 1, ..options(None, Level::Passage, None) };
    let found = fixture.found(probe(Mode::Vector, "", vector(7)), &options);
    let mut documents = numbers(&found);
    documents.sort_unstable();
    assert_eq!(documents, [0, 1, 2]);
    // The best of each, by their exact scores.
    let of =
        |number: u32| (0..100).map(|at| dot(&vector(7), &vector(number * 100 + at))).fold(-1.0, f32::max);
    for hit in &found.hits {
        assert_eq!(hit.score, of(hit.document.doc_no));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_find_as_much_while_their_collection_is_restored() {
    let fixture = Fixture::new(false);
    for number in 0..300 {
        fixture.add(document(&format!("d{number}"), "A lamp burns. ", vec![vector(number)], 0)).await;
    }
    let snapshot = SnapshotName::new("s").unwrap();
    fixture.store.create_snapshot(&snapshot, &[], false, NEVER).unwrap();
    let search =
        Arc::new(Search::new(fixture.catalog.clone(), Encoders::none(), CrossEncoders::new(Vec::new())));
    let is_over = Arc::new(AtomicBool::new(false));
    let searches = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            let name = CollectionName::new("a").unwrap();
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                let options = options(None, Level::Passage, None);
                let found = search.search(&name, Query::Vector(vector(7)), &options).await.unwrap();
                assert_eq!(found.hits.len(), 10);
                count += 1;
            }
            count
        }
    });
    for _ in 0..5 {
        let (catalog, snapshot) = (fixture.catalog.clone(), snapshot.clone());
        tokio::task::spawn_blocking(move || catalog.restore(&snapshot, &[], NEVER).unwrap()).await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(searches.await.unwrap() > 0);
}

#[test]
fn a_search_ends_when_its_caller_leaves() {
    let caller = CancellationToken::new();
    let probe = Probe { caller: caller.clone(), ..probe(Mode::Hybrid, "", Vec::new()) };
    assert!(probe.check_caller().is_ok());
    drop(caller.drop_guard());
    assert_eq!(probe.check_caller().unwrap_err().kind, ErrorKind::Cancelled);
}

#[tokio::test]
async fn copies_are_one_hit_with_its_other_places() {
    let fixture = Fixture::new(false);
    let query = vector(5000);
    // Most copies are nearer than what else there is, and more than a search looks at first.
    for number in 0..150 {
        let spaces = if number % 2 == 0 { "The spare key is here.\n" } else { "The  spare key is here. " };
        fixture.add(document(&format!("copy{number}"), spaces, vec![near(&query, &vector(number))], 1)).await;
    }
    let others = ["Where the key of the house is.", "The key of another house."];
    for (number, text) in (200..).zip(others) {
        fixture.add(document(&format!("other{number}"), text, vec![vector(number)], 1)).await;
    }
    let all = Options { keeps_repeats: false, limit: 3, ..options(None, Level::Passage, None) };
    for mode in [Mode::Vector, Mode::Keyword, Mode::Hybrid] {
        let found = fixture.found(probe(mode, "spare key", query.clone()), &all);
        let texts: Vec<&str> = found.hits.iter().map(|hit| hit.text.trim()).collect();
        assert_eq!(texts.len(), 3, "{mode:?} {texts:?}");
        assert!(texts[0].starts_with("The") && others.iter().all(|other| texts.contains(other)), "{texts:?}");
        let first = &found.hits[0];
        assert_eq!((first.repeat_count, first.repeats.len()), (149, MOST_REPEATS), "{mode:?}");
        assert!(
            first
                .repeats
                .iter()
                .all(|place| place.document_id != first.document.id && !place.span.is_empty())
        );
        assert!(found.hits[1].repeats.is_empty());
    }
    let kept = Options { keeps_repeats: true, ..all.clone() };
    let found = fixture.found(probe(Mode::Vector, "", query.clone()), &kept);
    let copies = found.hits.iter().filter(|hit| hit.text.contains("spare")).count();
    assert!(copies >= 2 && found.hits.iter().all(|hit| hit.repeats.is_empty()), "{copies} copies");
    let sentences = Options { unit: Level::Sentence, limit: 3, ..all.clone() };
    let found = fixture.found(probe(Mode::Vector, "", query.clone()), &sentences);
    assert_eq!(found.hits.len(), 3);
    assert!(found.hits.iter().any(|hit| hit.repeat_count > 0));
    // Documents are hits whatever they hold.
    let documents = Options { unit: Level::Document, limit: 5, ..all };
    assert_eq!(fixture.found(probe(Mode::Vector, "", query), &documents).hits.len(), 5);
}

#[tokio::test]
async fn headings_and_running_heads_are_no_sentence_hits() {
    let fixture = Fixture::new(true);
    let text = "Harbour notes\nFuel filters\nThe filter is changed each year.\nHarbour board 1960\nThe pump is new.\n\
        Harbour board 1960\nThe rope is old.\nHarbour board 1960\n";
    let mut start = 0;
    let spans: Vec<Span> = text
        .split_inclusive('\n')
        .map(|line| {
            start += line.len() as u32;
            Span::new(start - line.len() as u32, start)
        })
        .collect();
    let passage = NewPassage {
        span: Span::new(0, text.len() as u32),
        headings: vec!["Fuel filters".to_owned()],
        sentence_vectors: (0..).zip(&spans).map(|(number, _)| vector(number)).collect(),
        sentences: spans,
        vector: vector(1),
        ..NewPassage::default()
    };
    fixture
        .add(NewDocument {
            id: "a".to_owned(),
            title: "Harbour Notes".to_owned(),
            text: text.to_owned(),
            document_vector: vector(1),
            passages: vec![passage],
            ..NewDocument::default()
        })
        .await;
    for query in [0, 1, 3] {
        let options = options(None, Level::Sentence, None);
        let found = fixture.found(probe(Mode::Vector, "", vector(query)), &options);
        let mut texts: Vec<&str> = found.hits.iter().map(|hit| hit.text.trim()).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["The filter is changed each year.", "The pump is new.", "The rope is old."]);
    }
}
