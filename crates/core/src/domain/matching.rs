//! Whether one document passes a filter.
//!
//! Lists are sets on both sides where they are long, so that a look takes about as long as the filter and the document's
//! metadata are large together, not as one times the other.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::{self, RangeBounds as _};
use std::rc::Rc;

use super::{Filter, Limits, Metadata, MetadataValue, Number, Test, Time};

/// A document's list of at most so many strings is gone through; a longer one is made a set.
const FEW: usize = 16;

impl Filter {
    /// Whether a document matches.
    pub fn matches(&self, document_id: &str, metadata: &Metadata) -> bool {
        Document { id: document_id, metadata, sets: RefCell::default() }.passes(self)
    }
}

/// What is looked at.
struct Document<'a> {
    id: &'a str,
    metadata: &'a Metadata,
    /// Long lists as sets, by their keys, once a test has needed them.
    sets: RefCell<HashMap<&'a str, Rc<HashSet<&'a str>>>>,
}

impl<'a> Document<'a> {
    fn passes(&self, filter: &Filter) -> bool {
        match filter {
            Filter::All(children) => children.iter().all(|child| self.passes(child)),
            Filter::Any(children) => children.iter().any(|child| self.passes(child)),
            Filter::Not(child) => !self.passes(child),
            Filter::Field(key, test) => match self.metadata.get_key_value(key) {
                Some((key, value)) => self.value_passes(key, value, test),
                None => matches!(test, Test::Exists(false)),
            },
            Filter::DocumentIds(ids) => ids.contains(self.id),
            Filter::DocumentIdPrefix(prefix) => self.id.starts_with(prefix.as_str()),
        }
    }

    fn value_passes(&self, key: &'a str, value: &'a MetadataValue, test: &Test) -> bool {
        match test {
            Test::Exists(wanted) => *wanted,
            Test::Equals(wanted) => self.equal(key, value, wanted),
            Test::In(wanted) => match value {
                MetadataValue::String(string) => wanted.contains(string),
                MetadataValue::StringList(list) if list.len() <= FEW.max(wanted.len()) => {
                    list.iter().any(|string| wanted.contains(string))
                }
                MetadataValue::StringList(list) => {
                    let set = self.set_of(key, list);
                    wanted.iter().any(|string| set.contains(string.as_str()))
                }
                _ => false,
            },
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
                    let mut numbers = Number::all_of(value).peekable();
                    numbers.peek()?;
                    Some(numbers.any(|number| limits.contains(&number)))
                };
                let within_times = || {
                    let limits = bounds.limits(|bound| Time::from_seconds(*bound))?;
                    Some(limits.contains(&Time::of(value)?))
                };
                within_numbers().or_else(within_times).unwrap_or(false)
            }
        }
    }

    fn equal(&self, key: &'a str, value: &'a MetadataValue, wanted: &MetadataValue) -> bool {
        if let Some(wanted) = Number::of(wanted) {
            return Number::all_of(value).any(|number| number == wanted);
        }
        if let (Some(value), Some(wanted)) = (Time::of(value), Time::of(wanted)) {
            return value == wanted;
        }
        match (value, wanted) {
            (
                MetadataValue::IntList(_) | MetadataValue::DoubleList(_),
                MetadataValue::IntList(_) | MetadataValue::DoubleList(_),
            ) => Number::all_of(value).eq(Number::all_of(wanted)),
            (MetadataValue::StringList(list), MetadataValue::String(s)) if list.len() <= FEW => {
                list.contains(s)
            }
            (MetadataValue::StringList(list), MetadataValue::String(s)) => {
                self.set_of(key, list).contains(s.as_str())
            }
            _ => value == wanted,
        }
    }

    fn set_of(&self, key: &'a str, list: &'a [String]) -> Rc<HashSet<&'a str>> {
        let mut sets = self.sets.borrow_mut();
        sets.entry(key).or_insert_with(|| Rc::new(list.iter().map(String::as_str).collect())).clone()
    }
}

