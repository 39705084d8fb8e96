//! The service as its users meet it: the real program, the real model, real gRPC.

mod common;

use common::*;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::document::Content;
use trove::proto::document_service_client::DocumentServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::fusion::Method;
use trove::proto::ingest_documents_request::Part;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, DocumentStatus, SearchMode, SearchUnit};

const TEXTS: [(&str, &str); 4] = [
    ("a-cats", "Cats sleep for most of the day. They hunt mice at dusk."),
    ("b-rust", "The borrow checker refuses two mutable references. Lifetimes name how long a borrow lives."),
    ("b-sql", "An index makes a query fast. Joins combine rows of two tables."),
    ("c-bread", "Knead the dough for ten minutes. Bake the loaf until the crust is brown."),
];

#[tokio::test]
async fn documents_are_indexed_searched_replaced_and_deleted() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let documents: Vec<_> = TEXTS.iter().map(|(id, text)| text_document(id, text)).collect();
    let results = upsert(&channel, documents.clone()).await;
    assert!(results.iter().all(|r| r.status() == DocumentStatus::Indexed), "{results:?}");
    let again = upsert(&channel, documents).await;
    assert!(again.iter().all(|r| r.status() == DocumentStatus::Unchanged), "{again:?}");

    let hits = found(&channel, query("feline pets that catch rodents")).await;
    assert_eq!(ids(&hits)[0], "a-cats");
    assert_eq!(hits.len(), TEXTS.len());
    let passage = hits[0].passage.clone().unwrap();
    let best = hits[0].highlights[0].span.unwrap();
    assert_eq!(&passage.text[best.start as usize..best.end as usize], "They hunt mice at dusk.");

    let sentence =
        proto::SearchRequest { unit: SearchUnit::Sentence as i32, ..query("how to make bread brown") };
    let hits = found(&channel, sentence).await;
    assert_eq!(hits[0].passage.as_ref().unwrap().text, "Bake the loaf until the crust is brown.");
    let document = proto::SearchRequest { unit: SearchUnit::Document as i32, ..query("databases") };
    assert_eq!(ids(&found(&channel, document).await)[0], "b-sql");

    let condition = proto::FieldCondition {
        key: "kind".to_owned(),
        test: Some(proto::field_condition::Test::Equals(string("b"))),
    };
    let filter = proto::Filter { node: Some(proto::filter::Node::Field(condition)) };
    let filtered = proto::SearchRequest { filter: Some(filter.clone()), ..query("cats") };
    let hits = found(&channel, filtered).await;
    let mut kept = ids(&hits);
    kept.sort_unstable();
    assert_eq!(kept, ["b-rust", "b-sql"]);

    upsert(&channel, vec![text_document("a-cats", "Submarines dive below the sea.")]).await;
    let hits = found(&channel, query("underwater vessels")).await;
    assert_eq!(ids(&hits)[0], "a-cats");
    assert_eq!(hits.len(), TEXTS.len());

    let delete = proto::DeleteDocumentsRequest { collection: "notes".to_owned(), filter: Some(filter) };
    let mut client = DocumentServiceClient::new(channel.clone());
    assert_eq!(client.delete_documents(delete).await.unwrap().into_inner().deleted_count, 2);
    assert_eq!(found(&channel, query("cats")).await.len(), 2);
    let compact = proto::CompactCollectionRequest { name: "notes".to_owned() };
    CollectionServiceClient::new(channel.clone()).compact_collection(compact).await.unwrap();
    assert_eq!(ids(&found(&channel, query("underwater vessels")).await)[0], "a-cats");
}

/// Notes about the same thing, of which one names an error code.
fn logs() -> Vec<proto::Document> {
    let note = |n: u32| {
        format!("The nightly backup of server {n} stopped with a failure. It was started again by hand.")
    };
    let mut documents: Vec<_> = (0..12).map(|n| text_document(&format!("n{n}"), &note(n))).collect();
    let rare = "The nightly backup stopped with failure QX-4711. It was started again by hand.";
    documents.push(text_document("rare", rare));
    documents
}

