//! File descriptors. The process takes as many as it may have, does not start with settings that need more, and leaves
//! some to the store whatever connects: a write that lacks one would end writing.

use std::os::fd::RawFd;

use rlimit::Resource;

use super::clients::MAX_REFUSED;
use crate::config::Config;
use crate::error::{Error, Result};

/// For the database, the log of the server, models, keyword indexes, snapshots, TLS files, metrics and traces.
const FIXED: u64 = 128;
/// Threads that may block at once, as tokio has it: each may have a file of the store open to read it.
const BLOCKING: u64 = 512;
/// For an extraction: both ends of three pipes, and what it takes to start a process.
const WORKER: u64 = 10;

/// Raises the limit of this process as far as that is allowed, and checks that the settings fit in. Gives the number
/// from which on descriptors are not for connections.
///
/// # Errors
/// `TOO_FEW_FILES`.
pub fn take(config: &Config) -> Result<RawFd> {
    // Where it cannot be raised, what there is must do.
    let limit = rlimit::increase_nofile_limit(u64::MAX).or_else(|_| Resource::NOFILE.get_soft());
    let limit = limit.unwrap_or(u64::MAX);
    check_limit(config, limit)?;
    Ok(RawFd::try_from(limit.saturating_sub(reserve(config))).unwrap_or(RawFd::MAX))
}

/// Checks that a process of this machine may have the files open that the settings need, and tells how many these are
/// and how many it may have.
///
/// # Errors
/// `TOO_FEW_FILES`.
pub(crate) fn check(config: &Config) -> Result<(u64, u64)> {
    let (_, most) = Resource::NOFILE.get().unwrap_or((u64::MAX, u64::MAX));
    check_limit(config, most)?;
    Ok((needed(config), most))
}

fn check_limit(config: &Config, limit: u64) -> Result<()> {
    let needed = needed(config);
    if needed <= limit {
        return Ok(());
    }
    let (connections, workers) = (config.limits.max_connections, config.extract.workers);
    let left = limit.saturating_sub(reserve(config).saturating_add(MAX_REFUSED as u64));
    let lower = match left {
        0 => String::new(),
        left => format!(", or set limits.max_connections to at most {left}"),
    };
    let message = format!(
        "expected a limit of at least {needed} open files, which limits.max_connections = {connections} and \
         extract.workers = {workers} need, got {limit}: raise it (`ulimit -Hn`, LimitNOFILE= in a systemd unit, \
         --ulimit nofile= of a container){lower}"
    );
    Err(Error::precondition("TOO_FEW_FILES", message))
}

/// Descriptors that connections must leave.
fn reserve(config: &Config) -> u64 {
    let workers = u64::try_from(config.extract.workers).unwrap_or(u64::MAX);
    (FIXED + BLOCKING).saturating_add(workers.saturating_mul(WORKER))
}

fn needed(config: &Config) -> u64 {
    let connections = u64::try_from(config.limits.max_connections).unwrap_or(u64::MAX);
    reserve(config).saturating_add(MAX_REFUSED as u64).saturating_add(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(connections: usize, workers: usize) -> Config {
        let mut config = Config::default();
        config.limits.max_connections = connections;
        config.extract.workers = workers;
        config
    }

    #[test]
    fn settings_that_need_more_files_than_there_may_be_are_refused_with_what_fits() {
        assert!(check_limit(&Config::default(), 4096).is_ok());
        assert!(check_limit(&config(300, 2), 1024).is_ok());
        let error = check_limit(&config(301, 2), 1024).unwrap_err();
        assert_eq!(error.reason, "TOO_FEW_FILES");
        for part in ["at least 1025", "limits.max_connections = 301", "got 1024", "at most 300"] {
            assert!(error.message.contains(part), "{part}: {}", error.message);
        }
        let error = check_limit(&config(1, 100), 1024).unwrap_err();
        assert!(!error.message.contains("at most"), "{}", error.message);
        assert!(error.message.contains("extract.workers = 100"), "{}", error.message);
        assert!(check_limit(&config(usize::MAX, usize::MAX), 1 << 30).is_err());
    }
}
