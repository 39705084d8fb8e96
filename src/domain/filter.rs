use std::ops::{self, Bound, RangeBounds as _};

use super::{Metadata, MetadataValue, Number, Time};

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
    /// The document's id starts with this.
    DocumentIdPrefix(String),
}

/// A test of one metadata value. A key that is absent fails every test but `Exists(false)`; a list of strings
/// passes when one of its strings does. A value of another type than the test's passes none.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal to; numbers compare by value, whatever their type.
    Equals(MetadataValue),
    /// A string that is one of these.
    In(Vec<String>),
    /// A number or time (in seconds) within bounds.
    Range(RangeBounds<f64>),
    /// A string within bounds, by the bytes of its UTF-8.
    StringRange(RangeBounds<String>),
    /// Present or absent.
    Exists(bool),
    /// A string that starts with this.
    Prefix(String),
}

/// Bounds; an unset bound is open.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RangeBounds<T> {
    /// Greater than or equal.
    pub gte: Option<T>,
    /// Greater than.
    pub gt: Option<T>,
    /// Less than or equal.
    pub lte: Option<T>,
    /// Less than.
    pub lt: Option<T>,
}

/// The lower and the upper bound of a range that is not empty.
pub type Limits<K> = (Bound<K>, Bound<K>);

impl<T> RangeBounds<T> {
    /// The tighter bounds of each side in the order of `key`; `None` where nothing is within them, or a bound has
    /// no key.
    pub fn limits<'a, K: Ord + Copy>(&'a self, key: impl Fn(&'a T) -> Option<K>) -> Option<Limits<K>> {
        let key = |bound: &'a Option<T>| match bound {
            None => Some(None),
            Some(bound) => key(bound).map(Some),
        };
        let lower = match (key(&self.gte)?, key(&self.gt)?) {
            (Some(gte), Some(gt)) if gte > gt => Bound::Included(gte),
            (_, Some(gt)) => Bound::Excluded(gt),
            (Some(gte), None) => Bound::Included(gte),
            (None, None) => Bound::Unbounded,
        };
        let upper = match (key(&self.lte)?, key(&self.lt)?) {
            (Some(lte), Some(lt)) if lte < lt => Bound::Included(lte),
            (_, Some(lt)) => Bound::Excluded(lt),
            (Some(lte), None) => Bound::Included(lte),
            (None, None) => Bound::Unbounded,
        };
        let is_empty = match (lower, upper) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
                from >= to
            }
            _ => false,
        };
        (!is_empty).then_some((lower, upper))
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
            Filter::DocumentIdPrefix(prefix) => document_id.starts_with(prefix.as_str()),
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
            Test::StringRange(bounds) => {
                let limits: Option<Limits<&str>> = bounds.limits(|bound| Some(bound.as_str()));
                let within =
                    |s: &str| limits.is_some_and(|limits| ops::RangeBounds::<str>::contains(&limits, s));
                any_string(value, within)
            }
            Test::Range(bounds) => {
                let within_numbers = || {
                    let limits = bounds.limits(|bound| Number::from_double(*bound))?;
                    Some(limits.contains(&Number::of(value)?))
                };
                let within_times = || {
                    let limits = bounds.limits(|bound| Time::from_seconds(*bound))?;
                    Some(limits.contains(&Time::of(value)?))
                };
                within_numbers().or_else(within_times).unwrap_or(false)
            }
        }
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
    if let (Some(value), Some(wanted)) = (Number::of(value), Number::of(wanted)) {
        return value == wanted;
    }
    if let (Some(value), Some(wanted)) = (Time::of(value), Time::of(wanted)) {
        return value == wanted;
    }
    match (value, wanted) {
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
        let strings = |gte: &str, lt: &str| RangeBounds {
            gte: Some(gte.to_owned()),
            lt: Some(lt.to_owned()),
            ..Default::default()
        };
        assert!(matches(field("lang", Test::StringRange(strings("e", "f")))));
        assert!(matches(field("tags", Test::StringRange(strings("bc", "bd")))));
        assert!(!matches(field("lang", Test::StringRange(strings("f", "e")))));
        assert!(!matches(field("year", Test::StringRange(strings("", "z")))), "types do not mix");
        let nan = RangeBounds { gte: Some(f64::NAN), ..Default::default() };
        assert!(!matches(field("year", Test::Range(nan))));
        assert!(matches(Filter::DocumentIdPrefix("do".to_owned())));
        assert!(matches(Filter::All(vec![])));
        assert!(!matches(Filter::Any(vec![])));
        assert!(matches(Filter::Not(Box::new(Filter::DocumentIds(vec!["other".to_owned()])))));
    }
}
