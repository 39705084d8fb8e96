use std::sync::Arc;

use super::{Catalog, Filters};
use crate::domain::{CollectionName, Filter, Metadata, MetadataValue, Test};
use crate::encoder::Encoders;
use crate::error::{ErrorKind, Result};
use crate::index::IndexOptions;
use crate::store::{
    CollectionRecord, CommitListener, Committed, DocumentUpdate, NewDocument, Store, StoreOptions,
};

struct Follower(Arc<Filters>);

impl CommitListener for Follower {
    fn committed(&self, event: &Committed) -> Result<()> {
        self.0.apply(event);
        Ok(())
    }
}

fn metadata(kind: &str) -> Metadata {
    Metadata::from([("kind".to_owned(), MetadataValue::String(kind.to_owned()))])
}

fn kind(kind: &str) -> Filter {
    Filter::Field("kind".to_owned(), Test::Equals(MetadataValue::String(kind.to_owned())))
}

#[tokio::test]
async fn filters_follow_the_store_and_are_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 64, ..StoreOptions::default() };
    let store = Store::open(dir.path(), options).unwrap();
    let record = CollectionRecord { name: "a".to_owned(), dimensions: 2, ..CollectionRecord::default() };
    let cid = store.create_collection(record).unwrap().cid;
    let filters = Arc::new(Filters::open(&store, cid).unwrap());
    store.set_listener(Arc::new(Follower(filters.clone())));
    let put = async |id: &str, kind: &str| {
        let document = NewDocument { id: id.to_owned(), metadata: metadata(kind), ..NewDocument::default() };
        store.upsert(cid, document).await.unwrap().doc_no
    };
    put("a/1", "x").await;
    let second = put("a/2", "x").await;
    let third = put("b/3", "y").await;
    // One is replaced, one described anew, one deleted.
    let first = put("a/1", "y").await;
    let update = DocumentUpdate {
        id: "a/2".to_owned(),
        doc_no: second,
        metadata: metadata("z"),
        ..DocumentUpdate::default()
    };
    store.update_document(cid, update).await.unwrap().unwrap();
    let gone = put("a/4", "z").await;
    store.delete_documents(cid, vec!["a/4".to_owned()]).await.unwrap();
    assert!(gone > first);
    for filters in [filters, Arc::new(Filters::open(&store, cid).unwrap())] {
        let found = |filter: Filter| -> Vec<u32> {
            filters.matching(&store, cid, &filter, &|| false).unwrap().documents.iter().collect()
        };
        assert!(found(kind("x")).is_empty());
        assert_eq!(found(kind("y")), [third, first]);
        assert_eq!(found(kind("z")), [second]);
        assert_eq!(found(Filter::Not(Box::new(kind("y")))), [second]);
        assert_eq!(found(Filter::DocumentIdPrefix("a/".to_owned())), [second, first]);
        assert_eq!(found(Filter::DocumentIds(["b/3", "no"].map(str::to_owned).into())), [third]);
    }
}

#[tokio::test]
async fn damaged_documents_do_not_end_a_listing() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 64, ..StoreOptions::default() };
    let store = Arc::new(Store::open(dir.path(), options).unwrap());
    let record = CollectionRecord { name: "a".to_owned(), dimensions: 2, ..CollectionRecord::default() };
    let cid = store.create_collection(record).unwrap().cid;
    let catalog =
        Catalog::open(store.clone(), dir.path(), Encoders::none(), IndexOptions::default()).unwrap();
    for n in 0..60 {
        let kind = if n < 2 { "few" } else { "many" };
        let document =
            NewDocument { id: format!("d{n:02}"), metadata: metadata(kind), ..NewDocument::default() };
        store.upsert(cid, document).await.unwrap();
    }
    ["d01", "d10", "d11", "d39"].iter().for_each(|id| store.damage_document(cid, id));
    let reading = catalog.read(&CollectionName::new("a").unwrap()).unwrap();
    // Ids of those that can be read, and of those that cannot.
    let listed_all = |filter: Option<Filter>, size: usize| {
        let (mut all, mut damaged): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut after: Option<String> = None;
        loop {
            let page = catalog.page(&reading, after.as_deref(), size, filter.as_ref(), &|| false).unwrap();
            assert!(page.documents.len() == size || !page.is_more);
            for document in page.documents {
                let id = match document {
                    Ok(document) => document.id,
                    Err(document) => {
                        damaged.push(document.id.clone());
                        after = Some(document.id);
                        continue;
                    }
                };
                all.push(id.clone());
                after = Some(id);
            }
            if !page.is_more {
                return (all, damaged);
            }
        }
    };
    let listed = |filter, size| listed_all(filter, size).0;
    for size in [1, 10, 56, 100] {
        let all = listed(None, size);
        assert_eq!((all.len(), all[0].as_str(), all[55].as_str()), (56, "d00", "d59"));
        assert_eq!(listed(Some(kind("few")), size), ["d00"]);
        assert_eq!(listed(Some(kind("many")), size).len(), 55);
        // The numbers of damaged documents are not known, so such filters are tried on each document.
        assert_eq!(listed(Some(Filter::DocumentIdPrefix("d1".to_owned())), size).len(), 8);
        let named = Filter::DocumentIds(["d01", "d02", "d38"].map(str::to_owned).into());
        assert_eq!(
            listed_all(Some(named), size),
            (vec!["d02".to_owned(), "d38".to_owned()], vec!["d01".to_owned()])
        );
        assert_eq!(listed_all(None, size).1, ["d01", "d10", "d11", "d39"], "they are named");
    }
    assert_eq!(
        catalog.page(&reading, None, 9, Some(&kind("many")), &|| true).unwrap_err().kind,
        ErrorKind::Cancelled
    );
}

