//! A collection that is restored again and again from two snapshots, while others read, search and compact it: whoever
//! reads it sees all of one state, or is told.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use trove::proto;
use trove::proto::SearchMode;
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::search_service_client::SearchServiceClient;

use crate::common::*;
use crate::export::{Read, export, list};
use crate::notes::{content, is_even};
use crate::random::Random;
use crate::round::{Counts, Round};

/// The collection.
pub const ARCHIVE: &str = "archive";
/// Its documents in either state; half of the ids are in both.
const IDS: u64 = 24;

/// Versions of the documents in either state, as long as those of the notes: a passage has one sentence.
const VERSIONS: [u64; 2] = [1_000_000_000_002, 1_000_000_000_003];

/// One of the two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    A,
    B,
}

impl State {
    const BOTH: [State; 2] = [State::A, State::B];

    /// The snapshot that holds it.
    fn snapshot(self) -> &'static str {
        match self {
            State::A => "state-a",
            State::B => "state-b",
        }
    }

    /// Ids and versions of its documents.
    fn documents(self) -> Vec<(String, u64)> {
        let (first, version) = match self {
            State::A => (0, VERSIONS[0]),
            State::B => (IDS / 2, VERSIONS[1]),
        };
        (first..first + IDS).map(|n| (format!("a{n:02}"), version)).collect()
    }

    fn read(self) -> Vec<Read> {
        let read = |(id, version): (String, u64)| {
            let text = content(&id, version);
            let passages = text.split("\n\n").count();
            Read { id, title: version.to_string(), text, passages }
        };
        self.documents().into_iter().map(read).collect()
    }

    /// Which of the two was read.
    fn of(what: &str, read: &[Read]) -> State {
        let found = State::BOTH.into_iter().find(|state| state.read() == read);
        found.unwrap_or_else(|| panic!("{what} is of neither state: {} documents: {read:?}", read.len()))
    }
}

/// Whether a snapshot is one of those that the archive is restored from.
pub fn is_state(name: &str) -> bool {
    State::BOTH.iter().any(|state| state.snapshot() == name)
}

/// Makes the collection and a snapshot of either state; it is in state B afterwards.
pub async fn create(channel: &Channel) {
    for state in State::BOTH {
        let mut collections = CollectionServiceClient::new(channel.clone());
        let request =
            proto::DeleteCollectionRequest { name: ARCHIVE.to_owned(), force: true, ..Default::default() };
        let _ = collections.delete_collection(request).await;
        let chunking = Some(proto::ChunkingConfig { max_tokens: 24, overlap_tokens: 0 });
        let collection = proto::Collection { name: ARCHIVE.to_owned(), chunking, ..Default::default() };
        create_with(channel, collection).await;
        let document = |(id, version): (String, u64)| {
            let mut document = text_document(&id, &content(&id, version));
            document.title = version.to_string();
            document.metadata.insert("parity".to_owned(), string(is_even(version)));
            document
        };
        let request = proto::UpsertDocumentsRequest {
            collection: ARCHIVE.to_owned(),
            documents: state.documents().into_iter().map(document).collect(),
            ..Default::default()
        };
        for result in documents(channel).upsert_documents(request).await.unwrap().into_inner().results {
            assert_eq!(result.status(), proto::DocumentStatus::Indexed, "{result:?}");
        }
        let request = proto::CreateSnapshotRequest {
            collections: vec![ARCHIVE.to_owned()],
            name: state.snapshot().to_owned(),
        };
        AdminServiceClient::new(channel.clone()).create_snapshot(request).await.unwrap();
    }
}

