//! What an operator does beside: compactions and snapshots.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use trove::proto;
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;

use crate::archive::{self, ARCHIVE};
use crate::common::NOTES;
use crate::random::Random;
use crate::round::{Counts, Round};

/// Longer than compactions of so little take, one after the other.
const HANGS: Duration = Duration::from_secs(120);

/// Compacts either collection until the round is over. Several callers do so at once.
pub async fn compact(channel: Channel, mut random: Random, counts: Arc<Counts>, round: Round) {
    let mut collections = CollectionServiceClient::new(channel);
    while round.goes_on() {
        let name = [NOTES, ARCHIVE][random.below(2) as usize].to_owned();
        let result = collections.compact_collection(proto::CompactCollectionRequest { name }).await;
        if round.answer("a compaction", result).is_some() {
            counts.compactions.add();
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
    }
}

/// Compacts from several callers at once while nothing else goes on: all of them end.
pub async fn compact_at_once(channel: &Channel) {
    let compact = |name: &str| {
        let request = proto::CompactCollectionRequest { name: name.to_owned() };
        let mut collections = CollectionServiceClient::new(channel.clone());
        async move { collections.compact_collection(request).await.map(drop) }
    };
    let all = [NOTES, NOTES, ARCHIVE].map(compact);
    let ended = tokio::time::timeout(HANGS, futures::future::try_join_all(all)).await;
    ended.expect("a compaction hangs").expect("a compaction fails");
}

/// Makes snapshots and deletes them until the round is over.
pub async fn keep_snapshots(channel: Channel, mut random: Random, counts: Arc<Counts>, round: Round) {
    let mut admin = AdminServiceClient::new(channel);
    while round.goes_on() {
        if random.below(2) == 0 {
            let result = admin.create_snapshot(proto::CreateSnapshotRequest::default()).await;
            if round.answer("a snapshot", result).is_some() {
                counts.snapshots.add();
            }
        } else if let Some(listed) = round
            .answer("a list of snapshots", admin.list_snapshots(proto::ListSnapshotsRequest::default()).await)
        {
            let mut snapshots = listed.into_inner().snapshots;
            snapshots.retain(|snapshot| !archive::is_state(&snapshot.name));
            if let Some(oldest) = snapshots.pop() {
                let request = proto::DeleteSnapshotRequest { name: oldest.name };
                round.answer("deleting a snapshot", admin.delete_snapshot(request).await);
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
    }
}

/// A kill leaves whole snapshots, and no part of one.
pub async fn check_snapshots(channel: &Channel, data: &Path) {
    for entry in std::fs::read_dir(data.join("snapshots")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.ends_with(".snapshot"), "{name} was left behind");
    }
    let mut admin = AdminServiceClient::new(channel.clone());
    let request = proto::ListSnapshotsRequest { page_size: 1000, ..Default::default() };
    for snapshot in admin.list_snapshots(request).await.unwrap().into_inner().snapshots {
        let request = proto::VerifySnapshotRequest { name: snapshot.name.clone() };
        let verified = admin.verify_snapshot(request).await.unwrap().into_inner().snapshot.unwrap();
        assert_eq!((verified.left_out_count, &verified), (0, &snapshot));
    }
}
