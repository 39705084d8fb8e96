//! The state of the parts, read when somebody asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::gauge;

use crate::access::Keyring;
use crate::answer::Generators;
use crate::catalog::{Catalog, OpenCollection};
use crate::domain::Level;
use crate::encoder::{CrossEncoders, Encoders};
use crate::metrics;
use crate::store::SCHEMA_VERSION;

/// Collections that have gauges of their own, by name in order; those of all others are added up.
const MAX_COLLECTIONS: usize = 100;
/// What the others are called; no collection can have this name.
const OTHERS: &str = "(others)";

/// The parts whose state is told.
pub struct Gauges {
    /// Collections and their store.
    pub catalog: Arc<Catalog>,
    /// Loaded encoders.
    pub encoders: Encoders,
    /// Loaded cross-encoders.
    pub cross_encoders: CrossEncoders,
    /// Loaded generators.
    pub generators: Generators,
    /// API keys.
    pub keyring: Arc<Keyring>,
    /// Time from one scheduled snapshot to the next; zero where none are wanted.
    pub snapshot_interval: Duration,
    /// When the certificate in use expires, in seconds since 1970; none without TLS.
    pub certificate_expire_time: Box<dyn Fn() -> Option<i64> + Send + Sync>,
}

impl Gauges {
    /// Records all of it. Reads the store: it blocks.
    pub(super) fn record(&self) {
        let commit = option_env!("TROVE_COMMIT").unwrap_or_default();
        gauge!(metrics::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "commit" => commit).set(1);
        self.models();
        self.store();
        self.snapshots();
        self.access();
        if let Err(error) = self.collections() {
            tracing::error!(%error, "the metrics of the collections can't be read");
        }
    }

    fn models(&self) {
        for encoder in self.encoders.iter() {
            let info = encoder.info();
            let labels = model_labels(&info.id, &info.revision, info.execution_provider, info.precision);
            record_encoder(&labels, encoder.waiting(), encoder.queue_capacity());
        }
        for cross_encoder in self.cross_encoders.iter() {
            let info = cross_encoder.info();
            let labels = model_labels(&info.id, &info.revision, info.execution_provider, info.precision);
            record_encoder(&labels, cross_encoder.waiting(), cross_encoder.queue_capacity());
        }
        for generator in self.generators.iter() {
            let info = generator.info();
            let labels = model_labels(&info.id, &info.revision, info.execution_provider, &info.precision);
            gauge!(metrics::GENERATOR_INFO, &labels).set(1);
            let gauge = |name| gauge!(name, "model" => info.id.clone());
            gauge(metrics::GENERATOR_QUEUE_LENGTH).set(generator.waiting() as f64);
            gauge(metrics::GENERATOR_QUEUE_CAPACITY).set(generator.queue_capacity() as f64);
            gauge(metrics::GENERATOR_SLOTS).set(generator.slots() as f64);
            gauge(metrics::GENERATOR_SLOTS_IN_USE).set(generator.running() as f64);
        }
    }

    fn store(&self) {
        let store = self.catalog.store();
        if let Ok(bytes) = store.size_on_disk() {
            gauge!(metrics::STORE_DISK).set(bytes as f64);
        }
        if let Ok(bytes) = store.free_bytes() {
            gauge!(metrics::STORE_DISK_FREE).set(bytes as f64);
        }
        gauge!(metrics::STORE_WRITABLE).set(if store.is_writable() { 1 } else { 0 });
        gauge!(metrics::STORE_SCHEMA_VERSION).set(SCHEMA_VERSION);
    }

    fn snapshots(&self) {
        gauge!(metrics::SNAPSHOT_INTERVAL).set(self.snapshot_interval.as_secs_f64());
        let snapshots = match self.catalog.store().snapshots() {
            Ok(snapshots) => snapshots,
            Err(error) => return tracing::error!(%error, "the metrics of the snapshots can't be read"),
        };
        let (ok, unreadable): (Vec<_>, Vec<_>) = snapshots.iter().partition(|s| s.problem.is_none());
        gauge!(metrics::SNAPSHOTS, "state" => "ok").set(ok.len() as f64);
        gauge!(metrics::SNAPSHOTS, "state" => "unreadable").set(unreadable.len() as f64);
        let bytes: u64 = snapshots.iter().map(|snapshot| snapshot.size_bytes).sum();
        gauge!(metrics::SNAPSHOT_DISK).set(bytes as f64);
        // One from the future, made while the clock was wrong, would keep the alert silent until then.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        let times = ok.iter().map(|snapshot| snapshot.create_time_ns);
        let last =
            times.filter(|time| u128::try_from(*time).is_ok_and(|time| time <= now)).max().unwrap_or(0);
        gauge!(metrics::SNAPSHOT_LAST_TIME).set(last as f64 / 1e9);
    }

