//! Kills the server with SIGKILL at random moments while it is written to from all sides, starts it again, and checks
//! that what was acknowledged is there and that everything agrees.
//!
//! `KILLS` sets how often, `SEED` what happens; `make soak` runs it for long. It prints its figures at the end.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{DocumentStatus, SearchMode};

/// Tasks that write; each has ids of its own, so that the order of its writes is known.
const WRITERS: u64 = 4;
/// Ids of one task.
const IDS: u64 = 12;
/// A graph is built of so few points, so that sealing and merging go on all the time.
const HEAD_LIMIT: &str = "48";
/// Threads of each pool, in turn, whatever the machine has.
const POOLS: [&str; 3] = ["2", "4", "8"];
/// Callers that compact at the same time.
const COMPACTORS: u64 = 3;
/// Longer than compactions of so little take, one after the other.
const HANGS: Duration = Duration::from_secs(120);

/// A small generator of random numbers (splitmix64), so that a seed tells all that happens.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What is stored under an id: the version of its content and its title; `None` where it is deleted.
type State = Option<(u64, u64)>;

/// A write of some ids, and what they are after it.
type Change = Vec<(String, State)>;

fn content(id: &str, version: u64) -> String {
    let sentence = |n| format!("Sentence {n} of {id} belongs to version {version}.");
    (0..=version % 4).map(sentence).collect::<Vec<_>>().join("\n\n")
}

fn document(id: &str, (version, title): (u64, u64)) -> proto::Document {
    let mut document = text_document(id, &content(id, version));
    document.title = title.to_string();
    document.metadata.insert("writer".to_owned(), string(id.split('-').next().unwrap()));
    document.metadata.insert("title".to_owned(), string(&title.to_string()));
    document
}

/// Writes until the server is gone. Gives what was acknowledged, in order, and the write that was not.
async fn write(
    channel: Channel,
    writer: u64,
    mut random: Random,
    mut now: BTreeMap<String, State>,
    is_killed: Arc<AtomicBool>,
) -> (Vec<Change>, Option<Change>) {
    let mut acknowledged = Vec::new();
    loop {
        let id = |random: &mut Random| format!("w{writer}-{}", random.below(IDS));
        let change: Change = match random.below(10) {
            0..2 => vec![(id(&mut random), None)],
            // Another title alone changes what describes a document, and nothing is encoded.
            2 => {
                let id = id(&mut random);
                let state = now.get(&id).copied().flatten();
                let version = state.map_or_else(|| random.below(1 << 40), |(version, _)| version);
                vec![(id, Some((version, random.below(1 << 40))))]
            }
            n => {
                let count = if n == 3 { 3 } else { 1 };
                let mut change = BTreeMap::new();
                for _ in 0..count {
                    change.insert(id(&mut random), Some((random.below(1 << 40), random.below(1 << 40))));
                }
                change.into_iter().collect()
            }
        };
        if !send(&channel, &change).await {
            assert!(is_killed.load(Ordering::Relaxed), "a write failed before the kill: {change:?}");
            return (acknowledged, Some(change));
        }
        now.extend(change.iter().cloned());
        acknowledged.push(change);
    }
}

async fn send(channel: &Channel, change: &Change) -> bool {
    if let [(id, None)] = change.as_slice() {
        let node = proto::filter::Node::DocumentIds(proto::StringList { values: vec![id.clone()] });
        let filter = Some(proto::Filter { node: Some(node) });
        let request = proto::DeleteDocumentsRequest { collection: NOTES.to_owned(), filter };
        return documents(channel).delete_documents(request).await.is_ok();
    }
    let batch = change.iter().filter_map(|(id, state)| Some(document(id, (*state)?))).collect();
    match documents(channel).upsert_documents(upsert_request(batch)).await {
        Ok(response) => response.into_inner().results.iter().all(|r| r.status() != DocumentStatus::Failed),
        Err(_) => false,
    }
}

async fn compact(channel: &Channel) -> bool {
    let request = proto::CompactCollectionRequest { name: NOTES.to_owned() };
    CollectionServiceClient::new(channel.clone()).compact_collection(request).await.is_ok()
}

/// Compacts again and again beside others, until the server is gone.
async fn keep_compacting(channel: Channel, counts: Arc<Counts>, is_killed: Arc<AtomicBool>) {
    while compact(&channel).await {
        counts.compactions.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_killed.load(Ordering::Relaxed), "a compaction failed before the kill");
}

