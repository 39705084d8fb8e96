//! The metrics: names, types, labels and meaning of everything that is counted, in one table. The modules below record
//! by these names through the `metrics` facade; only `telemetry` knows an exporter. docs/OBSERVABILITY.md has the table.

/// Upper bounds of a histogram's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buckets {
    /// Seconds of work, 1 ms to 2 minutes.
    Seconds,
    /// Seconds of what is usually far below a second, 0.1 ms to 10 s.
    ShortSeconds,
    /// Numbers of things, 1 to 1024.
    Count,
    /// Shares from 0 to 1.
    Ratio,
}

impl Buckets {
    /// The bounds, rising.
    pub fn bounds(self) -> &'static [f64] {
        match self {
            Buckets::Seconds => &[
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
                120.0,
            ],
            Buckets::ShortSeconds => &[
                0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
                10.0,
            ],
            Buckets::Count => &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0],
            Buckets::Ratio => &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        }
    }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises; zero again after a restart.
    Counter,
    /// It rises and falls.
    Gauge,
    /// How often values fell into which bucket, with their sum.
    Histogram(Buckets),
}

impl Kind {
    /// As the exposition format and the documentation say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means: the lines of its doc comment, each with a space in front.
    doc: &'static str,
}

impl Metric {
    /// What it means, as one paragraph.
    pub fn help(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Defines the names and the table, from one list.
macro_rules! metrics {
    ($( $(#[doc = $doc:literal])+ $constant:ident = $name:literal, $kind:expr, [$($label:literal),*]; )+) => {
        $( $(#[doc = $doc])+ pub const $constant: &str = $name; )+

        /// Every metric, in the order of the documentation.
        pub const METRICS: &[Metric] = &[ $( Metric {
            name: $name,
            kind: $kind,
            labels: &[$($label),*],
            doc: concat!($($doc, "\n"),+),
        } ),+ ];
    };
}

const SECONDS: Kind = Kind::Histogram(Buckets::Seconds);
const SHORT_SECONDS: Kind = Kind::Histogram(Buckets::ShortSeconds);
const COUNTS: Kind = Kind::Histogram(Buckets::Count);

metrics! {
    /// One, with the version and commit of the program as labels.
    BUILD_INFO = "trove_build_info", Kind::Gauge, ["version", "commit"];

    /// Faults of the program that ended a piece of a thread's work and not the thread; the log has them.
    PANICS = "trove_panics_total", Kind::Counter, [];

    /// gRPC requests that have ended, by status code.
    GRPC_REQUESTS = "trove_grpc_requests_total", Kind::Counter, ["method", "code"];
    /// Time from a gRPC request to its last message.
    GRPC_REQUEST_DURATION = "trove_grpc_request_duration_seconds", SECONDS, ["method"];
    /// gRPC requests that run.
    GRPC_REQUESTS_IN_FLIGHT = "trove_grpc_requests_in_flight", Kind::Gauge, ["method"];

    /// One for each loaded encoder and cross-encoder, with its content hash, ONNX Runtime's execution provider and the precision in use.
    ENCODER_INFO = "trove_encoder_info", Kind::Gauge, ["model", "revision", "provider", "precision"];
    /// Sequences that wait for a session.
    ENCODER_QUEUE_LENGTH = "trove_encoder_queue_length", Kind::Gauge, ["model"];
    /// Waiting sequences, of interactive and of bulk work each, from which on calls are refused (`encoder.queue_capacity`).
    ENCODER_QUEUE_CAPACITY = "trove_encoder_queue_capacity", Kind::Gauge, ["model"];
    /// Calls refused with QUEUE_FULL.
    ENCODER_REJECTED = "trove_encoder_rejected_total", Kind::Counter, ["model"];
    /// Sequences that were run: texts, passages, windows of long ones.
    ENCODER_SEQUENCES = "trove_encoder_sequences_total", Kind::Counter, ["model"];
    /// Sequences that were not run because an equal one of the same call was.
    ENCODER_DEDUPLICATED_SEQUENCES = "trove_encoder_deduplicated_sequences_total", Kind::Counter, ["model"];
    /// Tokens that were run, without padding; its rate is the encoder's tokens per second.
    ENCODER_TOKENS = "trove_encoder_tokens_total", Kind::Counter, ["model"];
    /// Padding that was run with them.
    ENCODER_PADDING_TOKENS = "trove_encoder_padding_tokens_total", Kind::Counter, ["model"];
    /// Sequences of a batch.
    ENCODER_BATCH_SEQUENCES = "trove_encoder_batch_sequences", COUNTS, ["model"];
    /// Share of the token budget (`encoder.max_batch_tokens`) that a batch takes, padding counted.
    ENCODER_BATCH_FILL_RATIO = "trove_encoder_batch_fill_ratio", Kind::Histogram(Buckets::Ratio), ["model"];
    /// Time a sequence waited for a session.
    ENCODER_QUEUE_DURATION = "trove_encoder_queue_duration_seconds", SHORT_SECONDS, ["model"];
    /// Time of a batch: forward pass and pooling.
    ENCODER_BATCH_DURATION = "trove_encoder_batch_duration_seconds", SHORT_SECONDS, ["model"];
    /// Batches that failed.
    ENCODER_FAILURES = "trove_encoder_failures_total", Kind::Counter, ["model"];

    /// One for each loaded generator, with its content hash, ONNX Runtime's execution provider and its weights' type.
    GENERATOR_INFO = "trove_generator_info", Kind::Gauge, ["model", "revision", "provider", "precision"];
    /// Generations that wait for a slot.
    GENERATOR_QUEUE_LENGTH = "trove_generator_queue_length", Kind::Gauge, ["model"];
    /// Waiting generations from which on calls are refused (`generator.queue_capacity`).
    GENERATOR_QUEUE_CAPACITY = "trove_generator_queue_capacity", Kind::Gauge, ["model"];
    /// Generations that can run at once (`generator.slots`).
    GENERATOR_SLOTS = "trove_generator_slots", Kind::Gauge, ["model"];
    /// Slots with a generation.
    GENERATOR_SLOTS_IN_USE = "trove_generator_slots_in_use", Kind::Gauge, ["model"];
    /// Generations refused with QUEUE_FULL.
    GENERATOR_REJECTED = "trove_generator_rejected_total", Kind::Counter, ["model"];
    /// Generations that ended, by how: `stop`, `length`, `cancelled` (the caller left or the server stopped), `failed`.
    GENERATOR_GENERATIONS = "trove_generator_generations_total", Kind::Counter, ["model", "outcome"];
    /// Time a generation waited for a slot.
    GENERATOR_QUEUE_DURATION = "trove_generator_queue_duration_seconds", SECONDS, ["model"];
    /// Time from the request to the first token, waiting included.
    GENERATOR_TIME_TO_FIRST_TOKEN = "trove_generator_time_to_first_token_seconds", SECONDS, ["model"];
    /// Time of a generation in its slot.
    GENERATOR_DURATION = "trove_generator_duration_seconds", SECONDS, ["model"];
    /// Prompt tokens that were run (prefill).
    GENERATOR_PREFILL_TOKENS = "trove_generator_prefill_tokens_total", Kind::Counter, ["model"];
    /// Prompt tokens that a KV cache held already.
    GENERATOR_CACHED_PROMPT_TOKENS = "trove_generator_cached_prompt_tokens_total", Kind::Counter, ["model"];
    /// Tokens that were written (decode); its rate is the generator's tokens per second.
    GENERATOR_DECODE_TOKENS = "trove_generator_decode_tokens_total", Kind::Counter, ["model"];
    /// Tokens that were drafted from the context.
    GENERATOR_DRAFTED_TOKENS = "trove_generator_drafted_tokens_total", Kind::Counter, ["model"];
    /// Drafted tokens that the model would have written too.
    GENERATOR_ACCEPTED_TOKENS = "trove_generator_accepted_tokens_total", Kind::Counter, ["model"];

    /// Documents that went through ingest, by what was done: `indexed`, `updated` (only what describes it),
    /// `unchanged`, `failed`.
    INGEST_DOCUMENTS = "trove_ingest_documents_total", Kind::Counter, ["result"];
    /// Bytes of the documents that were extracted and encoded.
    INGEST_BYTES = "trove_ingest_bytes_total", Kind::Counter, [];
    /// Passages that were made of them.
    INGEST_PASSAGES = "trove_ingest_passages_total", Kind::Counter, [];

    /// Files whose text is extracted or waits for that.
    EXTRACTIONS_IN_FLIGHT = "trove_extractions_in_flight", Kind::Gauge, [];
    /// Time to extract a file's text, by media type; its count is the number of jobs.
    EXTRACTION_DURATION = "trove_extraction_duration_seconds", SECONDS, ["media_type"];
    /// Extractions that failed, by reason.
    EXTRACTION_FAILURES = "trove_extraction_failures_total", Kind::Counter, ["media_type", "reason"];

    /// Time of a search without encoding its query, by the mode that was used.
    SEARCH_DURATION = "trove_search_duration_seconds", SHORT_SECONDS, ["mode"];
    /// Time in which the best hits were scored again, by the method: late_interaction or cross_encoder.
    SEARCH_RERANK_DURATION = "trove_search_rerank_duration_seconds", SHORT_SECONDS, ["method"];
    /// Hybrid searches that went by vectors alone: no word to look up, or no keyword index to read.
    SEARCH_FALLBACKS = "trove_search_fallbacks_total", Kind::Counter, [];
    /// Hits left out because their records are damaged.
    SEARCH_DAMAGED_HITS = "trove_search_damaged_hits_total", Kind::Counter, [];

    /// Documents left out of listings and deletions by filter because their records are damaged.
    LISTING_DAMAGED_DOCUMENTS = "trove_listing_damaged_documents_total", Kind::Counter, [];

    /// Documents of a collection.
    COLLECTION_DOCUMENTS = "trove_collection_documents", Kind::Gauge, ["collection"];
    /// Passages of a collection.
    COLLECTION_PASSAGES = "trove_collection_passages", Kind::Gauge, ["collection"];
    /// Share of the collection's 2^32 document numbers that are used. Each document that is written or replaced uses one;
    /// a snapshot that is restored numbers its documents anew.
    COLLECTION_NUMBERS_USED = "trove_collection_document_numbers_used_ratio", Kind::Gauge, ["collection"];
    /// Collections.
    COLLECTIONS = "trove_collections", Kind::Gauge, [];

    /// Living points of a vector index.
    INDEX_POINTS = "trove_index_points", Kind::Gauge, ["collection", "level"];
    /// Points of its head, which searches scan.
    INDEX_HEAD_POINTS = "trove_index_head_points", Kind::Gauge, ["collection", "level"];
    /// Sealed segments.
    INDEX_SEGMENTS = "trove_index_segments", Kind::Gauge, ["collection", "level"];
    /// Deleted points that are still in segments.
    INDEX_TOMBSTONES = "trove_index_tombstones", Kind::Gauge, ["collection", "level"];
    /// Memory of codes, links and ids.
    INDEX_MEMORY = "trove_index_memory_bytes", Kind::Gauge, ["collection", "level"];
    /// Time to seal a head or merge segments.
    INDEX_BUILD_DURATION = "trove_index_build_duration_seconds", SECONDS, ["operation"];
    /// Seals and merges that failed.
    INDEX_BUILD_FAILURES = "trove_index_build_failures_total", Kind::Counter, [];

    /// Passages that the keyword index finds.
    KEYWORD_PASSAGES = "trove_keyword_passages", Kind::Gauge, ["collection"];
    /// Changes of documents that wait to be written to the keyword index.
    KEYWORD_WAITING_CHANGES = "trove_keyword_waiting_changes", Kind::Gauge, ["collection"];
    /// Time to write what waits to a keyword index, or to compare it with the store.
    KEYWORD_WRITE_DURATION = "trove_keyword_write_duration_seconds", SHORT_SECONDS, [];
    /// Writes of keyword indexes that failed; they are tried again.
    KEYWORD_WRITE_FAILURES = "trove_keyword_write_failures_total", Kind::Counter, [];

    /// Writes to the store: `upsert`, `update`, `delete`; refused ones included.
    STORE_WRITES = "trove_store_writes_total", Kind::Counter, ["operation"];
    /// Writes that shared one flush and fsync (group commit).
    STORE_COMMIT_WRITES = "trove_store_commit_writes", COUNTS, [];
    /// Time of a group commit.
    STORE_COMMIT_DURATION = "trove_store_commit_duration_seconds", SHORT_SECONDS, [];
    /// Time of the database's flush.
    STORE_FLUSH_DURATION = "trove_store_flush_duration_seconds", SHORT_SECONDS, [];
    /// Time of the fsync after it.
    STORE_FSYNC_DURATION = "trove_store_fsync_duration_seconds", SHORT_SECONDS, [];
    /// Commits that could not be made durable.
    STORE_COMMIT_FAILURES = "trove_store_commit_failures_total", Kind::Counter, [];
    /// Bytes that the store takes on disk.
    STORE_DISK = "trove_store_disk_bytes", Kind::Gauge, [];
    /// Bytes that are free on the disk of the data directory.
    STORE_DISK_FREE = "trove_store_disk_free_bytes", Kind::Gauge, [];
    /// Zero after a write that failed on the disk: writes are refused until a restart.
    STORE_WRITABLE = "trove_store_writable", Kind::Gauge, [];
    /// Schema version of the store.
    STORE_SCHEMA_VERSION = "trove_store_schema_version", Kind::Gauge, [];

    /// Snapshots made, verified and restored: `create`, `scheduled`, `verify`, `restore`, by how that ended: `ok`,
    /// `failed`, `cancelled`.
    SNAPSHOT_OPERATIONS = "trove_snapshot_operations_total", Kind::Counter, ["operation", "outcome"];
    /// Time that these took, however they ended.
    SNAPSHOT_DURATION = "trove_snapshot_duration_seconds", SECONDS, ["operation"];
    /// Snapshots that are kept, by whether they can be read: `ok`, `unreadable`. Only their beginning and end are
    /// looked at; `trove snapshots verify` reads all.
    SNAPSHOTS = "trove_snapshots", Kind::Gauge, ["state"];
    /// Bytes that they take on disk.
    SNAPSHOT_DISK = "trove_snapshot_disk_bytes", Kind::Gauge, [];
    /// When the newest that can be read and is not dated in the future was made, in seconds since 1970; zero where there
    /// is none.
    SNAPSHOT_LAST_TIME = "trove_snapshot_last_time_seconds", Kind::Gauge, [];
    /// Time from one scheduled snapshot to the next (`snapshots.interval_hours`); zero where none are wanted.
    SNAPSHOT_INTERVAL = "trove_snapshot_interval_seconds", Kind::Gauge, [];

    /// API keys by state: `valid`, `expired`, `revoked`. All are zero while the server is open to all.
    ACCESS_KEYS = "trove_access_keys", Kind::Gauge, ["state"];
    /// Calls refused for their API key, by reason.
    ACCESS_REFUSALS = "trove_access_refusals_total", Kind::Counter, ["reason"];
    /// TLS handshakes that failed: `refused` by either side, `timeout`.
    TLS_HANDSHAKE_FAILURES = "trove_tls_handshake_failures_total", Kind::Counter, ["reason"];
    /// Changed certificate files that were read again: `ok`, or `failed` while the old ones stay in use.
    TLS_RELOADS = "trove_tls_reloads_total", Kind::Counter, ["outcome"];
    /// When the certificate in use expires, in seconds since 1970: of its chain, the one that expires first. Missing
    /// without TLS.
    TLS_CERTIFICATE_EXPIRE_TIME = "trove_tls_certificate_expire_time_seconds", Kind::Gauge, [];
    /// Calls ended because their client did not read what it was sent (`limits.send_timeout_seconds`).
    RESPONSES_NOT_READ = "trove_responses_not_read_total", Kind::Counter, [];

    /// Processor time of the process in seconds, user and system; its children are not in it. Linux only, as all
    /// `process_` metrics. It only rises, though its type is a gauge: it is no whole number.
    PROCESS_CPU = "process_cpu_seconds_total", Kind::Gauge, [];
    /// Memory of the process that is in use.
    PROCESS_RESIDENT_MEMORY = "process_resident_memory_bytes", Kind::Gauge, [];
    /// Address space of the process.
    PROCESS_VIRTUAL_MEMORY = "process_virtual_memory_bytes", Kind::Gauge, [];
    /// Threads of the process.
    PROCESS_THREADS = "process_threads", Kind::Gauge, [];
    /// Open files of the process.
    PROCESS_OPEN_FDS = "process_open_fds", Kind::Gauge, [];
    /// Most files that it may open.
    PROCESS_MAX_FDS = "process_max_fds", Kind::Gauge, [];
    /// When it started, in seconds since 1970.
    PROCESS_START_TIME = "process_start_time_seconds", Kind::Gauge, [];
}

/// The table as Markdown: the reference in docs/OBSERVABILITY.md.
pub fn markdown() -> String {
    let mut out = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (metric.name, metric.kind.as_str());
        out.push_str(&format!("| `{name}` | {kind} | {} | {} |\n", labels.join(", "), metric.help()));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut names = HashSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("trove_") || name.starts_with("process_"), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(metric.kind != Kind::Counter || name.ends_with("_total"), "{name}");
            assert!(metric.help().ends_with('.'), "{name}");
            if let Kind::Histogram(buckets) = metric.kind {
                assert!(buckets.bounds().is_sorted(), "{name}");
                let in_seconds = matches!(buckets, Buckets::Seconds | Buckets::ShortSeconds);
                assert_eq!(in_seconds, name.ends_with("_seconds"), "{name}");
            }
        }
    }

    /// Names of metrics in a text, without what a histogram appends to them.
    fn named(text: &str) -> HashSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let is_metric = |word: &&str| word.starts_with("trove_") || word.starts_with("process_");
        let histograms: HashSet<&str> = METRICS
            .iter()
            .filter_map(|metric| matches!(metric.kind, Kind::Histogram(_)).then_some(metric.name))
            .collect();
        let suffixes = ["_bucket", "_sum", "_count"];
        let base = |word| {
            let bases = suffixes.iter().filter_map(|suffix| str::strip_suffix(word, suffix));
            bases.into_iter().find(|base| histograms.contains(base)).unwrap_or(word)
        };
        words.filter(is_metric).map(base).collect()
    }

    #[test]
    fn dashboard_and_alerts_name_metrics_that_exist() {
        let known: HashSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        let dashboard = std::fs::read_to_string("../../deploy/grafana-dashboard.json").unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        let panels = parsed["panels"].as_array().unwrap();
        let expressions: Vec<&str> = panels
            .iter()
            .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
            .map(|target| target["expr"].as_str().unwrap())
            .collect();
        assert!(expressions.len() >= panels.len() / 2);
        let alerts = std::fs::read_to_string("../../deploy/alerts.yml").unwrap();
        for text in expressions.iter().copied().chain([alerts.as_str()]) {
            let unknown: Vec<&str> = named(text).into_iter().filter(|name| !known.contains(name)).collect();
            assert_eq!(unknown, Vec::<&str>::new(), "{text}");
            assert!(!named(text).is_empty(), "{text}");
        }
        let shown: HashSet<&str> = expressions.iter().flat_map(|text| named(text)).collect();
        // What says the same in another way need not be shown.
        let not_shown = [
            "trove_collections",
            "trove_store_schema_version",
            "trove_generator_queue_capacity",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
        ];
        let missing: Vec<&str> =
            known.into_iter().filter(|name| !shown.contains(name) && !not_shown.contains(name)).collect();
        assert_eq!(missing, Vec::<&str>::new(), "the dashboard shows none of these");
    }

    #[test]
    fn the_documentation_has_this_table() {
        let written = std::fs::read_to_string("../../docs/OBSERVABILITY.md").unwrap();
        let table = markdown();
        assert!(written.contains(&table), "docs/OBSERVABILITY.md lacks the table of the metrics:\n{table}");
    }
}
