//! The lines of an export: one JSON object each, UTF-8.
//!
//! The first line is the header: `format` ("trove-export"), `version` (1) and `collection` with its settings.
//! Then comes one line for each document, and at last `{"documents": N}`, so that a file that was cut off is
//! noticed. Vectors are base64 (standard alphabet, padded) of single-precision numbers, little-endian. Spans are
//! `[start, end)` in bytes of the text. Metadata values are JSON strings, whole numbers, booleans, nulls and
//! lists of strings; other types are objects: `{"double": "0.1"}`, `{"timestamp": [seconds, nanos]}`,
//! `{"ints": [1, 2]}`, `{"doubles": ["0.1"]}`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::output;
use crate::proto::metadata_value::Kind;
use crate::proto::{
    ByteSpan, ChunkingConfig, Collection, DenseVector, Document, DoubleList, HnswConfig, IntList,
    MetadataValue, StoredDocument, StoredPassage, StringList,
};

/// What the header's `format` says.
const FORMAT: &str = "trove-export";
/// The version that is written; all up to it are read.
const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    format: String,
    version: u32,
    /// The collection that was exported.
    pub collection: Settings,
}

/// A collection's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Name.
    pub name: String,
    /// Text for people.
    #[serde(default)]
    pub description: String,
    /// Encoder id and revision.
    pub model: String,
    /// Length of its vectors.
    pub dimensions: u32,
    /// Most tokens of a passage.
    #[serde(default)]
    pub max_tokens: u32,
    /// Tokens shared by neighbouring passages.
    #[serde(default)]
    pub overlap_tokens: u32,
    /// Candidates while searching.
    #[serde(default)]
    pub ef_search: u32,
    /// Whether sentences have a graph of their own.
    #[serde(default)]
    pub index_sentences: bool,
    /// Language of its words; empty means the default.
    #[serde(default)]
    pub language: String,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Documents in the file.
    pub documents: u64,
}

/// A document with all that is stored of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    file_title: String,
    #[serde(default)]
    source_uri: String,
    #[serde(default)]
    mime_type: String,
    content_hash: String,
    /// For readers; an import sets the times anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update_time: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    /// What the file says of itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    file_metadata: BTreeMap<String, Value>,
    #[serde(default)]
    extraction_version: u32,
    #[serde(default)]
    max_tokens: u32,
    #[serde(default)]
    overlap_tokens: u32,
    #[serde(default)]
    token_count: u64,
    text: String,
    #[serde(default)]
    vector: String,
    passages: Vec<PassageLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PassageLine {
    span: [u32; 2],
    #[serde(default)]
    headings: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page_number: Option<u32>,
    #[serde(default)]
    sentences: Vec<[u32; 2]>,
    vector: String,
    #[serde(default)]
    sentence_vectors: Vec<String>,
}

/// A document as it goes over the wire, put together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Whole {
    /// Its record.
    pub stored: StoredDocument,
    /// Its text.
    pub text: String,
    /// Its passages.
    pub passages: Vec<StoredPassage>,
}

impl Whole {
    /// Whether text and passages are complete.
    pub fn is_complete(&self) -> bool {
        self.text.len() as u64 == self.stored.text_bytes
            && self.passages.len() as u64 == u64::from(self.stored.passage_count)
    }
}

impl Header {
    /// The header of a collection's export.
    pub fn new(collection: &Collection) -> Self {
        let chunking = collection.chunking.unwrap_or_default();
        let collection = Settings {
            name: collection.name.clone(),
            description: collection.description.clone(),
            model: collection.model.clone(),
            dimensions: collection.dimensions,
            max_tokens: chunking.max_tokens,
            overlap_tokens: chunking.overlap_tokens,
            ef_search: collection.hnsw.as_ref().map_or(0, |h| h.ef_search),
            index_sentences: collection.index_sentences,
            language: collection.language.clone(),
        };
        Self { format: FORMAT.to_owned(), version: VERSION, collection }
    }