async fn by(channel: &Channel, mode: SearchMode, request: proto::SearchRequest) -> Vec<proto::SearchHit> {
    let request = proto::SearchRequest { mode: mode.into(), ..request };
    let response = SearchServiceClient::new(channel.clone()).search(request).await.unwrap().into_inner();
    assert_eq!(response.mode(), mode);
    response.hits
}

#[tokio::test]
async fn words_find_what_meaning_alone_does_not() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    upsert(&channel, logs()).await;
    for unit in [SearchUnit::Passage, SearchUnit::Document] {
        let code = || proto::SearchRequest { unit: unit.into(), ..query("QX-4711") };
        let hits = by(&channel, SearchMode::Keyword, code()).await;
        assert_eq!(ids(&hits), ["rare"]);
        assert_eq!((hits[0].vector_score, hits[0].keyword_score), (None, Some(hits[0].score)));
        let hits = by(&channel, SearchMode::Hybrid, code()).await;
        assert_eq!(ids(&hits)[0], "rare");
        assert!(hits.len() == 10 && hits.iter().all(|hit| hit.vector_score.is_some()));
        assert!(hits[0].keyword_score.is_some() && hits[1].keyword_score.is_none());
        let of_passages = unit == SearchUnit::Passage;
        assert!(hits.iter().all(|hit| hit.sentence_score.is_some() == of_passages));
        let hits = by(&channel, SearchMode::Vector, code()).await;
        assert!(hits.iter().all(|hit| hit.vector_score == Some(hit.score) && hit.keyword_score.is_none()));
        assert!(hits.iter().all(|hit| hit.sentence_score.is_none()));
    }
    // A hit that only the words gave has the similarity that the vectors would give it.
    let one = proto::SearchRequest { limit: 1, include_vectors: true, ..query("QX-4711 backup") };
    let hybrid = by(&channel, SearchMode::Hybrid, one).await.remove(0);
    let all =
        by(&channel, SearchMode::Vector, proto::SearchRequest { limit: 20, ..query("QX-4711 backup") }).await;
    let same = all.iter().find(|hit| hit.passage == hybrid.passage).unwrap();
    assert!((same.score - hybrid.vector_score.unwrap()).abs() < 1e-6 && hybrid.vector.is_some());
    for method in [Method::RrfK(60), Method::Alpha(0.3)] {
        let fusion = Some(proto::Fusion { method: Some(method), sentence_weight: None });
        let hits = found(&channel, proto::SearchRequest { fusion, ..query("QX-4711") }).await;
        assert_eq!(ids(&hits)[0], "rare", "hybrid is the default");
    }

    let filter = |kind: &str| {
        let test = Some(proto::field_condition::Test::Equals(string(kind)));
        let condition = proto::FieldCondition { key: "kind".to_owned(), test };
        Some(proto::Filter { node: Some(proto::filter::Node::Field(condition)) })
    };
    for mode in [SearchMode::Keyword, SearchMode::Hybrid] {
        let request = |kind| proto::SearchRequest { filter: filter(kind), ..query("backup QX-4711") };
        assert_eq!(ids(&by(&channel, mode, request("r")).await), ["rare"]);
        let others = by(&channel, mode, request("n")).await;
        assert!(others.len() == 10 && !ids(&others).contains(&"rare"));
        let limited = proto::SearchRequest { limit: 3, max_per_document: 1, ..query("backup") };
        assert_eq!(by(&channel, mode, limited).await.len(), 3);
    }
    let strict = proto::SearchRequest { score_threshold: Some(1e6), ..query("backup") };
    assert!(by(&channel, SearchMode::Keyword, strict).await.is_empty());
    // Without a word to look up the vectors serve alone, and the answer says so.
    let response =
        SearchServiceClient::new(channel.clone()).search(query("... !")).await.unwrap().into_inner();
    assert_eq!((response.mode(), response.hits.len()), (SearchMode::Vector, 10));
    assert!(response.usage.unwrap().prompt_tokens > 0);

    // Replaced text is not found by its old words, and deleted documents by none.
    upsert(&channel, vec![text_document("rare", "Submarines dive below the sea.")]).await;
    assert!(by(&channel, SearchMode::Keyword, query("QX-4711")).await.is_empty());
    assert_eq!(ids(&by(&channel, SearchMode::Keyword, query("submarine")).await), ["rare"]);
    delete(&channel, &["rare"]).await;
    assert!(by(&channel, SearchMode::Keyword, query("submarine")).await.is_empty());
    assert!(!ids(&by(&channel, SearchMode::Hybrid, query("submarine")).await).contains(&"rare"));
}

