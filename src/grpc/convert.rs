//! Conversion between the messages of `trove.v1` and the domain's types.

use prost_types::Timestamp;

use crate::domain::bounds::{self, MetadataCount, check_text};
use crate::domain::{DocumentId, Filter, FilterSize, Metadata, MetadataValue, RangeBounds, Span, Test};
use crate::error::{Error, Result};
use crate::keywords::spellings;
use crate::proto;

/// Memory of a string in a list, and of an entry of metadata, as they come and as they are kept, beside their bytes.
const STRING_BYTES: usize = 64;
const ENTRY_BYTES: usize = 384;

/// A span as a message.
pub fn span(span: Span) -> proto::ByteSpan {
    proto::ByteSpan { start: span.start, end: span.end }
}

/// How a model pools, as a message.
pub fn pooling(pooling: crate::encoder::Pooling) -> proto::Pooling {
    use crate::encoder::Pooling;
    match pooling {
        Pooling::Mean => proto::Pooling::Mean,
        Pooling::Cls => proto::Pooling::Cls,
        Pooling::Max => proto::Pooling::Max,
        Pooling::Last => proto::Pooling::LastToken,
    }
}

/// Nanoseconds since the epoch as a message.
pub fn timestamp(nanos: i64) -> Timestamp {
    let second = 1_000_000_000;
    Timestamp { seconds: nanos.div_euclid(second), nanos: nanos.rem_euclid(second) as i32 }
}

/// Checks what describes a document, before anything is made of it.
///
/// # Errors
/// `INVALID_DOCUMENT_ID`, `TEXT_TOO_LONG`, `METADATA_TOO_LARGE`.
pub fn check_described(document: &proto::Document) -> Result<()> {
    if !document.id.is_empty() {
        DocumentId::check(&document.id)?;
    }
    check_text("title", document.title.len(), bounds::TITLE_BYTES)?;
    check_text("source_uri", document.source_uri.len(), bounds::SOURCE_URI_BYTES)?;
    check_text("mime_type", document.mime_type.len(), bounds::MEDIA_TYPE_BYTES)?;
    check_metadata(&document.metadata)
}

/// Checks metadata before it is read.
pub fn check_metadata(metadata: &std::collections::HashMap<String, proto::MetadataValue>) -> Result<()> {
    let mut count = MetadataCount::default();
    for (key, value) in metadata {
        use proto::metadata_value::Kind;
        match &value.kind {
            Some(Kind::StringValue(text)) => count.add(key, std::iter::once(text.as_str()))?,
            Some(Kind::StringList(list)) => count.add(key, list.values.iter().map(String::as_str))?,
            Some(Kind::IntList(list)) => count.add_numbers(key, list.values.len())?,
            Some(Kind::DoubleList(list)) => count.add_numbers(key, list.values.len())?,
            _ => count.add(key, std::iter::empty())?,
        }
    }
    Ok(())
}

/// Memory that what describes a document takes beside its content, once it is checked.
pub fn described_bytes(document: &proto::Document) -> usize {
    let texts =
        [&document.id, &document.title, &document.source_uri, &document.mime_type, &document.content_hash];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    size_of::<proto::Document>() + texts + metadata_bytes(&document.metadata)
}

/// Memory that metadata takes.
pub fn metadata_bytes(metadata: &std::collections::HashMap<String, proto::MetadataValue>) -> usize {
    use proto::metadata_value::Kind;
    let entry = |(key, value): (&String, &proto::MetadataValue)| {
        let strings = match &value.kind {
            Some(Kind::StringValue(text)) => text.len(),
            Some(Kind::StringList(list)) => list.values.iter().map(|text| STRING_BYTES + text.len()).sum(),
            Some(Kind::IntList(list)) => size_of_val(list.values.as_slice()),
            Some(Kind::DoubleList(list)) => size_of_val(list.values.as_slice()),
            _ => 0,
        };
        ENTRY_BYTES + key.len() + strings
    };
    metadata.iter().map(entry).sum()
}

