//! What could not be indexed and why, kept until it succeeds or is gone. The server has nothing of it, so it is kept on
//! this machine: another one does not know of it.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::state;

/// Name of the file.
const FILE: &str = "failures.json";
/// Failures that are kept of a collection.
const MOST: usize = 10_000;

/// Why something is not in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub reason: String,
    /// When it was tried last, in seconds since 1970.
    pub time: i64,
}

/// Failures by the id that the document has or would have.
pub type Failures = BTreeMap<String, Failure>;

/// What a run found out.
pub struct Told<'a> {
    /// What failed, by id, and why.
    pub failed: &'a [(String, String)],
    /// Ids of files without text.
    pub empty: &'a [String],
    /// Ids that were read.
    pub seen: &'a HashSet<String>,
    /// Names of the roots of which the run read everything that there is.
    pub complete: Vec<&'a str>,
}

/// The file: for each server the failures of each collection.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    servers: BTreeMap<String, BTreeMap<String, Failures>>,
}

/// Failures of a collection.
pub fn load(server: &str, collection: &str) -> Failures {
    let kept = state::file(FILE).map(|path| read(&path)).unwrap_or_default();
    kept.servers
        .get(&key(server))
        .and_then(|collections| collections.get(collection))
        .cloned()
        .unwrap_or_default()
}

/// Takes over what a run found out.
///
/// # Errors
/// What the disk gives.
pub fn save(server: &str, collection: &str, told: &Told<'_>) -> std::io::Result<()> {
    let Some(path) = state::file(FILE) else { return Ok(()) };
    save_to(&path, server, collection, told)
}

/// The address of a server, however it is written.
fn key(server: &str) -> String {
    server.strip_prefix("http://").unwrap_or(server).trim_end_matches('/').to_owned()
}

fn save_to(path: &Path, server: &str, collection: &str, told: &Told<'_>) -> std::io::Result<()> {
    let mut kept = read(path);
    let failures = kept.servers.entry(key(server)).or_default().entry(collection.to_owned()).or_default();
    let before = failures.clone();
    update(failures, told);
    if *failures == before {
        return Ok(());
    }
    state::make_folder(path)?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&kept)?)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

fn update(failures: &mut Failures, told: &Told<'_>) {
    let is_of = |id: &str, root: &str| {
        id.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '#']))
    };
    failures.retain(|id, _| !told.seen.contains(id) && !told.complete.iter().any(|root| is_of(id, root)));
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let empty = told.empty.iter().map(|id| (id.clone(), "EMPTY_DOCUMENT: it holds no text".to_owned()));
    for (id, reason) in told.failed.iter().cloned().chain(empty) {
        if failures.len() < MOST || failures.contains_key(&id) {
            failures.insert(id, Failure { reason, time });
        }
    }
}

/// One that cannot be read is as good as none: it is made anew.
fn read(path: &Path) -> Kept {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_stay_until_they_succeed_or_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trove/failures.json");
        let save = |failed: &[&str], seen: &[&str], complete: Vec<&str>| {
            let failed: Vec<_> = failed.iter().map(|id| ((*id).to_owned(), "why".to_owned())).collect();
            let seen = seen.iter().map(|id| (*id).to_owned()).collect();
            save_to(&path, "s", "c", &Told { failed: &failed, empty: &[], seen: &seen, complete }).unwrap();
            let kept = read(&path);
            kept.servers["s"]["c"].keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(save(&["r/a", "r/b", "rest/c"], &["r/a", "r/b"], vec![]), ["r/a", "r/b", "rest/c"]);
        assert_eq!(save(&[], &["r/a"], vec![]), ["r/b", "rest/c"]);
        assert_eq!(save(&["r/d"], &[], vec!["r"]), ["r/d", "rest/c"]);
        assert_eq!(key("http://127.0.0.1:7700/"), key("127.0.0.1:7700"));
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(save(&["r/e"], &[], vec![]), ["r/e"]);
    }
}