fn titled(title: &str, kind: &str) -> proto::Document {
    proto::Document {
        title: title.to_owned(),
        source_uri: format!("file:///{kind}"),
        metadata: [("kind".to_owned(), string(kind))].into(),
        ..text_document("x", "Lighthouses warn ships of rocks.\n\nTheir lamps turn all night.")
    }
}

async fn tokens_of(channel: &Channel, request: proto::UpsertDocumentsRequest) -> (DocumentStatus, u32) {
    let response = documents(channel).upsert_documents(request).await.unwrap().into_inner();
    (response.results[0].status(), response.usage.unwrap().prompt_tokens)
}

/// Records have their titles in a field of their own, and what is asked is often there alone.
#[tokio::test]
async fn vectors_know_the_title() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let answer =
        "Click the link on the sign-in page and follow the mail that comes. It is valid for an hour. ";
    let record = |id: &str, title: &str, repeats| proto::Document {
        title: title.to_owned(),
        ..text_document(id, &answer.repeat(repeats))
    };
    // A text of many passages, whose first one is as long as the encoder takes, leaves room for its title too.
    for repeats in [1, 100] {
        let titles =
            ["How do I reset my password?", "How do I sail around the Horn?", &"Long title ".repeat(90)];
        let records = titles.iter().enumerate().map(|(at, title)| record(&at.to_string(), title, repeats));
        upsert(&channel, records.collect()).await;
        for (asked, expected) in [("I forgot my password", "0"), ("sailing round Cape Horn", "1")] {
            for unit in [SearchUnit::Passage, SearchUnit::Document] {
                let request = proto::SearchRequest { unit: unit.into(), ..query(asked) };
                let hits = by(&channel, SearchMode::Vector, request).await;
                assert_eq!(hits[0].passage.as_ref().unwrap().document_id, expected, "{asked}, {unit:?}");
            }
        }
    }
    upsert(&channel, vec![record("0", "How do I bake bread?", 1)]).await;
    let hits = by(&channel, SearchMode::Vector, query("baking a loaf")).await;
    assert_eq!(ids(&hits)[0], "0", "a new title is encoded");
}