/// Metadata of a message.
pub fn metadata_in(map: std::collections::HashMap<String, proto::MetadataValue>) -> Result<Metadata> {
    let entry = |(key, value)| match value_in(value) {
        Ok(value) => Ok((key, value)),
        Err(error) => Err(error.within(&format!("metadata[{key:?}]"))),
    };
    map.into_iter().map(entry).collect()
}

/// Metadata as a message.
pub fn metadata_out(metadata: Metadata) -> std::collections::HashMap<String, proto::MetadataValue> {
    metadata.into_iter().map(|(key, value)| (key, value_out(value))).collect()
}

fn value_in(value: proto::MetadataValue) -> Result<MetadataValue> {
    use proto::metadata_value::Kind;
    Ok(match value.kind {
        None => MetadataValue::Null,
        Some(Kind::StringValue(s)) => MetadataValue::String(s),
        Some(Kind::IntValue(i)) => MetadataValue::Int(i),
        Some(Kind::DoubleValue(d)) if d.is_nan() => {
            return Err(Error::invalid_field("double_value", "NOT_FINITE", "expected a number, got NaN"));
        }
        Some(Kind::DoubleValue(d)) => MetadataValue::Double(d),
        Some(Kind::BoolValue(b)) => MetadataValue::Bool(b),
        Some(Kind::TimestampValue(t)) => MetadataValue::Timestamp(t.seconds, t.nanos),
        Some(Kind::StringList(list)) => MetadataValue::StringList(list.values),
        Some(Kind::IntList(list)) => MetadataValue::IntList(list.values),
        Some(Kind::DoubleList(list)) if list.values.iter().any(|d| d.is_nan()) => {
            return Err(Error::invalid_field("double_list", "NOT_FINITE", "expected numbers, got NaN"));
        }
        Some(Kind::DoubleList(list)) => MetadataValue::DoubleList(list.values),
    })
}

fn value_out(value: MetadataValue) -> proto::MetadataValue {
    use proto::metadata_value::Kind;
    let kind = match value {
        MetadataValue::Null => None,
        MetadataValue::String(s) => Some(Kind::StringValue(s)),
        MetadataValue::Int(i) => Some(Kind::IntValue(i)),
        MetadataValue::Double(d) => Some(Kind::DoubleValue(d)),
        MetadataValue::Bool(b) => Some(Kind::BoolValue(b)),
        MetadataValue::Timestamp(seconds, nanos) => Some(Kind::TimestampValue(Timestamp { seconds, nanos })),
        MetadataValue::StringList(values) => Some(Kind::StringList(proto::StringList { values })),
        MetadataValue::IntList(values) => Some(Kind::IntList(proto::IntList { values })),
        MetadataValue::DoubleList(values) => Some(Kind::DoubleList(proto::DoubleList { values })),
    };
    proto::MetadataValue { kind }
}

/// A filter of a message; `None` where it has no node.
pub fn filter_in(filter: Option<proto::Filter>) -> Result<Option<Filter>> {
    match filter {
        Some(proto::Filter { node: Some(node) }) => {
            let mut reader = FilterReader(FilterSize::default());
            reader.node(node, 0).map(Some).map_err(|error| error.within("filter"))
        }
        _ => Ok(None),
    }
}

/// A test that finds a string whether its accents are characters of their own or not, in the filter as in the metadata.
fn spelled(key: String, test: Test) -> Filter {
    match test {
        Test::Equals(MetadataValue::String(wanted)) if !wanted.is_ascii() => {
            Filter::Field(key, Test::In(spellings(&wanted).into_iter().collect()))
        }
        Test::In(wanted) => {
            Filter::Field(key, Test::In(wanted.iter().flat_map(|wanted| spellings(wanted)).collect()))
        }
        Test::Prefix(wanted) if !wanted.is_ascii() => {
            let prefixes = spellings(&wanted).into_iter();
            Filter::Any(prefixes.map(|prefix| Filter::Field(key.clone(), Test::Prefix(prefix))).collect())
        }
        test => Filter::Field(key, test),
    }
}

