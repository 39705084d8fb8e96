//! What comes over the API, and the files of the service.

use std::collections::BTreeMap;

use bytes::BytesMut;
use prost::Message;
use roaring::RoaringBitmap;
use trove::access::{ApiKey, KeyFile};
use trove::config::Loaded;
use trove::error::Result;
use trove::grpc::{convert, fuzz};
use trove::metadata::{DocumentIds, MetadataIndex, ResolvedFilter, matching};
use trove::proto::{self, field_condition, filter, metadata_value};
use trove::task::Cancelled;

use super::{put, with_folder};
use crate::memory;

pub const EXPORT_WORDS: &[&str] = &[
    "{\"double\":\"1e999\"}",
    "{\"timestamp\":[1,2]}",
    "\"sentence_vectors\":[\"AAAA\"]",
    "\"AACAPwAAAAA=\"",
    "\"span\":[0,9]",
    "\\ud800",
    "null",
    "1e999",
];
pub const KEY_WORDS: &[&str] = &[
    "\"scope\":\"admin\"",
    "\"collections\":[\"a\"]",
    "\"expire_time\":1",
    "\"version\":",
    "null",
    "trove_",
];
pub const SETTING_WORDS: &[&str] = &[
    "[limits]\n",
    "[encoder]\n",
    "listen = ",
    "max_batch_size = ",
    "shutdown_seconds = ",
    "\"0.0.0.0:1\"",
    "[[x]]\n",
    "'''",
    "\"\"\"",
    "inf",
    "1979-05-27T07:32:00Z",
    "a.b.c = 1\n",
    "{ x = 1 }",
];

/// Bytes of the shortest message that is refused for what it holds: for a text of a name.
const LEAST_REFUSED: usize = 256;
/// Memory of an error that tells where in a message it is.
const ERROR_BYTES: usize = 16 << 10;

