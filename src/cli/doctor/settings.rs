//! The configuration: what does not fit, and what fits but is risky.

use std::path::Path;

use super::Report;
use crate::config::{Config, Flag, Loaded};

/// The name of the check.
const NAME: &str = "configuration";
/// A greater message is held in memory whole, for each call.
const LARGE_MESSAGE: usize = 1 << 30;

/// Checks the settings and gives them; keys that do not fit keep the value of the source before.
pub fn check(report: &mut Report, file: Option<&Path>, flags: &[Flag]) -> Option<Config> {
    let mut loaded = Loaded::read(file, flags);
    let problems = std::mem::take(&mut loaded.problems);
    for problem in &problems {
        report.problem(
            NAME,
            problem,
            "correct it; `trove config default` prints every key with what it takes",
        );
    }
    let config = match loaded.config() {
        Ok(config) => config,
        Err(error) => {
            report.problem(NAME, error.message, "correct the configuration");
            return None;
        }
    };
    let before = report.0.len();
    check_values(report, &config);
    if problems.is_empty() && report.0.len() == before {
        let from = file.map_or_else(|| "without a file".to_owned(), |file| file.display().to_string());
        report.ok(NAME, format!("every key fits ({from})"));
    }
    Some(config)
}

fn check_values(report: &mut Report, config: &Config) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(address) = config.metrics.listen.filter(|address| !address.ip().is_loopback()) {
        report.warning(
            NAME,
            format!(
                "metrics.listen: {address} can be reached from other machines, without keys or encryption"
            ),
            "keep it in a network of its own, or listen on 127.0.0.1",
        );
    }
    let threads = config.encoder.sessions.saturating_mul(config.encoder.threads);
    if threads > cores {
        report.warning(
            NAME,
            format!("encoder.sessions times encoder.threads is {threads}, on {cores} cores"),
            "set them so that the product is at most the number of cores, or zero to let the program choose",
        );
    }
    if config.generator.threads > cores {
        report.warning(
            NAME,
            format!("generator.threads is {}, on {cores} cores", config.generator.threads),
            "set it to at most the number of cores, or zero to let the program choose",
        );
    }
    if config.limits.max_message_bytes > LARGE_MESSAGE {
        report.warning(
            NAME,
            format!("limits.max_message_bytes is {}", config.limits.max_message_bytes),
            "each call may take so much memory: send large files as streams (IngestDocuments) instead",
        );
    }
    if config.limits.shutdown_seconds == 0 {
        report.warning(
            NAME,
            "limits.shutdown_seconds is 0: calls that run are dropped when the server stops",
            "give them a few seconds",
        );
    }
}
