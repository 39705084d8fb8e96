use super::{Metadata, MetadataValue};

/// A boolean tree over a document's id and metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every child matches; an empty list matches everything.
    All(Vec<Filter>),
    /// At least one child matches; an empty list matches nothing.
    Any(Vec<Filter>),
    /// The child does not match.
    Not(Box<Filter>),
    /// A test of one metadata key.
    Field(String, Test),
    /// The document's id is one of these.
    DocumentIds(Vec<String>),
}

/// A test of one metadata value. A key that is absent fails every test but `Exists(false)`;
/// a list of strings passes when one of its strings does.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal to; numbers compare by value, whatever their type.
    Equals(MetadataValue),
    /// A string that is one of these.
    In(Vec<String>),
    /// A number or time (in seconds) within bounds.
    Range(RangeBounds),
    /// Present or absent.
    Exists(bool),
    /// A string that starts with this.
    Prefix(String),
}

/// Bounds; an unset bound is open.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RangeBounds {
    /// Greater than or equal.
    pub gte: Option<f64>,
    /// Greater than.
    pub gt: Option<f64>,
    /// Less than or equal.
    pub lte: Option<f64>,
    /// Less than.
    pub lt: Option<f64>,
}

impl RangeBounds {
    fn contains(&self, x: f64) -> bool {
        self.gte.is_none_or(|b| x >= b)
            && self.gt.is_none_or(|b| x > b)
            && self.lte.is_none_or(|b| x <= b)
            && self.lt.is_none_or(|b| x < b)
    }
}

impl Filter {
    /// Whether a document matches.
    pub fn matches(&self, document_id: &str, metadata: &Metadata) -> bool {
        match self {
            Filter::All(children) => children.iter().all(|c| c.matches(document_id, metadata)),
            Filter::Any(children) => children.iter().any(|c| c.matches(document_id, metadata)),
            Filter::Not(child) => !child.matches(document_id, metadata),
            Filter::Field(key, test) => test.passes(metadata.get(key)),
            Filter::DocumentIds(ids) => ids.iter().any(|id| id == document_id),
        }
    }
}

impl Test {
    fn passes(&self, value: Option<&MetadataValue>) -> bool {
        let Some(value) = value else {
            return matches!(self, Test::Exists(false));
        };
        match self {
            Test::Exists(wanted) => *wanted,
            Test::Equals(wanted) => equal(value, wanted),
            Test::In(wanted) => any_string(value, |s| wanted.iter().any(|w| w == s)),
            Test::Prefix(prefix) => any_string(value, |s| s.starts_with(prefix.as_str())),
            Test::Range(bounds) => number(value).is_some_and(|x| bounds.contains(x)),
        }
    }
}

fn number(value: &MetadataValue) -> Option<f64> {
    match value {
        MetadataValue::Int(i) => Some(*i as f64),
        MetadataValue::Double(d) => Some(*d),
        MetadataValue::Timestamp(seconds, nanos) => Some(*seconds as f64 + f64::from(*nanos) * 1e-9),
        _ => None,
    }
}

fn any_string(value: &MetadataValue, test: impl Fn(&str) -> bool) -> bool {
    match value {
        MetadataValue::String(s) => test(s),
        MetadataValue::StringList(list) => list.iter().any(|s| test(s)),
        _ => false,
    }
}

fn equal(value: &MetadataValue, wanted: &MetadataValue) -> bool {
    match (value, wanted) {
        (MetadataValue::Int(a), MetadataValue::Double(b))
        | (MetadataValue::Double(b), MetadataValue::Int(a)) => *a as f64 == *b,
        (MetadataValue::StringList(list), MetadataValue::String(s)) => list.contains(s),
        _ => value == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_combine_tests() {
        let metadata = Metadata::from([
            ("lang".to_owned(), MetadataValue::String("en".to_owned())),
            ("year".to_owned(), MetadataValue::Int(2021)),
            ("tags".to_owned(), MetadataValue::StringList(vec!["a".to_owned(), "bc".to_owned()])),
        ]);
        let field = |key: &str, test| Filter::Field(key.to_owned(), test);
        let matches = |filter: Filter| filter.matches("doc", &metadata);
        assert!(matches(field("lang", Test::Equals(MetadataValue::String("en".to_owned())))));
        assert!(matches(field("year", Test::Equals(MetadataValue::Double(2021.0)))));
        assert!(matches(field(
            "year",
            Test::Range(RangeBounds { gte: Some(2021.0), lt: Some(2022.0), ..Default::default() })
        )));
        assert!(!matches(field("year", Test::Range(RangeBounds { gt: Some(2021.0), ..Default::default() }))));
        assert!(matches(field("tags", Test::Prefix("b".to_owned()))));
        assert!(matches(field("none", Test::Exists(false))));
        assert!(!matches(field("none", Test::Prefix(String::new()))));
        assert!(matches(Filter::All(vec![])));
        assert!(!matches(Filter::Any(vec![])));
        assert!(matches(Filter::Not(Box::new(Filter::DocumentIds(vec!["other".to_owned()])))));
    }
}