/// Reads a filter, and knows how large it is so far.
struct FilterReader(FilterSize);

impl FilterReader {
    fn node(&mut self, node: proto::filter::Node, depth: usize) -> Result<Filter> {
        use proto::filter::Node;
        self.0.add_node(depth)?;
        Ok(match node {
            Node::All(list) => Filter::All(self.children(list, depth)?),
            Node::Any(list) => Filter::Any(self.children(list, depth)?),
            Node::Not(filter) => Filter::Not(Box::new(self.child(*filter, depth)?)),
            Node::Field(condition) => spelled(condition.key, self.test(condition.test)?),
            Node::DocumentIds(list) => {
                self.0.add_values(list.values.len())?;
                Filter::DocumentIds(list.values.into_iter().collect())
            }
            Node::DocumentIdPrefix(prefix) => {
                self.0.add_range()?;
                Filter::DocumentIdPrefix(prefix)
            }
        })
    }

    fn children(&mut self, list: proto::FilterList, depth: usize) -> Result<Vec<Filter>> {
        list.filters.into_iter().map(|filter| self.child(filter, depth)).collect()
    }

    fn child(&mut self, filter: proto::Filter, depth: usize) -> Result<Filter> {
        match filter.node {
            Some(node) => self.node(node, depth + 1),
            None => {
                self.0.add_node(depth)?;
                Ok(Filter::All(Vec::new()))
            }
        }
    }

    fn test(&mut self, test: Option<proto::field_condition::Test>) -> Result<Test> {
        use proto::field_condition::Test as Message;
        Ok(match test {
            None => {
                let message = "expected a test of the key, got none";
                return Err(Error::invalid_field("field.test", "FILTER_WITHOUT_TEST", message));
            }
            Some(Message::Equals(value)) => {
                use proto::metadata_value::Kind;
                self.0.add_values(match &value.kind {
                    Some(Kind::StringList(list)) => list.values.len(),
                    Some(Kind::IntList(list)) => list.values.len(),
                    Some(Kind::DoubleList(list)) => list.values.len(),
                    _ => 0,
                })?;
                Test::Equals(value_in(value)?)
            }
            Some(Message::In(list)) => {
                self.0.add_values(list.values.len())?;
                Test::In(list.values.into_iter().collect())
            }
            Some(Message::Range(r)) => {
                self.0.add_range()?;
                if [r.gte, r.gt, r.lte, r.lt].into_iter().flatten().any(f64::is_nan) {
                    let message = "expected numbers as bounds, got NaN";
                    return Err(Error::invalid_field("field.range", "NOT_FINITE", message));
                }
                Test::Range(RangeBounds { gte: r.gte, gt: r.gt, lte: r.lte, lt: r.lt })
            }
            Some(Message::StringRange(r)) => {
                self.0.add_range()?;
                Test::StringRange(RangeBounds { gte: r.gte, gt: r.gt, lte: r.lte, lt: r.lt })
            }
            Some(Message::Exists(wanted)) => Test::Exists(wanted),
            Some(Message::Prefix(prefix)) => {
                self.0.add_range()?;
                Test::Prefix(prefix)
            }
        })
    }
}

/// Items of a page: zero means 50, more than 1000 is cut to 1000.
pub fn page_size(size: i32) -> Result<usize> {
    match size {
        0 => Ok(50),
        1.. => Ok(size.min(1000) as usize),
        _ => {
            let message = format!("expected zero or more, got {size}");
            Err(Error::invalid_field("page_size", "BAD_PAGE_SIZE", message))
        }
    }
}

/// A page token that names the last item of a page.
pub fn page_token_out(last: &str) -> String {
    format!("after:{last}")
}

