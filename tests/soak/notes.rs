//! A collection that several tasks write to, with an oracle of what must be stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{DocumentStatus, SearchMode};

use crate::common::*;
use crate::export::{Read, export};
use crate::random::Random;
use crate::round::{Counts, Round};

/// Tasks that write; each has ids of its own, so that the order of its writes is known.
pub const WRITERS: u64 = 4;
/// Ids of one task.
const IDS: u64 = 12;

/// What is stored under an id: the version of its content and its title; `None` where it is deleted.
pub type State = Option<(u64, u64)>;

/// A write of some ids, and what they are after it.
pub type Change = Vec<(String, State)>;

/// The text of a version: one to four passages.
pub fn content(id: &str, version: u64) -> String {
    let sentence = |n| format!("Sentence {n} of {id} belongs to version {version}.");
    (0..=version % 4).map(sentence).collect::<Vec<_>>().join("\n\n")
}

/// A value of metadata that changes with the title.
pub fn is_even(title: u64) -> &'static str {
    if title.is_multiple_of(2) { "even" } else { "odd" }
}

fn document(id: &str, (version, title): (u64, u64)) -> proto::Document {
    let mut document = text_document(id, &content(id, version));
    document.title = title.to_string();
    document.metadata.insert("writer".to_owned(), string(id.split('-').next().unwrap()));
    document.metadata.insert("parity".to_owned(), string(is_even(title)));
    document
}

fn read_of(id: &str, (version, title): (u64, u64)) -> Read {
    let text = content(id, version);
    Read { id: id.to_owned(), title: title.to_string(), passages: text.split("\n\n").count(), text }
}

/// The changes of one task, in order.
pub struct Log {
    /// What there was before the first.
    before: BTreeMap<String, State>,
    /// All that were sent.
    sent: Vec<Change>,
    /// How many of them were acknowledged.
    acknowledged: usize,
}

impl Log {
    pub fn new(before: BTreeMap<String, State>) -> Self {
        Self { before, sent: Vec::new(), acknowledged: 0 }
    }

    /// Whether what was read is what was stored after some write from `first` to `last`, or in the middle of one: the
    /// documents of one write are stored one by one.
    fn has_moment(&self, read: &BTreeMap<&str, &Read>, first: usize, last: usize) -> bool {
        let mut now = self.before.clone();
        for (count, change) in self.sent.iter().enumerate().take(last + 1) {
            let is_in_change =
                |id: &str| change.iter().find(|(other, _)| other == id).map(|(_, state)| state);
            let is_now = now.iter().all(|(id, state)| {
                is_read(read, id, state) || is_in_change(id).is_some_and(|state| is_read(read, id, state))
            });
            let is_new = |(id, state): &(String, State)| {
                now.contains_key(id) || is_read(read, id, &None) || is_read(read, id, state)
            };
            if count >= first && is_now && change.iter().all(is_new) {
                return true;
            }
            now.extend(change.iter().cloned());
        }
        now.iter().all(|(id, state)| is_read(read, id, state))
    }

    /// What was acknowledged, and the write that was not.
    pub fn end(self) -> (Vec<Change>, Option<Change>) {
        let mut sent = self.sent;
        let unanswered = sent.split_off(self.acknowledged).pop();
        (sent, unanswered)
    }
}

fn is_read(read: &BTreeMap<&str, &Read>, id: &str, state: &State) -> bool {
    read.get(id).copied() == state.map(|state| read_of(id, state)).as_ref()
}

/// Writes until the round is over.
pub async fn write(channel: Channel, writer: u64, mut random: Random, log: Arc<Mutex<Log>>, round: Round) {
    let mut now = log.lock().before.clone();
    while round.goes_on() {
        let id = |random: &mut Random| format!("w{writer}-{}", random.below(IDS));
        let change: Change = match random.below(10) {
            0..2 => vec![(id(&mut random), None)],
            // Another title alone changes what describes a document, and nothing is encoded.
            2..5 => {
                let id = id(&mut random);
                let state = now.get(&id).copied().flatten();
                let version = state.map_or_else(|| random.below(1 << 40), |(version, _)| version);
                vec![(id, Some((version, random.below(1 << 40))))]
            }
            n => {
                let count = if n == 5 { 3 } else { 1 };
                let mut change = BTreeMap::new();
                for _ in 0..count {
                    change.insert(id(&mut random), Some((random.below(1 << 40), random.below(1 << 40))));
                }
                change.into_iter().collect()
            }
        };
        log.lock().sent.push(change.clone());
        if let Err(status) = send(&channel, &change).await {
            round.check_failure(&format!("the write {change:?}"), &status);
            return;
        }
        log.lock().acknowledged += 1;
        now.extend(change);
    }
}