    /// Reads the first line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let header: Header = serde_json::from_slice(line)
            .map_err(|error| format!("expected the header of an export, got something else: {error}"))?;
        if header.format != FORMAT {
            return Err(format!("expected format {FORMAT:?}, got {:?}", header.format));
        }
        if header.version > VERSION {
            let version = header.version;
            return Err(format!(
                "expected format version {VERSION} or less, got {version}: use a newer program"
            ));
        }
        Ok(header)
    }
}

impl Settings {
    /// A collection to make, of another name and model if wanted.
    pub fn collection(&self, name: &str, model: &str) -> Collection {
        let is_same = model == self.model;
        Collection {
            name: name.to_owned(),
            description: self.description.clone(),
            model: model.to_owned(),
            hnsw: Some(HnswConfig { ef_search: self.ef_search, ..Default::default() }),
            // Another model may take fewer tokens.
            chunking: is_same.then_some(ChunkingConfig {
                max_tokens: self.max_tokens,
                overlap_tokens: self.overlap_tokens,
            }),
            index_sentences: self.index_sentences,
            language: self.language.clone(),
            ..Default::default()
        }
    }
}

/// A document as a line, without the line break.
pub fn line(whole: &Whole) -> serde_json::Result<String> {
    let document = whole.stored.document.clone().unwrap_or_default();
    let chunking = whole.stored.chunking.unwrap_or_default();
    serde_json::to_string(&Line {
        id: document.id,
        title: document.title,
        file_title: whole.stored.file_title.clone(),
        source_uri: document.source_uri,
        mime_type: document.mime_type,
        content_hash: document.content_hash,
        create_time: document.create_time.as_ref().map(output::timestamp),
        update_time: document.update_time.as_ref().map(output::timestamp),
        metadata: document.metadata.iter().map(|(key, value)| (key.clone(), value_out(value))).collect(),
        file_metadata: (whole.stored.file_metadata.iter())
            .map(|(key, value)| (key.clone(), value_out(value)))
            .collect(),
        extraction_version: document.extraction_version,
        max_tokens: chunking.max_tokens,
        overlap_tokens: chunking.overlap_tokens,
        token_count: whole.stored.token_count,
        text: whole.text.clone(),
        vector: vector_out(whole.stored.vector.as_ref()),
        passages: whole.passages.iter().map(passage_out).collect(),
    })
}

/// A document of a line.
pub fn parse(line: &[u8]) -> Result<Whole, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let value = |(key, value)| match value_in(value) {
        Some(value) => Ok((key, value)),
        None => Err(format!("metadata.{key}: expected a value of a known type")),
    };
    let passage = |(index, passage)| {
        passage_in(passage).ok_or_else(|| format!("passages[{index}]: expected vectors in base64"))
    };
    let passages = line.passages.into_iter().enumerate().map(passage).collect::<Result<Vec<_>, _>>()?;
    let document = Document {
        id: line.id,
        title: line.title,
        source_uri: line.source_uri,
        mime_type: line.mime_type,
        content_hash: line.content_hash,
        metadata: line.metadata.into_iter().map(value).collect::<Result<_, _>>()?,
        extraction_version: line.extraction_version,
        ..Default::default()
    };
    let chunking = ChunkingConfig { max_tokens: line.max_tokens, overlap_tokens: line.overlap_tokens };
    let stored = StoredDocument {
        document: Some(document),
        text_bytes: line.text.len() as u64,
        passage_count: u32::try_from(passages.len()).map_err(|_| "too many passages".to_owned())?,
        token_count: line.token_count,
        file_title: line.file_title,
        file_metadata: line.file_metadata.into_iter().map(value).collect::<Result<_, _>>()?,
        chunking: Some(chunking),
        vector: vector_in(&line.vector).ok_or("vector: expected base64 of numbers")?,
    };
    Ok(Whole { stored, text: line.text, passages })
}

fn span_out(span: ByteSpan) -> [u32; 2] {
    [span.start, span.end]
}