/// The item that a page starts after; `None` for the first page.
pub fn page_token_in(token: &str) -> Result<Option<String>> {
    if token.is_empty() {
        return Ok(None);
    }
    match token.strip_prefix("after:") {
        Some(last) => Ok(Some(last.to_owned())),
        None => {
            let message = "expected the token of the page before";
            Err(Error::invalid_field("page_token", "BAD_PAGE_TOKEN", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_filters_are_refused() {
        let mut filter = proto::Filter { node: None };
        for _ in 0..40 {
            filter = proto::Filter { node: Some(proto::filter::Node::Not(Box::new(filter))) };
        }
        assert_eq!(filter_in(Some(filter)).unwrap_err().reason, "FILTER_TOO_DEEP");
        assert_eq!(filter_in(None).unwrap(), None);
    }

    #[test]
    fn strings_are_found_however_their_accents_are_made() {
        let matches = |test: proto::field_condition::Test, value: &str| {
            let field = proto::FieldCondition { key: "k".to_owned(), test: Some(test) };
            let filter = proto::Filter { node: Some(proto::filter::Node::Field(field)) };
            let metadata = [("k".to_owned(), MetadataValue::String(value.to_owned()))].into();
            filter_in(Some(filter)).unwrap().unwrap().matches("d", &metadata)
        };
        use proto::field_condition::Test as Message;
        for (wanted, value) in
            [("Mu\u{308}ller", "Müller"), ("Müller", "Mu\u{308}ller"), ("Müller", "Müller")]
        {
            let kind = Some(proto::metadata_value::Kind::StringValue(wanted.to_owned()));
            assert!(matches(Message::Equals(proto::MetadataValue { kind }), value));
            assert!(matches(Message::In(proto::StringList { values: vec![wanted.to_owned()] }), value));
            assert!(matches(Message::Prefix(wanted.to_owned()), value));
        }
        assert!(!matches(Message::Prefix("Müller".to_owned()), "Muller"));
    }

    #[test]
    fn large_filters_are_refused() {
        let ids = |count| {
            let values = vec![String::new(); count];
            proto::Filter { node: Some(proto::filter::Node::DocumentIds(proto::StringList { values })) }
        };
        assert!(filter_in(Some(ids(65_536))).is_ok());
        assert_eq!(filter_in(Some(ids(65_537))).unwrap_err().reason, "FILTER_TOO_LARGE");
        let empty = |count| {
            let filters = vec![proto::Filter { node: None }; count];
            proto::Filter { node: Some(proto::filter::Node::Any(proto::FilterList { filters })) }
        };
        assert!(filter_in(Some(empty(4095))).is_ok());
        assert_eq!(filter_in(Some(empty(4096))).unwrap_err().reason, "FILTER_TOO_LARGE");
        let prefixes = |count| {
            let prefix = proto::filter::Node::DocumentIdPrefix("x".to_owned());
            let filters = vec![proto::Filter { node: Some(prefix) }; count];
            proto::Filter { node: Some(proto::filter::Node::Any(proto::FilterList { filters })) }
        };
        assert!(filter_in(Some(prefixes(256))).is_ok());
        assert_eq!(filter_in(Some(prefixes(257))).unwrap_err().reason, "FILTER_TOO_LARGE");
        let field = proto::FieldCondition { key: "k".to_owned(), test: None };
        let filter = proto::Filter { node: Some(proto::filter::Node::Field(field)) };
        let error = filter_in(Some(filter)).unwrap_err();
        assert_eq!(
            (error.reason, error.field.as_deref()),
            ("FILTER_WITHOUT_TEST", Some("filter.field.test"))
        );
    }

    #[test]
    fn times_before_the_epoch_keep_positive_nanos() {
        let t = timestamp(-1);
        assert_eq!((t.seconds, t.nanos), (-1, 999_999_999));
    }
}