/// Compacts, makes snapshots and deletes them, until the server is gone.
async fn keep_house(channel: Channel, mut random: Random, counts: Arc<Counts>, is_killed: Arc<AtomicBool>) {
    let mut admin = AdminServiceClient::new(channel.clone());
    loop {
        let done = match random.below(3) {
            0 => {
                let done = compact(&channel).await;
                counts.compactions.fetch_add(u64::from(done), Ordering::Relaxed);
                done
            }
            1 => {
                let request = proto::CreateSnapshotRequest::default();
                let done = admin.create_snapshot(request).await.is_ok();
                counts.snapshots.fetch_add(u64::from(done), Ordering::Relaxed);
                done
            }
            _ => match admin.list_snapshots(proto::ListSnapshotsRequest::default()).await {
                Ok(listed) => match listed.into_inner().snapshots.pop() {
                    Some(oldest) => {
                        let request = proto::DeleteSnapshotRequest { name: oldest.name };
                        admin.delete_snapshot(request).await.is_ok()
                    }
                    None => true,
                },
                Err(_) => false,
            },
        };
        if !done {
            assert!(is_killed.load(Ordering::Relaxed), "compaction or snapshots failed before the kill");
            return;
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
    }
}

/// Searches until the server is gone; whatever it answers must be of documents that were sent.
async fn look(channel: Channel, is_killed: Arc<AtomicBool>) {
    let mut service = SearchServiceClient::new(channel);
    while let Ok(response) = service.search(query("sentence of a version")).await {
        let response = response.into_inner();
        assert_eq!(response.damaged_hits, 0);
        for passage in response.hits.into_iter().filter_map(|hit| hit.passage) {
            assert!(passage.text.contains(&format!(" of {} ", passage.document_id)), "{passage:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_killed.load(Ordering::Relaxed), "a search failed before the kill");
}

/// What may be stored under each id: one state where it was acknowledged, two where the last write was not answered.
#[derive(Default)]
struct Expected(BTreeMap<String, Vec<State>>);

impl Expected {
    fn take(&mut self, acknowledged: Vec<Change>, unanswered: Option<Change>) {
        for (id, state) in acknowledged.into_iter().flatten() {
            self.0.insert(id, vec![state]);
        }
        for (id, state) in unanswered.into_iter().flatten() {
            self.0.entry(id).or_insert_with(|| vec![None]).push(state);
        }
    }

    /// Compares with what is stored, and takes that for the truth from now on.
    fn check(&mut self, stored: &[proto::Document]) {
        for (id, states) in &mut self.0 {
            let found = stored.iter().find(|document| document.id == *id);
            let is_it = |state: &State| match (found, state) {
                (None, None) => true,
                (Some(document), Some((version, title))) => {
                    text_of(document) == content(id, *version) && document.title == title.to_string()
                }
                _ => false,
            };
            let state = states.iter().rev().find(|state| is_it(state)).copied();
            *states =
                vec![state.unwrap_or_else(|| panic!("{id}: expected one of {states:?}, got {found:?}"))];
        }
        assert!(
            stored.iter().all(|document| self.0.contains_key(&document.id)),
            "a document that nobody wrote"
        );
    }

    fn of_writer(&self, writer: u64) -> BTreeMap<String, State> {
        let is_its = |id: &str| id.starts_with(&format!("w{writer}-"));
        self.0.iter().filter(|(id, _)| is_its(id)).map(|(id, states)| (id.clone(), states[0])).collect()
    }
}

async fn search(channel: &Channel, request: proto::SearchRequest) -> Vec<(String, u32)> {
    let mode = request.mode;
    let response = SearchServiceClient::new(channel.clone()).search(request).await.unwrap().into_inner();
    assert_eq!((response.damaged_hits, response.mode), (0, mode));
    let place = |hit: proto::SearchHit| hit.passage.map(|p| (p.document_id, p.passage_index)).unwrap();
    let mut found: Vec<_> = response.hits.into_iter().map(place).collect();
    found.sort_unstable();
    found
}

/// Checks that documents are whole, and that every index and filter finds just what is stored.
async fn check(channel: &Channel, expected: &mut Expected) {
    let stored = list(channel).await;
    expected.check(&stored);
    let mut passages = Vec::new();
    for document in &stored {
        let sentences: Vec<_> = text_of(document).split("\n\n").collect();
        let found: Vec<_> = document.passages.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(found, sentences, "{} is not whole", document.id);
        passages.extend((0..sentences.len() as u32).map(|index| (document.id.clone(), index)));
    }
    passages.sort_unstable();
    if passages.is_empty() {
        return;
    }
    for (mode, exact) in [
        (SearchMode::Vector, true),
        (SearchMode::Vector, false),
        (SearchMode::Keyword, false),
        (SearchMode::Hybrid, false),
    ] {
        let request =
            proto::SearchRequest { limit: 1000, exact, mode: mode.into(), ..query("sentence of a version") };
        assert_eq!(search(channel, request.clone()).await, passages, "{mode:?}, exact: {exact}");
        for writer in 0..WRITERS {
            let name = format!("w{writer}");
            let test = proto::field_condition::Test::Equals(string(&name));
            let condition = proto::FieldCondition { key: "writer".to_owned(), test: Some(test) };
            let filter = Some(proto::Filter { node: Some(proto::filter::Node::Field(condition)) });
            let wanted: Vec<_> =
                passages.iter().filter(|(id, _)| id.starts_with(&format!("{name}-"))).cloned().collect();
            let request = proto::SearchRequest { filter, ..request.clone() };
            assert_eq!(search(channel, request).await, wanted, "{mode:?}, exact: {exact}, {name}");
        }
    }
    let collection = proto::GetCollectionRequest { name: NOTES.to_owned() };
    let collection = CollectionServiceClient::new(channel.clone()).get_collection(collection).await.unwrap();
    let collection = collection.into_inner().collection.unwrap();
    assert_eq!(
        (collection.document_count as usize, collection.passage_count as usize),
        (stored.len(), passages.len())
    );
}

/// A kill leaves whole snapshots, and no part of one.
async fn check_snapshots(channel: &Channel, data: &Path) {
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

#[derive(Default)]
struct Counts {
    compactions: AtomicU64,
    snapshots: AtomicU64,
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_that_was_acknowledged() {
    let Some(models) = models() else { return };
    let (kills, seed) = (number("KILLS", 12), number("SEED", 1));
    let data = data_dir(&models);
    let counts = Arc::new(Counts::default());
    let mut expected = Expected::default();
    let (mut writes, mut documents_written, mut unanswered_writes) = (0, 0, 0);
    let mut starts = Vec::new();
    let began = Instant::now();
    for kill in 0..=kills {
        let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(kill));
        let started = Instant::now();
        let pool = POOLS[kill as usize % POOLS.len()];
        let settings = [
            ("TROVE__INDEX__HEAD_LIMIT", HEAD_LIMIT),
            ("TROVE__INDEX__BUILD_THREADS", pool),
            ("RAYON_NUM_THREADS", pool),
        ];
        let mut server = Server::start_with(data.path(), &settings).await;
        starts.push(started.elapsed());
        let channel = server.channel().await;
        if kill == 0 {
            let chunking = Some(proto::ChunkingConfig { max_tokens: 24, overlap_tokens: 0 });
            let collection = proto::Collection { name: NOTES.to_owned(), chunking, ..Default::default() };
            create_with(&channel, collection).await;
        }
        check(&channel, &mut expected).await;
        check_snapshots(&channel, data.path()).await;
        let compactions = (0..COMPACTORS).map(|_| compact(&channel));
        let ended = tokio::time::timeout(HANGS, futures::future::join_all(compactions)).await;
        assert!(ended.expect("compactions hang").into_iter().all(|done| done), "{pool} threads");
        if kill == kills {
            break;
        }
        let moment = Duration::from_millis(100 + random.below(1400));
        let is_killed = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let random = Random(random.below(u64::MAX));
            writers.push(tokio::spawn(write(
                channel.clone(),
                writer,
                random,
                expected.of_writer(writer),
                is_killed.clone(),
            )));
        }
        let house = tokio::spawn(keep_house(
            channel.clone(),
            Random(random.below(u64::MAX)),
            counts.clone(),
            is_killed.clone(),
        ));
        let compactors: Vec<_> = (1..COMPACTORS)
            .map(|_| tokio::spawn(keep_compacting(channel.clone(), counts.clone(), is_killed.clone())))
            .collect();
        let looking = tokio::spawn(look(channel.clone(), is_killed.clone()));
        tokio::time::sleep(moment).await;
        is_killed.store(true, Ordering::Relaxed);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        for writer in writers {
            let (acknowledged, unanswered) = writer.await.unwrap();
            writes += acknowledged.len();
            documents_written += acknowledged.iter().map(Vec::len).sum::<usize>();
            unanswered_writes += usize::from(unanswered.is_some());
            expected.take(acknowledged, unanswered);
        }
        house.await.unwrap();
        for compactor in compactors {
            compactor.await.unwrap();
        }
        looking.await.unwrap();
    }
    assert!(writes as u64 >= kills, "{writes} writes were acknowledged");
    starts.sort_unstable();
    println!(
        "seed {seed}: {kills} kills in {:.0} s; {writes} acknowledged writes of {documents_written} documents, \
         {unanswered_writes} unanswered; {} compactions, {} snapshots; start to answer: median {:.2} s, longest {:.2} s",
        began.elapsed().as_secs_f64(),
        counts.compactions.load(Ordering::Relaxed),
        counts.snapshots.load(Ordering::Relaxed),
        starts[starts.len() / 2].as_secs_f64(),
        starts[starts.len() - 1].as_secs_f64(),
    );
}
