//! How much memory the server may have resident: a sum over what its settings allow, which `trove serve` prints at the
//! start and `trove doctor` compares with the machine.

use std::fmt;

use super::guard::{HEALTH_CALLS, HEALTH_MEMORY};
use super::listen::{CONNECTION_BYTES, STREAM_WINDOW};
use crate::config::{Config, LimitsConfig};
use crate::extract::MAX_TEXT_BYTES;
use crate::grpc::Memory;

/// Room of all streams for what is small, such as an answer about a document.
const SPARE: usize = 16 << 20;
/// What a call takes beside its messages: its headers, its tasks, answers on their way to the socket.
const CALL_BYTES: usize = 96 << 10;
/// What a session takes for each token of a batch while it computes one.
const TOKEN_BYTES: usize = 160 << 10;
/// What is left with the allocators of what was freed, as a share of what may be taken: a fourth.
const KEPT_BY_ALLOCATORS: usize = 4;

/// The memory for calls with one message: one of them may take half of it, which has room for the largest message as it
/// came and decoded.
pub(super) fn request_memory(limits: &LimitsConfig) -> Memory {
    Memory::new(limits.max_request_memory_bytes.max(limits.max_message_bytes.saturating_mul(4)))
}

/// The memory for streams: the place that is kept for one of them has room for the largest document and message.
pub(super) fn stream_memory(limits: &LimitsConfig) -> Memory {
    let document = limits.max_document_bytes.saturating_mul(2);
    let message = limits.max_message_bytes.saturating_mul(2).saturating_add(1 << 20);
    Memory::with_kept_place(limits.max_stream_memory_bytes, SPARE, document.saturating_add(message))
}

/// What may be resident, by what takes it.
pub(crate) struct Resident {
    parts: Vec<(&'static str, usize)>,
}

impl Resident {
    /// Of a server with these settings, whose models and indexes take `loaded` bytes and whose generators' caches may
    /// take `caches`.
    pub fn new(config: &Config, loaded: usize, caches: usize) -> Self {
        let limits = &config.limits;
        let calls = limits.max_concurrent_requests.saturating_add(HEALTH_CALLS);
        let requests = request_memory(limits).bytes();
        let streams = stream_memory(limits).bytes();
        let counted = requests.saturating_add(streams);
        let encoders = crate::encoder::sessions(config.encoder.sessions)
            .saturating_mul(config.encoder.models.len().saturating_add(config.reranker.models.len()))
            .saturating_mul(config.encoder.max_batch_tokens)
            .saturating_mul(TOKEN_BYTES);
        let cache = usize::try_from(config.store.cache_bytes).unwrap_or(usize::MAX);
        let worker = usize::try_from(config.extract.memory_bytes).unwrap_or(usize::MAX);
        let text = limits.max_document_bytes.min(MAX_TEXT_BYTES);
        let parts = vec![
            ("models and indexes as loaded", loaded),
            ("batches of the encoders", encoders),
            ("caches of the generators", caches),
            ("pages of the store, twice", cache.saturating_mul(2)),
            ("calls with one message", requests),
            ("streams", streams),
            ("calls of health", HEALTH_MEMORY),
            ("what calls take beside", calls.saturating_mul(CALL_BYTES)),
            ("connections", limits.max_connections.saturating_mul(CONNECTION_BYTES)),
            ("bytes that streams have not read yet", limits.max_streams.saturating_mul(STREAM_WINDOW)),
            ("texts that come from workers", config.extract.workers.saturating_mul(text)),
            ("kept by the allocators", counted / KEPT_BY_ALLOCATORS),
            ("extraction workers", config.extract.workers.saturating_mul(worker)),
        ];
        Self { parts }
    }

    /// Bytes of all parts, the workers' with them.
    pub fn total(&self) -> usize {
        self.parts.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

impl fmt::Display for Resident {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, bytes)) in self.parts.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(out, "{comma}{name} {} MiB", bytes.div_ceil(1 << 20))?;
        }
        Ok(())
    }
}

/// Bytes of this process that are resident.
#[cfg(target_os = "linux")]
pub(crate) fn now() -> Option<usize> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    usize::try_from(stat.rss * procfs::page_size()).ok()
}

/// Elsewhere nobody tells.
#[cfg(not(target_os = "linux"))]
pub(crate) fn now() -> Option<usize> {
    None
}

/// Bytes of memory of the machine, or of the control group that this process is in where that has less.
#[cfg(target_os = "linux")]
pub(crate) fn of_the_machine() -> Option<usize> {
    use procfs::Current;
    let machine = procfs::Meminfo::current().ok()?.mem_total;
    let limit = group_limit().unwrap_or(u64::MAX);
    usize::try_from(machine.min(limit)).ok()
}

/// Elsewhere nobody tells.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of_the_machine() -> Option<usize> {
    None
}

/// The least limit of the control group (version 2) and those above it.
#[cfg(target_os = "linux")]
fn group_limit() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = group.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = std::path::Path::new("/sys/fs/cgroup");
    let own = root.join(path);
    let dirs = own.ancestors().take_while(|dir| dir.starts_with(root));
    let limit =
        |dir: &std::path::Path| std::fs::read_to_string(dir.join("memory.max")).ok()?.trim().parse().ok();
    dirs.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_sum_of_what_the_settings_allow() {
        let mut config = Config::default();
        let before = Resident::new(&config, 1 << 30, 0);
        assert_eq!(before.total(), before.parts.iter().map(|(_, bytes)| bytes).sum::<usize>());
        assert!(before.to_string().starts_with("models and indexes as loaded 1024 MiB, "), "{before}");
        config.limits.max_stream_memory_bytes += 100 << 20;
        config.extract.workers += 1;
        let grown = Resident::new(&config, 1 << 30, 0).total() - before.total();
        assert_eq!(grown, (125 << 20) + (64 << 20) + (2 << 30));
    }

    #[test]
    fn the_largest_message_and_document_have_room_whatever_the_settings_say() {
        let limits = LimitsConfig {
            max_request_memory_bytes: 1,
            max_stream_memory_bytes: 1,
            max_message_bytes: 1000,
            max_document_bytes: 5000,
            ..LimitsConfig::default()
        };
        assert_eq!(request_memory(&limits).bytes(), 4000);
        assert!(stream_memory(&limits).bytes() > 12_000);
    }
}