#[tokio::test]
async fn new_metadata_is_stored_without_encoding_and_a_new_title_is_encoded() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let put = |document| tokens_of(&channel, upsert_request(vec![document]));
    let (status, encoded) = put(titled("Old", "a")).await;
    assert!(status == DocumentStatus::Indexed && encoded > 0);
    let before = get(&channel, "x").await.unwrap();
    assert!(before.extraction_version > 0);
    assert_eq!(put(titled("Old", "b")).await, (DocumentStatus::Updated, 0));
    // A title is encoded with the first passage.
    let (status, with_title) = put(titled("New", "b")).await;
    assert!(status == DocumentStatus::Indexed && with_title > 0);
    assert_eq!(put(titled("New", "b")).await, (DocumentStatus::Unchanged, 0));
    let after = get(&channel, "x").await.unwrap();
    assert_eq!(after.passages, before.passages);
    assert_eq!((after.title.as_str(), after.create_time), ("New", before.create_time));
    let hit = found(&channel, query("beacons for sailors")).await.remove(0);
    assert_eq!((hit.title.as_str(), hit.source_uri.as_str()), ("New", "file:///b"));
    assert_eq!(hit.metadata["kind"], string("b"));

    // Without a title the file's own holds again; this text has none.
    let (status, untitled) = put(titled("", "b")).await;
    assert!(status == DocumentStatus::Indexed && untitled < encoded, "{untitled} of {encoded}");
    assert_eq!(get(&channel, "x").await.unwrap().title, "");
    for (document, status) in
        [(titled("", "c"), DocumentStatus::Updated), (titled("Y", "c"), DocumentStatus::Indexed)]
    {
        let check = proto::UpsertDocumentsRequest { validate_only: true, ..upsert_request(vec![document]) };
        assert_eq!(tokens_of(&channel, check).await, (status, 0));
    }
    assert_eq!(get(&channel, "x").await.unwrap().title, "", "a check writes nothing");
    let forced = proto::UpsertDocumentsRequest { force: true, ..upsert_request(vec![titled("", "b")]) };
    assert_eq!(tokens_of(&channel, forced).await, (DocumentStatus::Indexed, untitled));

    // The same bytes as another format are other passages.
    let Some(Content::Text(text)) = titled("", "b").content else { unreachable!() };
    let markdown = proto::Document {
        content: data_document("x", text.as_bytes(), "text/markdown").content,
        mime_type: "text/markdown".to_owned(),
        ..titled("", "b")
    };
    assert_eq!(put(markdown).await.0, DocumentStatus::Indexed);

    // So are those of another chunking.
    let chunking = Some(proto::ChunkingConfig { max_tokens: 8, overlap_tokens: 0 });
    let collection = proto::Collection { name: NOTES.to_owned(), chunking, ..Default::default() };
    let mask = prost_types::FieldMask { paths: vec!["chunking".to_owned()] };
    let update = proto::UpdateCollectionRequest { collection: Some(collection), update_mask: Some(mask) };
    assert_eq!(put(titled("", "b")).await.0, DocumentStatus::Indexed);
    CollectionServiceClient::new(channel.clone()).update_collection(update).await.unwrap();
    assert_eq!(put(titled("", "b")).await.0, DocumentStatus::Indexed);
    assert_eq!(get(&channel, "x").await.unwrap().passages.len(), 2);
    assert_eq!(put(titled("", "b")).await.0, DocumentStatus::Unchanged);
}