/// A message of the kind that the first byte names. It takes no more memory than the server expects of its bytes.
pub fn request(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let weight = fuzz::weight(*kind, rest);
    let buffer = BytesMut::from(rest);
    let (is_one, peak) = memory::peak(|| fuzz::decode(*kind, buffer));
    match weight {
        Some(weight) if is_one => assert!(peak <= weight, "a message of {weight} bytes took {peak}"),
        Some(weight) => assert!(peak <= weight + ERROR_BYTES, "half a message of {weight} bytes took {peak}"),
        None => assert!(!is_one || rest.len() > LEAST_REFUSED, "refused unread, and the decoder takes it"),
    }
    fuzz::request(*kind, rest);
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    let search = proto::SearchRequest {
        collection: "notes".to_owned(),
        query: Some(proto::SearchQuery { query: Some(proto::search_query::Query::Text("why".to_owned())) }),
        limit: 3,
        filter: Some(example_filter()),
        fusion: Some(proto::Fusion {
            method: Some(proto::fusion::Method::Alpha(0.5)),
            sentence_weight: Some(0.5),
        }),
        score_threshold: Some(0.1),
        ..Default::default()
    };
    let message = proto::Message { role: proto::Role::User.into(), content: "hi".to_owned() };
    let answer = proto::AnswerRequest {
        search: Some(search.clone()),
        question: "why".to_owned(),
        history: vec![message.clone()],
        sampling: Some(proto::SamplingOptions { max_tokens: 3, ..Default::default() }),
        ..Default::default()
    };
    let stored = proto::StoredDocument {
        document: Some(proto::Document { content_hash: "0".repeat(64), ..example_document() }),
        text_bytes: 3,
        passage_count: 1,
        ..Default::default()
    };
    let span = proto::ByteSpan { start: 0, end: 3 };
    let vector = proto::DenseVector { values: vec![0.6, 0.8] };
    let passage = proto::StoredPassage {
        span: Some(span),
        sentences: vec![span],
        vector: Some(vector.clone()),
        sentence_vectors: vec![vector],
        ..Default::default()
    };
    let mask = ["description", "hnsw.ef_search", "chunking", "language"].map(str::to_owned).to_vec();
    let update = proto::UpdateCollectionRequest {
        collection: Some(proto::Collection { language: "en".to_owned(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: mask }),
    };
    let snapshot =
        proto::CreateSnapshotRequest { name: "a".to_owned(), collections: vec!["notes".to_owned()] };
    let messages: Vec<Vec<u8>> = vec![
        search.encode_to_vec(),
        answer.encode_to_vec(),
        proto::UpsertDocumentsRequest { documents: vec![example_document()], ..Default::default() }
            .encode_to_vec(),
        stored.encode_to_vec(),
        proto::StoredPassages { passages: vec![passage] }.encode_to_vec(),
        proto::EmbedOptions { level: 2, pooling: 1, overflow: 2, ..Default::default() }.encode_to_vec(),
        update.encode_to_vec(),
        proto::GenerateRequest { messages: vec![message], ..Default::default() }.encode_to_vec(),
        snapshot.encode_to_vec(),
        list_snapshots("12:a").encode_to_vec(),
        list_documents("after:a").encode_to_vec(),
        proto::BatchSearchRequest { requests: vec![search; 3] }.encode_to_vec(),
        proto::IngestDocumentsRequest {
            part: Some(proto::ingest_documents_request::Part::Document(example_document())),
        }
        .encode_to_vec(),
        proto::ClassifyRequest {
            inputs: vec!["a".to_owned()],
            labels: vec![proto::Label { name: "b".to_owned(), examples: vec!["c".to_owned()] }],
            ..Default::default()
        }
        .encode_to_vec(),
    ];
    assert_eq!(messages.len(), usize::from(fuzz::KINDS));
    (0_u8..).zip(messages).map(|(kind, message)| [&[kind], message.as_slice()].concat()).collect()
}

fn list_snapshots(token: &str) -> proto::ListSnapshotsRequest {
    proto::ListSnapshotsRequest { page_token: token.to_owned(), ..Default::default() }
}

fn list_documents(token: &str) -> proto::ListDocumentsRequest {
    let filter = Some(example_filter());
    proto::ListDocumentsRequest { page_token: token.to_owned(), filter, ..Default::default() }
}

fn value(kind: metadata_value::Kind) -> proto::MetadataValue {
    proto::MetadataValue { kind: Some(kind) }
}

fn example_document() -> proto::Document {
    use metadata_value::Kind;
    let metadata = [
        ("a", Kind::IntValue(3)),
        ("b", Kind::DoubleValue(0.5)),
        ("c", Kind::StringValue("x".to_owned())),
        ("d", Kind::BoolValue(true)),
        ("e", Kind::TimestampValue(prost_types::Timestamp { seconds: 1, nanos: 2 })),
        ("f", Kind::StringList(proto::StringList { values: vec!["x".to_owned(), "y".to_owned()] })),
    ];
    proto::Document {
        id: "a".to_owned(),
        mime_type: "text/plain".to_owned(),
        content: Some(proto::document::Content::Text("abc".to_owned())),
        metadata: metadata.into_iter().map(|(key, kind)| (key.to_owned(), value(kind))).collect(),
        ..Default::default()
    }
}

fn example_filter() -> proto::Filter {
    use field_condition::Test;
    use filter::Node;
    let node = |node| proto::Filter { node: Some(node) };
    let field =
        |key: &str, test| node(Node::Field(proto::FieldCondition { key: key.to_owned(), test: Some(test) }));
    let range = proto::Range { gte: Some(1.0), lt: Some(5.0), ..Default::default() };
    let words = proto::StringRange { gt: Some("a".to_owned()), ..Default::default() };
    let list = proto::StringList { values: vec!["x".to_owned()] };
    let tests = vec![
        field("a", Test::Range(range)),
        field("c", Test::StringRange(words)),
        field("f", Test::In(list.clone())),
        field("b", Test::Equals(value(metadata_value::Kind::DoubleValue(0.5)))),
        field("c", Test::Prefix("x".to_owned())),
        field("d", Test::Exists(true)),
        node(Node::DocumentIdPrefix("a".to_owned())),
        node(Node::Not(Box::new(node(Node::DocumentIds(list))))),
    ];
    let any = proto::FilterList { filters: tests };
    node(Node::All(proto::FilterList { filters: vec![node(Node::Any(any))] }))
}

/// A filter and the documents that it is asked of.
#[derive(Clone, PartialEq, Message)]
struct Case {
    #[prost(message, optional, tag = "1")]
    filter: Option<proto::Filter>,
    #[prost(message, repeated, tag = "2")]
    documents: Vec<proto::Document>,
}

struct Ids(BTreeMap<String, u32>);

impl DocumentIds for Ids {
    fn number(&self, id: &str) -> Result<Option<u32>> {
        Ok(self.0.get(id).copied())
    }

    fn numbers(&self, prefix: &str, _: Cancelled<'_>) -> Result<RoaringBitmap> {
        let with_prefix = self.0.iter().filter(|(id, _)| id.starts_with(prefix));
        Ok(with_prefix.map(|(_, number)| *number).collect())
    }
}

/// The index must find just the documents that the filter says it matches.
pub fn filter(bytes: &[u8]) {
    let Ok(case) = Case::decode(bytes) else { return };
    let Ok(Some(filter)) = convert::filter_in(case.filter) else { return };
    let mut documents = BTreeMap::new();
    for document in case.documents {
        if let Ok(metadata) = convert::metadata_in(document.metadata) {
            documents.insert(document.id, metadata);
        }
    }
    let mut index = MetadataIndex::default();
    let numbered: Vec<_> = (0_u32..).zip(&documents).collect();
    numbered.iter().for_each(|(number, (_, metadata))| index.insert(*number, metadata));
    let ids = Ids(numbered.iter().map(|(number, (id, _))| ((*id).clone(), *number)).collect());
    let Ok(resolved) = ResolvedFilter::new(&filter, &ids, &|| false) else { return };
    let those = numbered.iter().filter(|(_, (id, metadata))| filter.matches(id, metadata));
    let expected: RoaringBitmap = those.map(|(number, _)| *number).collect();
    let found = matching(&resolved, &|step| index.step(step), &|| false).ok();
    assert_eq!(found, Some(expected), "{filter:?} of {documents:?}");
    numbered.iter().for_each(|(number, (_, metadata))| index.remove(*number, metadata));
    assert!(index.is_empty());
}

pub fn filter_seeds() -> Vec<Vec<u8>> {
    let mut other = example_document();
    other.id = "b".to_owned();
    other.metadata.insert("a".to_owned(), value(metadata_value::Kind::DoubleValue(4.0)));
    let documents = vec![example_document(), other];
    vec![Case { filter: Some(example_filter()), documents }.encode_to_vec()]
}

pub fn page_token(bytes: &[u8]) {
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    fuzz::request(9, &list_snapshots(token).encode_to_vec());
    let message = proto::ListDocumentsRequest { page_token: token.to_owned(), ..Default::default() };
    fuzz::request(10, &message.encode_to_vec());
}

pub fn page_token_seeds() -> Vec<Vec<u8>> {
    ["", "after:a", "12:a", "-1:b"].map(|token| token.as_bytes().to_vec()).to_vec()
}

pub fn export_line(bytes: &[u8]) {
    trove::cli::transfer::fuzz::line(bytes);
}

pub fn export_line_seeds() -> Vec<Vec<u8>> {
    let header =
        br#"{"format":"trove-export","version":1,"collection":{"name":"a","model":"m@1","dimensions":2}}"#;
    let line = br#"{"id":"a","content_hash":"00","metadata":{"a":1,"b":{"double":"0.5"},"c":{"timestamp":[1,2]},
        "d":["x"],"e":true,"f":null,"g":"s"},"text":"abc","vector":"AACAPwAAAAA=","passages":[{"span":[0,3],
        "headings":["t"],"page_number":1,"sentences":[[0,3]],"vector":"AACAPwAAAAA=","sentence_vectors":["AACAPwAAAAA="]}]}"#;
    vec![header.to_vec(), line.to_vec()]
}

