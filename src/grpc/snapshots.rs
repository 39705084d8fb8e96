//! The calls on snapshots.

use std::sync::Arc;

use super::{cancellable, collection_name, convert};
use crate::access::Caller;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::proto;
use crate::store::{SnapshotInfo, SnapshotName};

pub(super) async fn create(
    catalog: Arc<Catalog>,
    caller: &Caller,
    request: proto::CreateSnapshotRequest,
) -> Result<proto::CreateSnapshotResponse> {
    let name = match request.name.as_str() {
        "" => None,
        _ => Some(snapshot_name(request.name)?),
    };
    let collections = names(caller, "collections", request.collections)?;
    let info = cancellable(move |is_cancelled| {
        let name = name.map_or_else(|| catalog.store().free_snapshot_name(""), Ok)?;
        catalog.store().create_snapshot(&name, &collections, false, is_cancelled)
    });
    Ok(proto::CreateSnapshotResponse { snapshot: Some(out(&info.await?)) })
}

pub(super) async fn list(
    catalog: Arc<Catalog>,
    request: proto::ListSnapshotsRequest,
) -> Result<proto::ListSnapshotsResponse> {
    let size = convert::page_size(request.page_size)?;
    let after = convert::page_token_in(&request.page_token)?.map(|token| place_in(&token)).transpose()?;
    let all = cancellable(move |_| catalog.store().snapshots()).await?;
    let is_later =
        |info: &&SnapshotInfo| after.as_ref().is_none_or(|(time, name)| place(info) < (*time, name.as_str()));
    let mut rest = all.iter().filter(is_later);
    let page: Vec<&SnapshotInfo> = rest.by_ref().take(size).collect();
    let is_more = rest.next().is_some();
    let next = page.last().filter(|_| is_more).map(|last| {
        let (time, name) = place(last);
        convert::page_token_out(&format!("{time}:{name}"))
    });
    Ok(proto::ListSnapshotsResponse {
        snapshots: page.into_iter().map(out).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

/// Where a snapshot stands in the list, which goes from the greatest to the least.
fn place(info: &SnapshotInfo) -> (i64, &str) {
    (info.create_time_ns, info.name.as_str())
}

pub(super) async fn verify(
    catalog: Arc<Catalog>,
    request: proto::VerifySnapshotRequest,
) -> Result<proto::VerifySnapshotResponse> {
    let name = snapshot_name(request.name)?;
    let info = cancellable(move |is_cancelled| catalog.store().verify_snapshot(&name, is_cancelled)).await?;
    Ok(proto::VerifySnapshotResponse { snapshot: Some(out(&info)) })
}

pub(super) async fn restore(
    catalog: Arc<Catalog>,
    caller: &Caller,
    request: proto::RestoreSnapshotRequest,
) -> Result<proto::RestoreSnapshotResponse> {
    let name = snapshot_name(request.name)?;
    let collections = names(caller, "collections", request.collections)?;
    cancellable(move |is_cancelled| {
        let restored = catalog.restore(&name, &collections, is_cancelled)?;
        let missing_models = catalog.missing_models(&restored);
        let collections = restored.into_iter().map(|record| record.name).collect();
        Ok(proto::RestoreSnapshotResponse { collections, missing_models })
    })
    .await
}

pub(super) async fn delete(
    catalog: Arc<Catalog>,
    request: proto::DeleteSnapshotRequest,
) -> Result<proto::DeleteSnapshotResponse> {
    let name = snapshot_name(request.name)?;
    cancellable(move |_| catalog.store().delete_snapshot(&name)).await?;
    Ok(proto::DeleteSnapshotResponse {})
}

pub(super) fn snapshot_name(name: String) -> Result<SnapshotName> {
    SnapshotName::new(name).map_err(|error| error.within("name"))
}

pub(super) fn names(caller: &Caller, field: &str, names: Vec<String>) -> Result<Vec<String>> {
    let checked =
        |(index, name)| Ok(collection_name(caller, &format!("{field}[{index}]"), name)?.as_str().to_owned());
    names.into_iter().enumerate().map(checked).collect()
}

/// The place that a page token names.
pub(super) fn place_in(token: &str) -> Result<(i64, String)> {
    let parts = token.split_once(':').and_then(|(time, name)| Some((time.parse().ok()?, name.to_owned())));
    parts.ok_or_else(|| {
        Error::invalid_field("page_token", "BAD_PAGE_TOKEN", "expected the token of the page before")
    })
}

fn out(info: &SnapshotInfo) -> proto::Snapshot {
    let is_readable = info.problem.is_none();
    proto::Snapshot {
        name: info.name.as_str().to_owned(),
        collections: info.collections.clone(),
        size_bytes: info.size_bytes as i64,
        checksum: if is_readable {
            blake3::Hash::from_bytes(info.blake3).to_hex().to_string()
        } else {
            String::new()
        },
        create_time: is_readable.then(|| convert::timestamp(info.create_time_ns)),
        scheduled: info.is_scheduled,
        document_count: info.documents as i64,
        passage_count: info.passages as i64,
        left_out_count: info.left_out as i64,
        problem: info.problem.clone().unwrap_or_default(),
        damaged_collections: info.damaged_collections.clone(),
    }
}
