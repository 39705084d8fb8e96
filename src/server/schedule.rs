//! Snapshots by schedule.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::catalog::Catalog;
use crate::config::SnapshotsConfig;
use crate::error::{Error, Result};
use crate::grpc::Stop;

/// How often it is looked whether a snapshot is due: clocks may be set, and machines may sleep.
const LOOK: Duration = Duration::from_secs(60);
/// What the names of scheduled snapshots begin with.
const BEGINNING: &str = "scheduled-";

/// Makes snapshots until the server stops. Returns at once where none are wanted.
pub async fn run(catalog: Arc<Catalog>, config: SnapshotsConfig, stop: Stop) {
    if config.interval_hours == 0 {
        return;
    }
    loop {
        let (catalog, config, asked) = (catalog.clone(), config.clone(), stop.clone());
        let made = tokio::task::spawn_blocking(move || make(&catalog, &config, &|| asked.has_begun())).await;
        let made =
            made.unwrap_or_else(|e| Err(Error::internal("TASK_FAILED", "the task failed").with_source(e)));
        if let Err(error) = made {
            tracing::error!(%error, "a scheduled snapshot failed; it is tried again in a minute");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.begun() => return,
        }
    }
}

/// Makes a snapshot if one is due, and deletes the oldest that are too many.
fn make(catalog: &Catalog, config: &SnapshotsConfig, is_cancelled: &(dyn Fn() -> bool + Sync)) -> Result<()> {
    let store = catalog.store();
    let last = store
        .snapshots()?
        .into_iter()
        .filter(|s| s.is_scheduled && s.problem.is_none())
        .map(|s| s.create_time_ns)
        .max();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if !is_due(last, now, config.interval_hours) || store.list_collections()?.is_empty() {
        return Ok(());
    }
    let name = store.free_snapshot_name(BEGINNING)?;
    let info = store.create_snapshot(&name, &[], true, is_cancelled)?;
    tracing::info!(
        snapshot = name.as_str(),
        bytes = info.size_bytes,
        documents = info.documents,
        "scheduled snapshot made"
    );
    for old in store.prune_snapshots(config.keep)? {
        tracing::info!(snapshot = old.as_str(), "old scheduled snapshot deleted");
    }
    Ok(())
}

/// Whether the time since the last one, in nanoseconds since 1970, is over. One from the future counts as none.
fn is_due(last: Option<i64>, now: Duration, hours: u64) -> bool {
    let last = last.and_then(|last| u64::try_from(last).ok()).map(Duration::from_nanos);
    match last.and_then(|last| now.checked_sub(last)) {
        Some(since) => since.as_secs() / 3600 >= hours,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_when_the_hours_are_over() {
        let hour = 3600;
        let now = Duration::from_secs(100 * hour);
        let ago = |seconds: u64| Some(((100 * hour - seconds) * 1_000_000_000) as i64);
        assert!(is_due(None, now, 24));
        assert!(!is_due(ago(24 * hour - 1), now, 24));
        assert!(is_due(ago(24 * hour), now, 24));
        assert!(is_due(Some(i64::MAX), now, 24), "a clock that was wrong does not end the schedule");
    }
}