#[tokio::test]
async fn what_a_file_says_of_itself_is_metadata_unless_the_caller_says_else() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let note = "---\ntitle: Rigging\ntags: [rigging, yearly]\nweight: 3\n---\n\nLook at every cotter pin.\n";
    let with = |metadata: &[(&str, &str)]| proto::Document {
        metadata: metadata.iter().map(|(key, value)| ((*key).to_owned(), string(value))).collect(),
        ..data_document("n", note.as_bytes(), "text/markdown")
    };
    let put = |document| tokens_of(&channel, upsert_request(vec![document]));
    assert_eq!(put(with(&[("kind", "k")])).await.0, DocumentStatus::Indexed);
    let stored = get(&channel, "n").await.unwrap();
    assert_eq!((stored.title.as_str(), &stored.metadata["kind"]), ("Rigging", &string("k")));
    assert_eq!(stored.file_metadata_keys, ["tags", "weight"]);
    let has = |tag: &str| {
        let equals = proto::field_condition::Test::Equals(string(tag));
        let condition = proto::FieldCondition { key: "tags".to_owned(), test: Some(equals) };
        let filter = Some(proto::Filter { node: Some(proto::filter::Node::Field(condition)) });
        let request = proto::SearchRequest { filter, ..query("cotter pin") };
        let channel = channel.clone();
        async move { found(&channel, request).await.len() }
    };
    assert_eq!((has("rigging").await, has("mast").await), (1, 0));
    assert_eq!(put(with(&[("kind", "k")])).await, (DocumentStatus::Unchanged, 0));

    // What the caller says wins, as long as the caller says it.
    assert_eq!(put(with(&[("tags", "mast")])).await, (DocumentStatus::Updated, 0));
    assert_eq!(get(&channel, "n").await.unwrap().file_metadata_keys, ["weight"]);
    assert_eq!((has("rigging").await, has("mast").await), (0, 1));
    assert_eq!(put(with(&[])).await, (DocumentStatus::Updated, 0));
    assert_eq!((has("rigging").await, has("mast").await), (1, 0));
    assert_eq!(put(with(&[])).await, (DocumentStatus::Unchanged, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_collection_without_an_etag_all_count() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let update = |field: &'static str, etag: &str, n: u32| {
        let collection = proto::Collection {
            name: NOTES.to_owned(),
            description: format!("description {n}"),
            hnsw: Some(proto::HnswConfig { ef_search: 100 + n, ..Default::default() }),
            chunking: Some(proto::ChunkingConfig { max_tokens: 64 + n, overlap_tokens: 0 }),
            etag: etag.to_owned(),
            ..Default::default()
        };
        let mask = prost_types::FieldMask { paths: vec![field.to_owned()] };
        let request =
            proto::UpdateCollectionRequest { collection: Some(collection), update_mask: Some(mask) };
        let mut client = CollectionServiceClient::new(channel.clone());
        async move {
            client.update_collection(request).await.map(|updated| updated.into_inner().collection.unwrap())
        }
    };
    let fields = ["description", "hnsw.ef_search", "chunking"];
    let updates = (0..30).map(|n| update(fields[n % 3], "", n as u32 / 3));
    let updated = futures::future::try_join_all(updates).await.expect("nobody named an etag");
    // Each kind of change was made ten times, and none took another one back.
    let mut last = updated.clone();
    last.sort_by_key(|collection| collection.update_time.map(|time| (time.seconds, time.nanos)));
    let last = last.pop().unwrap();
    assert!(last.description.starts_with("description "), "{last:?}");
    assert!((100..110).contains(&last.hnsw.unwrap().ef_search), "{last:?}");
    assert!((64..74).contains(&last.chunking.unwrap().max_tokens), "{last:?}");
    // An etag still tells of changes by others, and what does not fit is refused.
    let stale = updated.iter().find(|collection| collection.etag != last.etag).unwrap();
    let stale = update("description", &stale.etag, 1).await.unwrap_err();
    assert_eq!(reason(&stale), "ETAG_MISMATCH");
    assert_eq!(reason(&update("chunking", "", 100_000).await.unwrap_err()), "BAD_CHUNKING");
    assert!(update("description", &last.etag, 1).await.is_ok());
}

#[tokio::test]
async fn the_last_write_of_a_document_wins() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    // The longer an earlier version takes, the likelier a later one would overtake it.
    let version =
        |n: usize| text_document("x", &format!("Version {n}. {}", "It says more. ".repeat(400 / (n + 1))));
    let (results, end) = ingest(&channel, (0..20).map(|n| Part::Document(version(n)))).await;
    assert!(end.is_none() && results.iter().all(|r| r.status() == DocumentStatus::Indexed), "{results:?}");
    assert!(text_of(&get(&channel, "x").await.unwrap()).starts_with("Version 19."));
    let results = upsert(&channel, (20..40).map(version).collect()).await;
    assert_eq!(results.len(), 20);
    assert!(text_of(&get(&channel, "x").await.unwrap()).starts_with("Version 39."));
    let all = list(&channel).await;
    assert_eq!(all.len(), 1);
    let hits = found(&channel, proto::SearchRequest { limit: 1000, ..query("version") }).await;
    assert_eq!(hits.len(), all[0].passages.len(), "no passage of an older version is left");
}

