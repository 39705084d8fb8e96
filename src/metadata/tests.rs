use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::RangeBounds;

/// Documents by number; a document's id is made of it.
#[derive(Debug, Default)]
struct Documents(BTreeMap<u32, Metadata>);

fn id_of(number: u32) -> String {
    format!("{}/{number}", number % 3)
}

impl DocumentIds for Documents {
    fn number(&self, id: &str) -> Result<Option<u32>> {
        Ok(self.0.keys().copied().find(|number| id_of(*number) == id))
    }

    fn numbers(&self, prefix: &str, _: Cancelled<'_>) -> Result<RoaringBitmap> {
        Ok(self.0.keys().copied().filter(|number| id_of(*number).starts_with(prefix)).collect())
    }
}

impl Documents {
    fn index(&self) -> MetadataIndex {
        let mut index = MetadataIndex::default();
        self.0.iter().for_each(|(number, metadata)| index.insert(*number, metadata));
        index
    }

    /// What a filter matches, document by document.
    fn matching(&self, filter: &Filter) -> RoaringBitmap {
        let matches = |(number, metadata): &(&u32, &Metadata)| filter.matches(&id_of(**number), metadata);
        self.0.iter().filter(matches).map(|(number, _)| *number).collect()
    }
}

fn found(index: &MetadataIndex, documents: &Documents, filter: &Filter) -> RoaringBitmap {
    let resolved = ResolvedFilter::new(filter, documents, &|| false).unwrap();
    matching(&resolved, &|step| index.step(step), &|| false).unwrap()
}

fn string() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,3}", Just("\u{10ffff}".to_owned())]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-4i8..4).prop_map(|i| f64::from(i) / 2.0),
        Just((1u64 << 53) as f64),
        Just(f64::INFINITY),
        Just(f64::NAN),
    ]
}

fn value() -> impl Strategy<Value = MetadataValue> {
    prop_oneof![
        Just(MetadataValue::Null),
        string().prop_map(MetadataValue::String),
        prop_oneof![-2i64..3, Just((1i64 << 53) + 1), Just(i64::MAX)].prop_map(MetadataValue::Int),
        number().prop_map(MetadataValue::Double),
        any::<bool>().prop_map(MetadataValue::Bool),
        (-2i64..3, prop_oneof![Just(0), Just(500_000_000), Just(-1)])
            .prop_map(|(seconds, nanos)| MetadataValue::Timestamp(seconds, nanos)),
        proptest::collection::vec(string(), 0..3).prop_map(MetadataValue::StringList),
        proptest::collection::vec(-2i64..3, 0..3).prop_map(MetadataValue::IntList),
        proptest::collection::vec((-4i32..5).prop_map(|n| f64::from(n) / 2.0), 0..3)
            .prop_map(MetadataValue::DoubleList),
    ]
}

fn key() -> impl Strategy<Value = String> {
    "[xy]"
}

fn metadata() -> impl Strategy<Value = Metadata> {
    proptest::collection::btree_map(key(), value(), 0..3)
}

fn bounds<T: Clone + std::fmt::Debug>(
    of: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = RangeBounds<T>> {
    let one = || proptest::option::of(of.clone());
    (one(), one(), one(), one()).prop_map(|(gte, gt, lte, lt)| RangeBounds { gte, gt, lte, lt })
}

fn test() -> impl Strategy<Value = Test> {
    prop_oneof![
        3 => value().prop_map(Test::Equals),
        1 => proptest::collection::hash_set(string(), 0..4).prop_map(Test::In),
        2 => bounds(number().boxed()).prop_map(Test::Range),
        1 => bounds(string().boxed()).prop_map(Test::StringRange),
        1 => any::<bool>().prop_map(Test::Exists),
        1 => string().prop_map(Test::Prefix),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        6 => (key(), test()).prop_map(|(key, test)| Filter::Field(key, test)),
        1 => proptest::collection::vec(0u32..50, 0..4)
            .prop_map(|numbers| Filter::DocumentIds(numbers.into_iter().map(id_of).collect())),
        1 => "[0-3/]{0,2}".prop_map(Filter::DocumentIdPrefix),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::All),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Filter::Any),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

proptest! {
    #[test]
    fn the_index_finds_what_a_look_at_each_document_finds(
        writes in proptest::collection::vec((0u32..50, proptest::option::of(metadata())), 0..60),
        filters in proptest::collection::vec(filter(), 8),
    ) {
        let (mut documents, mut index) = (Documents::default(), MetadataIndex::default());
        for (number, metadata) in writes {
            if let Some(old) = documents.0.remove(&number) {
                index.remove(number, &old);
            }
            if let Some(new) = metadata {
                index.insert(number, &new);
                documents.0.insert(number, new);
            }
        }
        for filter in filters {
            prop_assert_eq!(found(&index, &documents, &filter), documents.matching(&filter), "{:?}", filter);
        }
        for (number, metadata) in std::mem::take(&mut documents.0) {
            index.remove(number, &metadata);
        }
        prop_assert!(index.documents.is_empty() && index.fields.is_empty(), "nothing is left behind");
    }
}

#[test]
fn ranges_over_values_that_are_all_different() {
    let value = |number: u32| Metadata::from([("n".to_owned(), MetadataValue::Int(i64::from(number)))]);
    let documents = Documents((0..5000).map(|number| (number, value(number))).collect());
    let index = documents.index();
    for (from, to) in [(10.0, 20.0), (0.5, 4999.0), (4000.0, 1e9), (1e9, 2e9)] {
        let bounds = RangeBounds { gte: Some(from), lt: Some(to), ..Default::default() };
        let filter = Filter::Field("n".to_owned(), Test::Range(bounds));
        assert_eq!(found(&index, &documents, &filter), documents.matching(&filter));
    }
}

#[test]
fn what_is_left_of_a_damaged_document_does_not_count() {
    let metadata = Metadata::from([("a".to_owned(), MetadataValue::Bool(true))]);
    let documents = Documents(BTreeMap::from([(1, metadata.clone()), (2, metadata)]));
    let mut index = documents.index();
    index.remove(2, &Metadata::new());
    let exists = Filter::Field("a".to_owned(), Test::Exists(true));
    assert_eq!(found(&index, &documents, &exists), RoaringBitmap::from_iter([1]));
}