#[tokio::test]
async fn damage_does_not_end_a_deletion_and_nothing_damaged_is_taken_to_match() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 16 << 20, queue: 64, ..StoreOptions::default() };
    let store = Arc::new(Store::open(dir.path(), options).unwrap());
    let record = CollectionRecord { name: "a".to_owned(), dimensions: 2, ..CollectionRecord::default() };
    let cid = store.create_collection(record).unwrap().cid;
    let name = CollectionName::new("a").unwrap();
    let catalog =
        Catalog::open(store.clone(), dir.path(), Encoders::none(), IndexOptions::default()).unwrap();
    let mut numbers = Vec::new();
    for n in 0..600 {
        let kind = if n % 2 == 0 { "even" } else { "odd" };
        let document =
            NewDocument { id: format!("d{n:03}"), metadata: metadata(kind), ..NewDocument::default() };
        numbers.push(store.upsert(cid, document).await.unwrap().doc_no);
    }
    // One whose number is damaged is found by its record; of one whose record is damaged nobody knows what it is.
    store.damage_number(cid, numbers[4]);
    ["d006", "d007"].iter().for_each(|id| store.damage_document(cid, id));
    let deletion = catalog.delete_matching(&name, Filter::Not(Box::new(kind("odd")))).await.unwrap();
    let damaged: Vec<&str> = deletion.damaged.iter().map(|document| document.id.as_str()).collect();
    assert_eq!((deletion.deleted, damaged.contains(&"d006")), (299, true), "{damaged:?}");
    assert!(store.document(cid, "d004").unwrap().is_none());
    assert!(store.document(cid, "d006").is_err(), "it is there still");
    assert_eq!(store.counts(cid).unwrap().0, 301);
    let both = Filter::DocumentIds(["d006", "d007"].map(str::to_owned).into());
    assert_eq!(catalog.delete_matching(&name, both).await.unwrap().deleted, 2, "named by id they go");
    let unknown = CollectionName::new("b").unwrap();
    let error = catalog.delete_matching(&unknown, kind("odd")).await.unwrap_err();
    assert_eq!(error.reason, "UNKNOWN_COLLECTION");
}

#[tokio::test]
async fn what_is_written_while_a_filter_is_asked_is_taken_to_match() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let record = CollectionRecord { name: "a".to_owned(), dimensions: 2, ..CollectionRecord::default() };
    let cid = store.create_collection(record).unwrap().cid;
    let filters = Arc::new(Filters::open(&store, cid).unwrap());
    store.set_listener(Arc::new(Follower(filters.clone())));
    let put = |id: &str, kind: &str| NewDocument {
        id: id.to_owned(),
        metadata: metadata(kind),
        ..NewDocument::default()
    };
    store.upsert(cid, put("a", "y")).await.unwrap();
    // Between the two halves the document goes from one to the other: it matches all the time.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let write = || {
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 5 {
            std::thread::scope(|scope| {
                scope.spawn(|| futures::executor::block_on(store.upsert(cid, put("a", "x"))).unwrap());
            });
        }
        false
    };
    let filter = Filter::Any(vec![kind("x"), kind("y")]);
    let found = filters.matching(&store, cid, &filter, &write).unwrap();
    let now = store.document(cid, "a").unwrap().unwrap().doc_no;
    assert_eq!(asked.into_inner(), 6, "the write came between the two halves");
    assert!(found.documents.contains(now));
}