    fn access(&self) {
        let counts = self.keyring.counts();
        let states = [("valid", counts.valid), ("expired", counts.expired), ("revoked", counts.revoked)];
        for (state, count) in states {
            gauge!(metrics::ACCESS_KEYS, "state" => state).set(count as f64);
        }
        if let Some(time) = (self.certificate_expire_time)() {
            gauge!(metrics::TLS_CERTIFICATE_EXPIRE_TIME).set(time as f64);
        }
    }

    fn collections(&self) -> crate::error::Result<()> {
        let collections = self.catalog.open_collections()?;
        gauge!(metrics::COLLECTIONS).set(collections.len() as f64);
        let mut sums = Sums::default();
        let mut numbers_used = BTreeMap::<String, f64>::new();
        for (position, OpenCollection { record, indexes, keywords }) in collections.into_iter().enumerate() {
            let name = if position < MAX_COLLECTIONS { record.name.as_str() } else { OTHERS };
            // A collection that was deleted meanwhile has none.
            let Ok((documents, passages)) = self.catalog.store().counts(record.cid) else { continue };
            sums.add(metrics::COLLECTION_DOCUMENTS, name, "", documents);
            sums.add(metrics::COLLECTION_PASSAGES, name, "", passages);
            // The greatest of those that have no gauge of their own.
            let used = self.catalog.store().numbers_used(record.cid).unwrap_or_default();
            let greatest = numbers_used.entry(name.to_owned()).or_insert(used);
            *greatest = greatest.max(used);
            sums.add(metrics::KEYWORD_PASSAGES, name, "", keywords.passages());
            sums.add(metrics::KEYWORD_WAITING_CHANGES, name, "", keywords.waiting_changes());
            for (level, index) in indexes.levels() {
                let level = level_name(level);
                sums.add(metrics::INDEX_POINTS, name, level, index.len() as u64);
                sums.add(metrics::INDEX_HEAD_POINTS, name, level, index.unsealed() as u64);
                sums.add(metrics::INDEX_SEGMENTS, name, level, index.segment_ids().len() as u64);
                sums.add(metrics::INDEX_TOMBSTONES, name, level, index.tombstones() as u64);
                sums.add(metrics::INDEX_MEMORY, name, level, index.memory() as u64);
            }
        }
        for (name, used) in numbers_used {
            gauge!(metrics::COLLECTION_NUMBERS_USED, "collection" => name).set(used);
        }
        sums.record();
        Ok(())
    }
}

type ModelLabels = [(&'static str, String); 4];

fn model_labels(id: &str, revision: &str, provider: &str, precision: &str) -> ModelLabels {
    [("model", id), ("revision", revision), ("provider", provider), ("precision", precision)]
        .map(|(name, value)| (name, value.to_owned()))
}

/// What encoders and cross-encoders have in common; the first label is the model.
fn record_encoder(labels: &ModelLabels, waiting: usize, capacity: usize) {
    gauge!(metrics::ENCODER_INFO, labels).set(1);
    gauge!(metrics::ENCODER_QUEUE_LENGTH, &labels[..1]).set(waiting as f64);
    gauge!(metrics::ENCODER_QUEUE_CAPACITY, &labels[..1]).set(capacity as f64);
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Passage => "passage",
        Level::Sentence => "sentence",
        Level::Document => "document",
    }
}

/// Values by metric, collection and level.
#[derive(Default)]
struct Sums(BTreeMap<(&'static str, String, &'static str), u64>);

impl Sums {
    fn add(&mut self, metric: &'static str, collection: &str, level: &'static str, value: u64) {
        *self.0.entry((metric, collection.to_owned(), level)).or_default() += value;
    }

    fn record(self) {
        for ((metric, collection, level), value) in self.0 {
            let gauge = if level.is_empty() {
                gauge!(metric, "collection" => collection)
            } else {
                gauge!(metric, "collection" => collection, "level" => level)
            };
            gauge.set(value as f64);
        }
    }
}
