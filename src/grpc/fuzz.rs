//! Ways for `fuzz/` to the conversions of requests.

use bytes::BytesMut;
use prost::Message;

use super::{answer, collections, convert, documents, embedding, import, search, snapshots, weight};
use crate::access::Caller;
use crate::proto;
use crate::room::AnswerRoom;

/// Kinds of messages that [`request`] reads.
pub const KINDS: u8 = 14;

/// The most memory that a message of a kind takes when it is decoded, as the server tells it from its bytes; `None` where
/// it refuses the message unread.
pub fn weight(kind: u8, bytes: &[u8]) -> Option<usize> {
    weight::weigh_any(name(kind), bytes).ok().map(|weight| weight.bytes)
}

/// Decodes a message of a kind, out of the kind of buffer that the transport has.
pub fn decode(kind: u8, bytes: BytesMut) -> bool {
    fn is_one<M: Message + Default>(bytes: BytesMut) -> bool {
        M::decode(bytes).is_ok()
    }
    match kind % KINDS {
        0 => is_one::<proto::SearchRequest>(bytes),
        1 => is_one::<proto::AnswerRequest>(bytes),
        2 => is_one::<proto::UpsertDocumentsRequest>(bytes),
        3 => is_one::<proto::StoredDocument>(bytes),
        4 => is_one::<proto::StoredPassages>(bytes),
        5 => is_one::<proto::EmbedOptions>(bytes),
        6 => is_one::<proto::UpdateCollectionRequest>(bytes),
        7 => is_one::<proto::GenerateRequest>(bytes),
        8 => is_one::<proto::CreateSnapshotRequest>(bytes),
        9 => is_one::<proto::ListSnapshotsRequest>(bytes),
        10 => is_one::<proto::ListDocumentsRequest>(bytes),
        11 => is_one::<proto::BatchSearchRequest>(bytes),
        12 => is_one::<proto::IngestDocumentsRequest>(bytes),
        _ => is_one::<proto::ClassifyRequest>(bytes),
    }
}

fn name(kind: u8) -> &'static str {
    match kind % KINDS {
        0 => "trove.v1.SearchRequest",
        1 => "trove.v1.AnswerRequest",
        2 => "trove.v1.UpsertDocumentsRequest",
        3 => "trove.v1.StoredDocument",
        4 => "trove.v1.StoredPassages",
        5 => "trove.v1.EmbedOptions",
        6 => "trove.v1.UpdateCollectionRequest",
        7 => "trove.v1.GenerateRequest",
        8 => "trove.v1.CreateSnapshotRequest",
        9 => "trove.v1.ListSnapshotsRequest",
        10 => "trove.v1.ListDocumentsRequest",
        11 => "trove.v1.BatchSearchRequest",
        12 => "trove.v1.IngestDocumentsRequest",
        _ => "trove.v1.ClassifyRequest",
    }
}

fn read_search(caller: &Caller, mut message: proto::SearchRequest) {
    let _ = super::collection_name(caller, "collection", message.collection.clone());
    let _ = search::options_in(&mut message, AnswerRoom::unbounded());
    let _ = search::query_in(message.query);
}

/// Decodes bytes as a message of a kind and converts it as its method does.
pub fn request(kind: u8, bytes: &[u8]) {
    let caller = Caller::anyone();
    match kind % KINDS {
        0 => with(bytes, |message: proto::SearchRequest| read_search(&caller, message)),
        1 => with(bytes, |message| drop(answer::request_in(&caller, message, AnswerRoom::unbounded()))),
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
        10 => with(bytes, |message: proto::ListDocumentsRequest| {
            let _ = convert::page_size(message.page_size);
            let _ = convert::filter_in(message.filter);
            if let Ok(Some(last)) = convert::page_token_in(&message.page_token) {
                assert_eq!(convert::page_token_in(&convert::page_token_out(&last)).ok(), Some(Some(last)));
            }
        }),
        11 => with(bytes, |message: proto::BatchSearchRequest| {
            message.requests.into_iter().for_each(|request| read_search(&caller, request));
        }),
        12 => with(bytes, |message: proto::IngestDocumentsRequest| {
            if let Some(proto::ingest_documents_request::Part::Document(document)) = message.part {
                let _ = documents::input_in(document);
            }
        }),
        _ => with(bytes, |_: proto::ClassifyRequest| {}),
    }
}

fn with<M: Message + Default>(bytes: &[u8], convert: impl FnOnce(M)) {
    if let Ok(message) = M::decode(bytes) {
        convert(message);
    }
}
