use std::sync::Arc;

use tonic::{Request, Response};

use super::search::check_ef_search;
use super::status::to_status;
use super::{Reply, blocking, caller, collection_name, convert};
use crate::catalog::{Catalog, CollectionUpdate, NewCollection};
use crate::domain::Language;
use crate::error::{Error, ErrorKind, Result};
use crate::proto;
use crate::store::CollectionRecord;

/// CollectionService.
pub struct Collections {
    /// Keeps the collections.
    pub catalog: Arc<Catalog>,
}

/// A collection as a message, with its documents and passages.
pub(super) fn out(catalog: &Catalog, record: &CollectionRecord, counts: (u64, u64)) -> proto::Collection {
    let (documents, passages) = counts;
    let options = catalog.index_options();
    // One that was deleted meanwhile has none.
    let tombstones = catalog.indexes(record).map_or(0, |indexes| indexes.tombstones());
    proto::Collection {
        name: record.name.clone(),
        description: record.description.clone(),
        model: format!("{}@{}", record.model_id, record.model_revision),
        dimensions: record.dimensions,
        hnsw: Some(proto::HnswConfig {
            m: options.m as u32,
            ef_construction: options.ef_construction as u32,
            ef_search: record.ef_search,
        }),
        chunking: Some(proto::ChunkingConfig {
            max_tokens: record.max_tokens,
            overlap_tokens: record.overlap_tokens,
        }),
        document_count: documents as i64,
        passage_count: passages as i64,
        tombstone_count: tombstones as i64,
        etag: record.etag.clone(),
        create_time: Some(convert::timestamp(record.create_time_ns)),
        update_time: Some(convert::timestamp(record.update_time_ns)),
        index_sentences: record.index_sentences,
        language: record.language().name().to_owned(),
    }
}

/// A collection that this call has made or changed, whatever has become of it since.
fn changed(catalog: &Catalog, record: &CollectionRecord) -> Result<proto::Collection> {
    let counts = match catalog.store().counts(record.cid) {
        Err(error) if error.kind == ErrorKind::NotFound => (0, 0),
        counts => counts?,
    };
    Ok(out(catalog, record, counts))
}

/// The collection that has a name now.
fn current(catalog: &Catalog, name: &str) -> Result<proto::Collection> {
    loop {
        let record = catalog.store().get_collection(name)?;
        match catalog.store().counts(record.cid) {
            // It was deleted or replaced since its record was read.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            counts => return Ok(out(catalog, &record, counts?)),
        }
    }
}

fn required(collection: Option<proto::Collection>) -> Result<proto::Collection> {
    let missing = || Error::invalid_field("collection", "EMPTY_REQUEST", "expected a collection, got none");
    collection.ok_or_else(missing)
}

fn language_in(name: &str) -> Result<Language> {
    Language::parse(name).map_err(|error| error.within("collection.language"))
}

/// Candidates while searching, of which zero means the default.
fn ef_search_in(hnsw: Option<&proto::HnswConfig>) -> Result<u32> {
    let ef = hnsw.map_or(0, |hnsw| hnsw.ef_search);
    if ef > 0 {
        check_ef_search("collection.hnsw.ef_search", ef)?;
    }
    Ok(ef)
}

pub(super) fn update_in(message: &proto::Collection, mask: &[String]) -> Result<CollectionUpdate> {
    let mut update = CollectionUpdate::default();
    for path in mask {
        match path.as_str() {
            "description" => update.description = Some(message.description.clone()),
            "hnsw.ef_search" => update.ef_search = Some(ef_search_in(message.hnsw.as_ref())?),
            "chunking" => {
                let chunking = message.chunking.unwrap_or_default();
                update.chunking = Some((chunking.max_tokens, chunking.overlap_tokens));
            }
            "language" => update.language = Some(language_in(&message.language)?),
            _ => {
                let message =
                    format!("expected description, hnsw.ef_search, chunking or language, got {path:?}");
                return Err(Error::invalid_field("update_mask", "BAD_UPDATE_MASK", message));
            }
        }
    }
    Ok(update)
}