#[tokio::test]
async fn labels_are_told_by_their_examples_or_their_names() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let label = |name: &str, examples: &[&str]| proto::Label {
        name: name.to_owned(),
        examples: examples.iter().map(|&example| example.to_owned()).collect(),
    };
    let request = proto::ClassifyRequest {
        inputs: vec!["Knead the dough.".to_owned(), "The cat sleeps.".to_owned(), "Rain falls.".to_owned()],
        labels: vec![
            label("x", &["Bread and cake", "Bake the loaf until it is brown."]),
            label("animals", &[]),
            label("y", &["Clouds and wind bring a storm."]),
        ],
        ..Default::default()
    };
    let mut client = EmbeddingServiceClient::new(server.channel().await);
    let results = client.classify(request).await.unwrap().into_inner().results;
    let best: Vec<_> = results.iter().map(|result| result.scores[0].name.as_str()).collect();
    assert_eq!(best, ["x", "animals", "y"]);
    for scores in results.iter().map(|result| &result.scores) {
        assert_eq!(scores.len(), 3);
        assert!((scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

fn pieces(document: proto::Document, size: usize, bytes: &[u8], piece: usize) -> Vec<Part> {
    let announced = proto::Document { content: Some(Content::DataSize(size as u64)), ..document };
    let chunks = bytes.chunks(piece).map(|chunk| Part::DataChunk(chunk.to_vec()));
    std::iter::once(Part::Document(announced)).chain(chunks).collect()
}

#[tokio::test]
async fn a_file_above_the_message_limit_comes_in_pieces() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let settings =
        [("TROVE__LIMITS__MAX_MESSAGE_BYTES", "65536"), ("TROVE__LIMITS__MAX_DOCUMENT_BYTES", "400000")];
    let server = Server::start_with(data.path(), &settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let pdf = std::fs::read("tests/data/project-history.en.pdf").unwrap();
    assert!(pdf.len() > 65_536 && pdf.len() < 400_000, "{}", pdf.len());
    let file = |id| data_document(id, b"", "application/pdf");
    let mut parts = vec![Part::Document(text_document("before", "A note before the file."))];
    parts.extend(pieces(file("whole"), pdf.len(), &pdf, 30_000));
    parts.extend(pieces(file("too-large"), 400_001, &pdf, 60_000));
    parts.extend(pieces(file("short"), pdf.len(), &pdf[..1000], 500));
    parts.extend(pieces(file("long"), 999, &pdf[..2000], 500));
    parts.push(Part::Document(text_document("between", "A note between two files.")));
    parts.extend(pieces(file("cut-off"), pdf.len(), &pdf[..50_000], 10_000));
    let (results, end) = ingest(&channel, parts).await;
    assert!(end.is_none(), "{end:?}");
    let outcomes: Vec<_> =
        results.iter().map(|r| (r.document_id.as_str(), r.error_reason.as_str())).collect();
    assert_eq!(
        outcomes,
        [
            ("before", ""),
            ("whole", ""),
            ("too-large", "DOCUMENT_TOO_LARGE"),
            ("short", "WRONG_DATA_SIZE"),
            ("long", "WRONG_DATA_SIZE"),
            ("between", ""),
            ("cut-off", "WRONG_DATA_SIZE"),
        ]
    );
    let hits = found(&channel, query("who founded the Debian project")).await;
    assert_eq!(ids(&hits)[0], "whole");
    // Its text and its passages are more than one message holds.
    let status = get(&channel, "whole").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "RESPONSE_TOO_LARGE"));
    assert!(status.get_error_details().request_info().is_some());
    let request = proto::GetDocumentRequest {
        collection: NOTES.to_owned(),
        document_id: "whole".to_owned(),
        view: proto::DocumentView::Basic as i32,
    };
    let whole = documents(&channel).get_document(request).await.unwrap().into_inner().document.unwrap();
    assert_eq!(whole.content_hash, blake3::hash(&pdf).to_hex().to_string());

    let stray = vec![Part::Document(text_document("kept", "This one is kept.")), Part::DataChunk(vec![1])];
    let (results, end) = ingest(&channel, stray).await;
    assert_eq!(reason(&end.unwrap()), "NO_DOCUMENT");
    assert_eq!(results.len(), 1, "what came before is answered");
    let response = documents(&channel)
        .upsert_documents(upsert_request(vec![proto::Document {
            content: Some(Content::DataSize(5)),
            ..file("x")
        }]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(response.results[0].error_reason, "DATA_WITHOUT_STREAM");
}