fn any_string(value: &MetadataValue, test: impl Fn(&str) -> bool) -> bool {
    match value {
        MetadataValue::String(s) => test(s),
        MetadataValue::StringList(list) => list.iter().any(|s| test(s)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::RangeBounds;

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
        assert!(matches(Filter::Not(Box::new(Filter::DocumentIds(HashSet::from(["other".to_owned()]))))));
    }

    /// The same by going through every list for every test.
    fn naive(filter: &Filter, id: &str, metadata: &Metadata) -> bool {
        match filter {
            Filter::All(children) => children.iter().all(|child| naive(child, id, metadata)),
            Filter::Any(children) => children.iter().any(|child| naive(child, id, metadata)),
            Filter::Not(child) => !naive(child, id, metadata),
            Filter::DocumentIds(ids) => ids.iter().any(|other| other == id),
            Filter::DocumentIdPrefix(prefix) => id.starts_with(prefix.as_str()),
            Filter::Field(key, test) => {
                let strings: Vec<&String> = match metadata.get(key) {
                    Some(MetadataValue::String(string)) => vec![string],
                    Some(MetadataValue::StringList(list)) => list.iter().collect(),
                    _ => Vec::new(),
                };
                match test {
                    Test::Exists(wanted) => metadata.contains_key(key) == *wanted,
                    Test::Equals(MetadataValue::String(wanted)) => strings.contains(&wanted),
                    Test::Equals(wanted) => metadata.get(key) == Some(wanted),
                    Test::In(wanted) => strings.iter().any(|string| wanted.iter().any(|w| w == *string)),
                    Test::Prefix(prefix) => strings.iter().any(|string| string.starts_with(prefix.as_str())),
                    Test::Range(_) | Test::StringRange(_) => unreachable!("not made here"),
                }
            }
        }
    }

    fn word() -> impl Strategy<Value = String> {
        (0u32..60).prop_map(|n| format!("w{n}"))
    }

    fn filter() -> impl Strategy<Value = Filter> {
        let list = || proptest::collection::hash_set(word(), 0..40);
        let test = prop_oneof![
            list().prop_map(Test::In),
            word().prop_map(|word| Test::Equals(MetadataValue::String(word))),
            proptest::collection::vec(word(), 0..3)
                .prop_map(|list| Test::Equals(MetadataValue::StringList(list))),
            any::<bool>().prop_map(Test::Exists),
            "w[0-9]{0,2}".prop_map(Test::Prefix),
        ];
        let leaf = prop_oneof![
            4 => ("[xyz]", test).prop_map(|(key, test)| Filter::Field(key, test)),
            1 => list().prop_map(Filter::DocumentIds),
            1 => "w[0-9]{0,2}".prop_map(Filter::DocumentIdPrefix),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::All),
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::Any),
                inner.prop_map(|filter| Filter::Not(Box::new(filter))),
            ]
        })
    }

    proptest! {
        #[test]
        fn sets_tell_what_going_through_lists_tells(
            filter in filter(), id in word(),
            short in proptest::collection::vec(word(), 0..4),
            long in proptest::collection::vec(word(), 0..60),
        ) {
            let metadata: Metadata = BTreeMap::from([
                ("x".to_owned(), MetadataValue::StringList(short)),
                ("y".to_owned(), MetadataValue::StringList(long)),
            ]);
            prop_assert_eq!(filter.matches(&id, &metadata), naive(&filter, &id, &metadata));
        }
    }

    #[test]
    fn a_look_takes_no_longer_than_filter_and_lists_are_long_together() {
        // Going through one for each of the other would take two thousand million comparisons, and as many again for the
        // many small tests: minutes, in a build without optimization.
        let many = |from: u32, to: u32| (from..to).map(|n| format!("value number {n}"));
        let metadata: Metadata =
            BTreeMap::from([("tags".to_owned(), MetadataValue::StringList(many(0, 60_000).collect()))]);
        let field = |test| Filter::Field("tags".to_owned(), test);
        let none = Filter::Not(Box::new(field(Test::In(many(60_000, 100_000).collect()))));
        assert!(none.matches("d", &metadata));
        let small = |n: u32| {
            let pair = HashSet::from([format!("no {n}"), format!("nor {n}")]);
            [field(Test::In(pair)), field(Test::Equals(MetadataValue::String(format!("none {n}"))))]
        };
        assert!(!Filter::Any((0..20_000).flat_map(small).collect()).matches("d", &metadata));
    }
}