#[tonic::async_trait]
impl proto::collection_service_server::CollectionService for Collections {
    async fn create_collection(
        &self,
        request: Request<proto::CreateCollectionRequest>,
    ) -> Reply<proto::CreateCollectionResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let message = required(request.into_inner().collection).map_err(to_status)?;
        let chunking = message.chunking.unwrap_or_default();
        let new = NewCollection {
            name: collection_name(&caller, "collection.name", message.name).map_err(to_status)?,
            description: message.description,
            model: message.model,
            dimensions: message.dimensions,
            max_tokens: chunking.max_tokens,
            overlap_tokens: chunking.overlap_tokens,
            ef_search: ef_search_in(message.hnsw.as_ref()).map_err(to_status)?,
            index_sentences: message.index_sentences,
            language: match message.language.as_str() {
                "" => Language::Auto,
                name => language_in(name).map_err(to_status)?,
            },
        };
        let catalog = self.catalog.clone();
        let record = blocking(move || catalog.create(new).map_err(|error| error.within("collection")))
            .await
            .map_err(to_status)?;
        let collection = Some(changed(&self.catalog, &record).map_err(to_status)?);
        Ok(Response::new(proto::CreateCollectionResponse { collection }))
    }

    async fn get_collection(
        &self,
        request: Request<proto::GetCollectionRequest>,
    ) -> Reply<proto::GetCollectionResponse> {
        let name = collection_name(&caller(&request).map_err(to_status)?, "name", request.into_inner().name)
            .map_err(to_status)?;
        let collection = Some(current(&self.catalog, name.as_str()).map_err(to_status)?);
        Ok(Response::new(proto::GetCollectionResponse { collection }))
    }

    async fn list_collections(
        &self,
        request: Request<proto::ListCollectionsRequest>,
    ) -> Reply<proto::ListCollectionsResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let request = request.into_inner();
        let size = convert::page_size(request.page_size).map_err(to_status)?;
        let after = convert::page_token_in(&request.page_token).map_err(to_status)?.unwrap_or_default();
        let mut names = self.catalog.store().collection_names().map_err(to_status)?;
        names.sort();
        names.retain(|name| *name > after && caller.may_reach(name));
        let more = names.len() > size;
        names.truncate(size);
        let next = names.last().filter(|_| more).map(|name| convert::page_token_out(name));
        let (mut collections, mut damaged) = (Vec::new(), Vec::new());
        for name in names {
            match current(&self.catalog, &name) {
                Ok(collection) => collections.push(collection),
                // Deleted since its name was read.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) if error.kind == ErrorKind::DataLoss => {
                    tracing::error!(collection = name, %error, "a collection is damaged");
                    damaged.push(name);
                }
                Err(error) => return Err(to_status(error)),
            }
        }
        let next_page_token = next.unwrap_or_default();
        Ok(Response::new(proto::ListCollectionsResponse { collections, next_page_token, damaged }))
    }

    async fn update_collection(
        &self,
        request: Request<proto::UpdateCollectionRequest>,
    ) -> Reply<proto::UpdateCollectionResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let request = request.into_inner();
        let message = required(request.collection).map_err(to_status)?;
        let name = collection_name(&caller, "collection.name", message.name.clone()).map_err(to_status)?;
        let update =
            update_in(&message, &request.update_mask.unwrap_or_default().paths).map_err(to_status)?;
        let catalog = self.catalog.clone();
        let record =
            blocking(move || catalog.update(&name, &message.etag, update)).await.map_err(to_status)?;
        Ok(Response::new(proto::UpdateCollectionResponse {
            collection: Some(changed(&self.catalog, &record).map_err(to_status)?),
        }))
    }

    async fn delete_collection(
        &self,
        request: Request<proto::DeleteCollectionRequest>,
    ) -> Reply<proto::DeleteCollectionResponse> {
        let caller = caller(&request).map_err(to_status)?;
        let request = request.into_inner();
        let name = collection_name(&caller, "name", request.name).map_err(to_status)?;
        let catalog = self.catalog.clone();
        blocking(move || catalog.delete(&name, &request.etag, request.force)).await.map_err(to_status)?;
        Ok(Response::new(proto::DeleteCollectionResponse {}))
    }

    async fn compact_collection(
        &self,
        request: Request<proto::CompactCollectionRequest>,
    ) -> Reply<proto::CompactCollectionResponse> {
        let name = collection_name(&caller(&request).map_err(to_status)?, "name", request.into_inner().name)
            .map_err(to_status)?;
        let dropped = self.catalog.compact(&name).await.map_err(to_status)?;
        Ok(Response::new(proto::CompactCollectionResponse { dropped_count: dropped as i64 }))
    }
}
