//! Whether the machine has the memory that the settings allow the server to take.

use std::path::Path;

use indicatif::BinaryBytes;

use super::Report;
use crate::config::Config;
use crate::encoder;
use crate::server::{self, DEFAULT_GENERATOR, Resident, model_dir, named};

/// The name of the check.
const NAME: &str = "memory of the server";
/// What the program, its libraries and an empty store take beside the models.
const PROGRAM: usize = 256 << 20;

/// Compares them; the caches of the generators take `caches` bytes. Models are taken to need as much as their files.
pub fn check(report: &mut Report, config: &Config, caches: usize) {
    let bound = Resident::new(config, weights(config).saturating_add(PROGRAM), caches);
    let most = bound.total();
    let message = format!("at most about {}: {bound}", BinaryBytes(most as u64));
    match server::memory_of_the_machine().filter(|machine| *machine < most) {
        Some(machine) => report.warning(
            NAME,
            format!("{message}; the machine or its control group has {}", BinaryBytes(machine as u64)),
            "lower limits.max_stream_memory_bytes, limits.max_request_memory_bytes, limits.max_document_bytes, \
             limits.max_message_bytes, extract.workers, extract.memory_bytes, store.cache_bytes or generator.slots; \
             or take a machine with more",
        ),
        None => report.ok(NAME, message),
    }
}

/// Bytes of the models' files, for each session.
fn weights(config: &Config) -> usize {
    let sessions = encoder::sessions(config.encoder.sessions);
    let encoders = config.encoder.models.iter().map(String::as_str).chain(named(&config.reranker.models));
    let generators =
        named(&config.generator.models).map(|name| if name == "auto" { DEFAULT_GENERATOR } else { name });
    let encoders = encoders.map(|name| files(&model_dir(config, name)).saturating_mul(sessions));
    encoders.chain(generators.map(|name| files(&model_dir(config, name)))).fold(0, usize::saturating_add)
}

/// Bytes of the files of a directory and those below it.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match std::fs::metadata(entry.path()) {
        Ok(metadata) if metadata.is_dir() => files(&entry.path()),
        Ok(metadata) => usize::try_from(metadata.len()).unwrap_or(usize::MAX),
        Err(_) => 0,
    });
    sizes.fold(0, usize::saturating_add)
}
