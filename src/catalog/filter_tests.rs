use std::sync::Arc;

use super::{Catalog, Filters};
use crate::domain::{Filter, Metadata, MetadataValue, Test};
use crate::encoder::Encoders;
use crate::error::Result;
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
            filters.matching(&store, cid, &filter, &|| false).unwrap().0.iter().collect()
        };
        assert!(found(kind("x")).is_empty());
        assert_eq!(found(kind("y")), [third, first]);
        assert_eq!(found(kind("z")), [second]);
        assert_eq!(found(Filter::Not(Box::new(kind("y")))), [second]);
        assert_eq!(found(Filter::DocumentIdPrefix("a/".to_owned())), [second, first]);
        assert_eq!(found(Filter::DocumentIds(vec!["b/3".to_owned(), "no".to_owned()])), [third]);
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
    let listed = |filter: Option<Filter>, size: usize| {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map(String::as_str);
            let (page, more) = catalog.page(cid, after, size, filter.as_ref()).unwrap();
            assert!(page.len() == size || !more);
            all.extend(page.into_iter().map(|document| document.id));
            if !more {
                return all;
            }
        }
    };
    for size in [1, 10, 56, 100] {
        let all = listed(None, size);
        assert_eq!((all.len(), all[0].as_str(), all[55].as_str()), (56, "d00", "d59"));
        assert_eq!(listed(Some(kind("few")), size), ["d00"]);
        assert_eq!(listed(Some(kind("many")), size).len(), 55);
        // The numbers of damaged documents are not known, so such filters are tried on each document.
        assert_eq!(listed(Some(Filter::DocumentIdPrefix("d1".to_owned())), size).len(), 8);
        let named = ["d01", "d02", "d38"].map(str::to_owned).to_vec();
        assert_eq!(listed(Some(Filter::DocumentIds(named)), size), ["d02", "d38"]);
    }
}