async fn send(channel: &Channel, change: &Change) -> Result<(), Status> {
    if let [(id, None)] = change.as_slice() {
        let node = proto::filter::Node::DocumentIds(proto::StringList { values: vec![id.clone()] });
        let filter = Some(proto::Filter { node: Some(node) });
        let request = proto::DeleteDocumentsRequest { collection: NOTES.to_owned(), filter };
        return documents(channel).delete_documents(request).await.map(drop);
    }
    let batch = change.iter().filter_map(|(id, state)| Some(document(id, (*state)?))).collect();
    let results = documents(channel).upsert_documents(upsert_request(batch)).await?.into_inner().results;
    match results.iter().find(|result| result.status() == DocumentStatus::Failed) {
        Some(failed) => Err(Status::unknown(format!("{failed:?}"))),
        None => Ok(()),
    }
}

/// Searches until the round is over: whatever is found is of documents that were sent, and matches the filter.
pub async fn look(channel: Channel, mut random: Random, counts: Arc<Counts>, round: Round) {
    let mut service = SearchServiceClient::new(channel);
    while round.goes_on() {
        let parity = is_even(random.below(2));
        let test = proto::field_condition::Test::Equals(string(parity));
        let condition = proto::FieldCondition { key: "parity".to_owned(), test: Some(test) };
        let is_filtered = random.below(3) > 0;
        let mode = [SearchMode::Vector, SearchMode::Keyword, SearchMode::Hybrid][random.below(3) as usize];
        let request = proto::SearchRequest {
            filter: is_filtered
                .then_some(proto::Filter { node: Some(proto::filter::Node::Field(condition)) }),
            mode: mode.into(),
            limit: 100,
            ..query("sentence of a version")
        };
        let Some(response) = round.answer("a search", service.search(request).await) else { continue };
        let response = response.into_inner();
        assert_eq!(response.damaged_hits, 0);
        for hit in &response.hits {
            let passage = hit.passage.as_ref().unwrap();
            assert!(passage.text.contains(&format!(" of {} ", passage.document_id)), "{passage:?}");
            assert_eq!(hit.metadata["parity"], string(is_even(hit.title.parse().unwrap())), "{hit:?}");
            assert!(!is_filtered || hit.metadata["parity"] == string(parity), "{mode:?}, {parity}: {hit:?}");
        }
        counts.searches.add();
        tokio::time::sleep(Duration::from_millis(random.below(20))).await;
    }
}

/// Exports until the round is over: each export is what was stored at one moment of it.
pub async fn export_moments(
    channel: Channel,
    mut random: Random,
    logs: Vec<Arc<Mutex<Log>>>,
    counts: Arc<Counts>,
    round: Round,
) {
    while round.goes_on() {
        let first: Vec<usize> = logs.iter().map(|log| log.lock().acknowledged).collect();
        let result = export(&channel, NOTES).await;
        let last: Vec<usize> = logs.iter().map(|log| log.lock().sent.len()).collect();
        if let Some(read) = round.answer("an export", result) {
            let by_id: BTreeMap<&str, &Read> = read.iter().map(|read| (read.id.as_str(), read)).collect();
            assert_eq!(by_id.len(), read.len(), "a document is in an export twice");
            for ((log, first), last) in logs.iter().zip(first).zip(last) {
                let log = log.lock();
                assert!(
                    log.has_moment(&by_id, first, last),
                    "an export is of no moment between the writes {first} and {last}: {:?}: {read:?}",
                    &log.sent[first..]
                );
            }
            counts.exports.add();
        }
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
    }
}

/// What may be stored under each id: one state where it was acknowledged, two where the last write was not answered.
#[derive(Default)]
pub struct Expected(BTreeMap<String, Vec<State>>);

impl Expected {
    pub fn take(&mut self, acknowledged: Vec<Change>, unanswered: Option<Change>) {
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

    pub fn of_writer(&self, writer: u64) -> BTreeMap<String, State> {
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
pub async fn check(channel: &Channel, expected: &mut Expected) {
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