/// Restores one state or the other until the round is over. Gives the states that the collection may be in then.
pub async fn restore(
    channel: Channel,
    mut random: Random,
    mut now: Vec<State>,
    counts: Arc<Counts>,
    round: Round,
) -> Vec<State> {
    let mut admin = AdminServiceClient::new(channel.clone());
    while round.goes_on() {
        let state = State::BOTH[random.below(2) as usize];
        let request = proto::RestoreSnapshotRequest {
            name: state.snapshot().to_owned(),
            collections: vec![ARCHIVE.to_owned()],
        };
        match admin.restore_snapshot(request).await {
            Ok(_) => {
                now = vec![state];
                counts.restores.add();
                // Nobody else restores: from here on every reader that begins sees this state.
                if let Some(read) = round.answer("a listing", list(&channel, ARCHIVE, 7).await) {
                    assert_eq!(State::of("a listing", &read), state);
                }
            }
            Err(status) => {
                round.check_failure("a restore", &status);
                now.push(state);
                return now;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
    }
    now
}

/// Reads the collection in every way until the round is over.
pub async fn look(channel: Channel, mut random: Random, counts: Arc<Counts>, round: Round) {
    while round.goes_on() {
        match random.below(5) {
            0 => {
                if let Some(read) = round.answer("an export", export(&channel, ARCHIVE).await) {
                    State::of("an export", &read);
                    counts.exports.add();
                }
            }
            1 => {
                if let Some(read) = round.answer("a listing", list(&channel, ARCHIVE, 7).await) {
                    State::of("a listing", &read);
                }
            }
            2 => get_one(&channel, &round).await,
            n => search(&channel, n == 3, &counts, &round).await,
        }
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
    }
}

/// A document that is in both states is there, whole, in one of its two versions.
async fn get_one(channel: &Channel, round: &Round) {
    let id = format!("a{}", IDS / 2);
    let request = proto::GetDocumentRequest {
        collection: ARCHIVE.to_owned(),
        document_id: id.clone(),
        view: proto::DocumentView::Full as i32,
    };
    let result = documents(channel).get_document(request).await;
    let Some(answer) = round.answer("reading a document", result) else { return };
    let document = answer.into_inner().document.unwrap();
    let versions = VERSIONS.map(|version| (version.to_string(), content(&id, version)));
    assert!(versions.contains(&(document.title.clone(), text_of(&document).to_owned())), "{document:?}");
}

/// Finds all passages of one state; with a filter on what differs, all or none.
async fn search(channel: &Channel, is_filtered: bool, counts: &Counts, round: &Round) {
    let test = proto::field_condition::Test::Equals(string(is_even(VERSIONS[0])));
    let condition = proto::FieldCondition { key: "parity".to_owned(), test: Some(test) };
    let filter = is_filtered.then_some(proto::Filter { node: Some(proto::filter::Node::Field(condition)) });
    let request = proto::SearchRequest {
        collection: ARCHIVE.to_owned(),
        limit: 1000,
        mode: SearchMode::Vector.into(),
        exact: true,
        filter,
        ..query("sentence of a version")
    };
    let result = SearchServiceClient::new(channel.clone()).search(request).await;
    let Some(answer) = round.answer("a search", result) else { return };
    let place = |hit: &proto::SearchHit| {
        let passage = hit.passage.as_ref().unwrap();
        (passage.document_id.clone(), hit.title.clone(), passage.passage_index as usize)
    };
    let mut found: Vec<_> = answer.into_inner().hits.iter().map(place).collect();
    found.sort_unstable();
    let passages_of = |read: Read| (0..read.passages).map(move |n| (read.id.clone(), read.title.clone(), n));
    let wanted = |state: State| state.read().into_iter().flat_map(passages_of).collect::<Vec<_>>();
    let is_one = match is_filtered {
        true => found == wanted(State::A) || found.is_empty(),
        false => State::BOTH.into_iter().any(|state| found == wanted(state)),
    };
    assert!(is_one, "a search (filtered: {is_filtered}) is of neither state: {found:?}");
    counts.searches.add();
}

/// Compares with what is stored after a kill, and takes that for the truth from now on.
pub async fn check(channel: &Channel, allowed: &mut Vec<State>) {
    let read = list(channel, ARCHIVE, 100).await.unwrap();
    let state = State::of("what is stored", &read);
    assert!(allowed.contains(&state), "expected one of {allowed:?}, got {state:?}");
    assert_eq!(export(channel, ARCHIVE).await.unwrap(), read);
    let counts = Counts::default();
    for is_filtered in [false, true] {
        search(channel, is_filtered, &counts, &Round::default()).await;
    }
    assert_eq!(counts.searches.get(), 2);
    *allowed = vec![state];
}