/// The file of keys; and its text as a key.
pub fn key_file(bytes: &[u8]) {
    with_folder(|folder| {
        let file = KeyFile::in_dir(folder);
        put(&file.path(), bytes);
        let key = std::str::from_utf8(bytes).ok().and_then(ApiKey::parse);
        let shown = key.or_else(|| ApiKey::parse(&format!("trove_{}_{}", "0".repeat(16), "1".repeat(64))));
        if let (Ok(Some(records)), Some(key)) = (file.read(), shown) {
            records.iter().for_each(|record| assert!(!record.matches(&key) || record.id.len() == 16));
        }
    });
}

pub fn key_file_seeds() -> Vec<Vec<u8>> {
    let hash = "0".repeat(64);
    let file = format!(
        r#"{{"version":1,"keys":[{{"id":"{}","name":"a","scope":"read","collections":["notes"],"hash":"{hash}","create_time":1,"expire_time":null,"revoke_time":2}}]}}"#,
        "0".repeat(16)
    );
    vec![file.into_bytes(), format!("trove_{}_{hash}", "0".repeat(16)).into_bytes()]
}

pub fn config_file(bytes: &[u8]) {
    with_folder(|folder| {
        let path = folder.join("trove.toml");
        put(&path, bytes);
        let loaded = Loaded::read(Some(&path), &[]);
        let _ = loaded.config();
    });
}

pub fn config_file_seeds() -> Vec<Vec<u8>> {
    let text = "listen = \"127.0.0.1:7700\"\n\n[limits]\nmax_batch_size = 10\nshutdown_seconds = 5\n\n[access]\nstrict = true\n";
    vec![text.as_bytes().to_vec()]
}

pub fn record(bytes: &[u8]) {
    trove::store::fuzz::record(bytes);
}

pub fn snapshot(bytes: &[u8]) {
    trove::store::fuzz::snapshot(bytes);
}

pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    vec![trove::store::fuzz::snapshot_file_seed()]
}

pub fn snapshot_records(bytes: &[u8]) {
    trove::store::fuzz::snapshot_records(bytes);
}

pub fn snapshot_records_seeds() -> Vec<Vec<u8>> {
    vec![trove::store::fuzz::snapshot_seed()]
}
