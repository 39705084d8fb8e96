//! Ways for `fuzz/` to the conversions of requests.

use prost::Message;

use super::{answer, collections, convert, documents, embedding, import, search, snapshots};
use crate::access::Caller;
use crate::proto;

/// Kinds of messages that [`request`] reads.
pub const KINDS: u8 = 11;

/// Decodes bytes as a message of a kind and converts it as its method does.
pub fn request(kind: u8, bytes: &[u8]) {
    let caller = Caller::anyone();
    match kind % KINDS {
        0 => with(bytes, |message: proto::SearchRequest| {
            let _ = super::collection_name(&caller, "collection", message.collection.clone());
            let _ = search::options_in(&message);
            let _ = search::query_in(message.query);
        }),
        1 => with(bytes, |message| drop(answer::request_in(&caller, message))),
        2 => with(bytes, |message: proto::UpsertDocumentsRequest| {
            message.documents.into_iter().for_each(|document| drop(documents::input_in(document)));
        }),
        3 => with(bytes, |message| drop(import::document_in(message))),
        4 => with(bytes, |message: proto::StoredPassages| {
            message.passages.into_iter().for_each(|passage| drop(import::passage_in(passage)));
        }),
        5 => with(bytes, |message| drop(embedding::options_in(&message))),
        6 => with(bytes, |message: proto::UpdateCollectionRequest| {
            let mask = message.update_mask.unwrap_or_default();
            let _ = collections::update_in(&message.collection.unwrap_or_default(), &mask.paths);
        }),
        7 => with(bytes, |message: proto::GenerateRequest| {
            if let Ok(messages) = answer::messages_in(message.messages, "messages") {
                let _ = answer::check_messages(&messages);
            }
            let _ = answer::sampling_in(message.sampling.unwrap_or_default());
        }),
        8 => with(bytes, |message: proto::CreateSnapshotRequest| {
            let _ = snapshots::names(&caller, "collections", message.collections);
            let _ = snapshots::snapshot_name(message.name);
        }),
        9 => with(bytes, |message: proto::ListSnapshotsRequest| {
            let _ = convert::page_size(message.page_size);
            let _ = snapshots::place_in(&message.page_token);
        }),
        _ => with(bytes, |message: proto::ListDocumentsRequest| {
            let _ = convert::page_size(message.page_size);
            let _ = convert::filter_in(message.filter);
            if let Ok(Some(last)) = convert::page_token_in(&message.page_token) {
                assert_eq!(convert::page_token_in(&convert::page_token_out(&last)).ok(), Some(Some(last)));
            }
        }),
    }
}

fn with<M: Message + Default>(bytes: &[u8], convert: impl FnOnce(M)) {
    if let Ok(message) = M::decode(bytes) {
        convert(message);
    }
}