fn span_in([start, end]: [u32; 2]) -> ByteSpan {
    ByteSpan { start, end }
}

fn passage_out(passage: &StoredPassage) -> PassageLine {
    PassageLine {
        span: span_out(passage.span.unwrap_or_default()),
        headings: passage.headings.clone(),
        page_number: passage.page_number,
        sentences: passage.sentences.iter().map(|span| span_out(*span)).collect(),
        vector: vector_out(passage.vector.as_ref()),
        sentence_vectors: passage.sentence_vectors.iter().map(|v| vector_out(Some(v))).collect(),
    }
}

fn passage_in(line: PassageLine) -> Option<StoredPassage> {
    let sentence_vectors = line.sentence_vectors.iter().map(|v| vector_in(v).map(Option::unwrap_or_default));
    Some(StoredPassage {
        span: Some(span_in(line.span)),
        headings: line.headings,
        page_number: line.page_number,
        sentences: line.sentences.into_iter().map(span_in).collect(),
        vector: vector_in(&line.vector)?,
        sentence_vectors: sentence_vectors.collect::<Option<_>>()?,
    })
}

fn vector_out(vector: Option<&DenseVector>) -> String {
    let Some(vector) = vector else { return String::new() };
    let bytes: Vec<u8> = vector.values.iter().flat_map(|x| x.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

/// A vector, or none for an empty text; `None` where it is no vector.
#[allow(clippy::option_option, reason = "no vector is not the same as no valid one")]
fn vector_in(text: &str) -> Option<Option<DenseVector>> {
    if text.is_empty() {
        return Some(None);
    }
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    let values = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
    rest.is_empty().then_some(Some(DenseVector { values }))
}

fn value_out(value: &MetadataValue) -> Value {
    match &value.kind {
        None => Value::Null,
        Some(Kind::StringValue(v)) => json!(v),
        Some(Kind::IntValue(v)) => json!(v),
        // As text: many readers of JSON do not keep the last digit of a number.
        Some(Kind::DoubleValue(v)) => json!({ "double": v.to_string() }),
        Some(Kind::BoolValue(v)) => json!(v),
        Some(Kind::TimestampValue(v)) => json!({ "timestamp": [v.seconds, i64::from(v.nanos)] }),
        Some(Kind::StringList(v)) => json!(v.values),
        Some(Kind::IntList(v)) => json!({ "ints": v.values }),
        Some(Kind::DoubleList(v)) => {
            json!({ "doubles": v.values.iter().map(f64::to_string).collect::<Vec<_>>() })
        }
    }
}

fn value_in(value: Value) -> Option<MetadataValue> {
    let kind = match value {
        Value::Null => None,
        Value::String(text) => Some(Kind::StringValue(text)),
        Value::Bool(is_true) => Some(Kind::BoolValue(is_true)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(whole) => Kind::IntValue(whole),
            None => Kind::DoubleValue(number.as_f64()?),
        }),
        Value::Array(values) => {
            let text = |value: Value| match value {
                Value::String(text) => Some(text),
                _ => None,
            };
            let values = values.into_iter().map(text).collect::<Option<_>>()?;
            Some(Kind::StringList(StringList { values }))
        }
        Value::Object(map) => {
            let (kind, value) = map.iter().next().filter(|_| map.len() == 1)?;
            Some(match kind.as_str() {
                "double" => Kind::DoubleValue(value.as_str()?.parse().ok()?),
                "timestamp" => {
                    let [seconds, nanos] = value.as_array()?.as_slice() else { return None };
                    let nanos = i32::try_from(nanos.as_i64()?).ok()?;
                    Kind::TimestampValue(Timestamp { seconds: seconds.as_i64()?, nanos })
                }
                "ints" => {
                    let values = value.as_array()?.iter().map(Value::as_i64).collect::<Option<_>>()?;
                    Kind::IntList(IntList { values })
                }
                "doubles" => {
                    let double = |value: &Value| value.as_str()?.parse().ok();
                    let values = value.as_array()?.iter().map(double).collect::<Option<_>>()?;
                    Kind::DoubleList(DoubleList { values })
                }
                _ => return None,
            })
        }
    };
    Some(MetadataValue { kind })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = MetadataValue> {
        prop_oneof![
            Just(None),
            any::<String>().prop_map(|s| Some(Kind::StringValue(s))),
            any::<i64>().prop_map(|i| Some(Kind::IntValue(i))),
            any::<f64>()
                .prop_filter("NaN is refused", |d| !d.is_nan())
                .prop_map(|d| Some(Kind::DoubleValue(d))),
            any::<bool>().prop_map(|b| Some(Kind::BoolValue(b))),
            any::<(i64, i32)>()
                .prop_map(|(seconds, nanos)| Some(Kind::TimestampValue(Timestamp { seconds, nanos }))),
            prop::collection::vec(any::<String>(), 0..3)
                .prop_map(|values| Some(Kind::StringList(StringList { values }))),
            prop::collection::vec(any::<i64>(), 0..3)
                .prop_map(|values| Some(Kind::IntList(IntList { values }))),
            prop::collection::vec(-1e300..1e300f64, 0..3)
                .prop_map(|values| Some(Kind::DoubleList(DoubleList { values }))),
        ]
        .prop_map(|kind| MetadataValue { kind })
    }

    fn vector() -> impl Strategy<Value = DenseVector> {
        prop::collection::vec(any::<f32>().prop_filter("NaN", |x| !x.is_nan()), 1..5)
            .prop_map(|values| DenseVector { values })
    }

    fn passage() -> impl Strategy<Value = StoredPassage> {
        (any::<(u32, u32)>(), any::<Option<u32>>(), any::<Vec<String>>(), vector(), vector()).prop_map(
            |((start, end), page_number, headings, vector, sentence)| StoredPassage {
                span: Some(ByteSpan { start, end }),
                headings,
                page_number,
                sentences: vec![ByteSpan { start: end, end: start }],
                vector: Some(vector),
                sentence_vectors: vec![sentence],
            },
        )
    }

    proptest! {
        #[test]
        fn a_line_gives_the_document_back(
            metadata in prop::collection::hash_map(any::<String>(), value(), 0..5), text in any::<String>(),
            passages in prop::collection::vec(passage(), 0..4), vector in prop::option::of(vector()),
            numbers in any::<(u32, u32, u32, u64)>(),
        ) {
            let file_metadata = metadata.clone();
            let document = Document {
                id: text.clone(), title: text.clone(), source_uri: "x".to_owned(), mime_type: "text/plain".to_owned(),
                content_hash: "0".to_owned(), metadata, extraction_version: numbers.0, ..Default::default()
            };
            let stored = StoredDocument {
                document: Some(document), text_bytes: text.len() as u64, passage_count: passages.len() as u32,
                token_count: numbers.3, file_title: text.clone(), file_metadata, vector,
                chunking: Some(ChunkingConfig { max_tokens: numbers.1, overlap_tokens: numbers.2 }),
            };
            let whole = Whole { stored, text, passages };
            prop_assert!(whole.is_complete());
            let line = line(&whole).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(parse(line.as_bytes()).unwrap(), whole);
        }

        #[test]
        fn any_line_is_read_without_a_panic(line in any::<Vec<u8>>()) {
            let _ = (parse(&line).is_ok(), Header::parse(&line).is_ok());
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [r#"{"double": 1}"#, r#"{"timestamp": 1}"#, r#"{"a": 1}"#, "[1]", "{}"] {
            assert_eq!(value_in(serde_json::from_str(bad).unwrap()), None, "{bad}");
        }
        assert!(vector_in("AAA=").is_none() && vector_in("!").is_none());
        let newer = r#"{"format": "trove-export", "version": 2, "collection": {"name": "a", "model": "m", "dimensions": 3}}"#;
        assert!(Header::parse(newer.as_bytes()).unwrap_err().contains("newer program"));
    }
}
