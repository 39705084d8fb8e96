//! Fetches a model's files from the Hugging Face hub into its cache.
//!
//! The environment is that of the hub's other tools: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_CACHE`. A file is
//! written beside its place and renamed when it is whole and checked, and the revision's name is written last, so that a
//! download that was interrupted is never taken for a model; the next one goes on where it stopped.

mod api;
mod cache;
mod choice;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use api::{Entry, Hub, Repository};
use cache::Cache;
use choice::Choice;
use transfer::Transfer;

use super::dir::{Folder, is_inside};
use crate::error::{Error, ErrorKind, Result};

/// The revision where none is named.
const MAIN: &str = "main";

/// A model to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Pull<'a> {
    /// `OWNER/NAME`, or `OWNER/NAME:QUANTIZATION` for one GGUF file of a repository, which a file's name can tell too.
    pub repository: &'a str,
    /// Branch, tag or commit; the main branch where none is given.
    pub revision: Option<&'a str>,
    /// Whether only the cache is used.
    pub offline: bool,
    /// Whether a head that is not used here is left out; without it such a model is refused.
    pub without_head: bool,
}

/// What was fetched.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Directory in the Hugging Face layout, or a GGUF file, in the hub's cache.
    pub path: PathBuf,
    /// A name for it: the repository's, or the GGUF file's without its ending.
    pub name: String,
    /// Commit on the hub.
    pub commit: String,
    /// Whether the hub was not asked, or did not answer.
    pub from_cache: bool,
}

/// One file of a repository whose SHA-256 is known before.
#[derive(Debug, Clone, Copy)]
pub struct Pinned<'a> {
    /// `OWNER/NAME`.
    pub repository: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// The file.
    pub name: &'a str,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
}

/// How far a download is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullProgress {
    /// Of all files.
    pub total: u64,
    /// That are there.
    pub done: u64,
}

/// What is told of a download's progress.
pub type Report<'a> = &'a (dyn Fn(PullProgress) + Sync);

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Owner and name of `OWNER/NAME`.
fn repository(text: &str) -> Result<Repository<'_>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fine = |part: &str| {
        !part.is_empty() && part.len() <= 96 && !part.starts_with('.') && part.chars().all(allowed)
    };
    match text.split_once('/') {
        Some((owner, name)) if fine(owner) && fine(name) => Ok(Repository { owner, name }),
        _ => Err(Error::invalid(
            "INVALID_REPOSITORY",
            format!("expected OWNER/NAME of letters, digits, '.', '-' and '_', got {text:?}"),
        )),
    }
}

/// Runs what asks the hub. Blocks.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|e| Error::internal("THREAD_FAILED", "no runtime to ask the hub").with_source(e))?;
    runtime.block_on(work)
}

impl Pull<'_> {
    /// Fetches what is not in the cache: configuration, tokenizer and one kind of weights, or one GGUF file. Where the
    /// hub does not answer, the cache is used as it is. Blocks: call it off the async threads.
    ///
    /// # Errors
    /// `INVALID_REPOSITORY`, `UNKNOWN_REPOSITORY`, `UNKNOWN_QUANTIZATION`, `HUB_REFUSED`, `HUB_UNREACHABLE`,
    /// `NOT_IN_CACHE`, `MODEL_FILE_MISSING`, `UNSUPPORTED_MODEL`, `CHECKSUM_MISMATCH`, `MODEL_WRITE_FAILED`.
    pub fn run(&self, progress: Report<'_>) -> Result<Pulled> {
        let (text, quantization) = match self.repository.split_once(':') {
            Some((text, quantization)) => (text, Some(quantization)),
            None => (self.repository, None),
        };
        let repository = repository(text)?;
        let wanted = Wanted {
            repository,
            quantization,
            revision: self.revision.unwrap_or(MAIN),
            without_head: self.without_head,
            cache: Cache::of(repository)?,
        };
        check_revision(wanted.revision)?;
        if self.offline {
            return wanted.cached();
        }
        match block_on(wanted.fetch(progress)) {
            Err(error) if error.kind == ErrorKind::Unavailable => match wanted.cached() {
                Ok(found) => {
                    tracing::warn!(%error, "the hub does not answer; using its cache");
                    Ok(found)
                }
                Err(_) => Err(error),
            },
            other => other,
        }
    }
}

impl Pinned<'_> {
    /// Fetches the file to a place, and takes up what an earlier run left beside it. Blocks.
    ///
    /// # Errors
    /// `CHECKSUM_MISMATCH` where the hub's file is another one, before it is fetched if the hub tells; else as of
    /// [`Pull::run`].
    pub fn run(&self, to: &Path, progress: Report<'_>) -> Result<()> {
        let repository = repository(self.repository)?;
        block_on(async {
            let hub = Hub::from_environment()?;
            let entry = Entry { name: self.name.to_owned(), size: None, sha256: None, id: None };
            let told = hub.complete(repository, self.revision, entry).await?;
            if let Some(other) = told.sha256.filter(|hash| !hash.eq_ignore_ascii_case(self.sha256)) {
                return Err(Error::data_loss(
                    "CHECKSUM_MISMATCH",
                    format!(
                        "{repository}/{}: expected SHA-256 {}, the hub has {other}",
                        self.name, self.sha256
                    ),
                ));
            }
            let entry =
                Entry { sha256: Some(self.sha256.to_owned()), size: told.size, id: None, name: told.name };
            let total = entry.size.unwrap_or_default();
            let transfer = Transfer { hub: &hub, repository, commit: self.revision, entry: &entry };
            transfer.run(to, &|done| progress(PullProgress { total, done })).await
        })
    }
}

/// Branches and tags have names of several parts, none of which leads out of the cache.
fn check_revision(revision: &str) -> Result<()> {
    if is_inside(revision) && revision.len() <= 255 {
        return Ok(());
    }
    Err(Error::invalid("INVALID_REVISION", format!("expected a branch, tag or commit, got {revision:?}")))
}

/// What is wanted of a repository, and where it goes.
struct Wanted<'a> {
    repository: Repository<'a>,
    quantization: Option<&'a str>,
    revision: &'a str,
    without_head: bool,
    cache: Cache,
}

impl Wanted<'_> {
    fn choice<'a>(&'a self, names: &'a BTreeSet<String>) -> Choice<'a> {
        Choice {
            repository: self.repository,
            names,
            quantization: self.quantization,
            without_head: self.without_head,
        }
    }

    /// What the cache holds of it.
    fn cached(&self) -> Result<Pulled> {
        let absent = || {
            Error::not_found(
                "NOT_IN_CACHE",
                format!(
                    "{} is not in the hub's cache; pull it once while the hub can be reached",
                    self.repository
                ),
            )
        };
        let commit = self.cache.commit(self.revision).ok_or_else(absent)?;
        let names = self.cache.names(&commit);
        if names.is_empty() {
            return Err(absent());
        }
        let choice = self.choice(&names);
        let gguf = choice.gguf()?;
        if gguf.is_none() {
            choice.wanted(&Folder::open(&self.cache.snapshot(&commit))?)?;
        }
        Ok(self.pulled(commit, gguf, true))
    }

    async fn fetch(&self, progress: Report<'_>) -> Result<Pulled> {
        let hub = Hub::from_environment()?;
        let listing = hub.list(self.repository, self.revision).await?;
        let commit = listing.commit;
        let entries: BTreeMap<String, Entry> =
            listing.entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        if let Some(name) = entries.keys().find(|name| !is_inside(name)) {
            return Err(Error::invalid(
                "INVALID_REPOSITORY",
                format!("{}: expected files inside the repository, got {name:?}", self.repository),
            ));
        }
        let names = entries.keys().cloned().collect();
        let choice = self.choice(&names);
        let source = Source { hub: &hub, commit: &commit, entries: &entries };
        let gguf = choice.gguf()?;
        let wanted = match &gguf {
            Some(file) => vec![file.clone()],
            None => {
                let snapshot = self.cache.snapshot(&commit);
                std::fs::create_dir_all(&snapshot).map_err(|e| super::place::unwritable(&snapshot, e))?;
                self.files(&source, &choice.first(), &|_| ()).await?;
                self.files(&source, &choice.second(&Folder::open(&snapshot)?)?, &|_| ()).await?;
                choice.wanted(&Folder::open(&snapshot)?)?
            }
        };
        self.files(&source, &wanted, progress).await?;
        self.cache.name_commit(self.revision, &commit)?;
        Ok(self.pulled(commit, gguf, false))
    }

    /// Fetches the files that are not there, one after the other.
    async fn files(&self, source: &Source<'_>, names: &[String], progress: Report<'_>) -> Result<()> {
        let mut entries = Vec::with_capacity(names.len());
        for entry in names.iter().filter_map(|name| source.entries.get(name)) {
            entries.push(source.hub.complete(self.repository, source.commit, entry.clone()).await?);
        }
        let total = entries.iter().filter_map(|entry| entry.size).sum();
        let mut before = 0;
        for entry in &entries {
            let id = entry
                .id
                .clone()
                .unwrap_or_else(|| format!("{}-{}", source.commit, entry.name.replace('/', "--")));
            let blob = self.cache.blob(&id);
            let _lock = self.cache.lock(&id)?;
            if !blob.is_file() {
                let transfer =
                    Transfer { hub: source.hub, repository: self.repository, commit: source.commit, entry };
                transfer.run(&blob, &|done| progress(PullProgress { total, done: before + done })).await?;
            }
            self.cache.link(source.commit, &entry.name, &id)?;
            before += entry.size.unwrap_or_default();
            progress(PullProgress { total, done: before });
        }
        Ok(())
    }

    fn pulled(&self, commit: String, gguf: Option<String>, from_cache: bool) -> Pulled {
        let snapshot = self.cache.snapshot(&commit);
        let (path, name) = match gguf {
            Some(file) => {
                let path = snapshot.join(file);
                let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                (path, stem.unwrap_or_default())
            }
            None => (snapshot, self.repository.name.to_owned()),
        };
        Pulled { path, name, commit, from_cache }
    }
}

/// A repository at a commit, as a hub gives it.
struct Source<'a> {
    hub: &'a Hub,
    commit: &'a str,
    entries: &'a BTreeMap<String, Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_an_owner_and_a_name() {
        assert!(repository("sentence-transformers/all-MiniLM-L6-v2").is_ok());
        for bad in ["", "name", "a/b/c", "../b", "a/..", "a/", "/b", "a b/c"] {
            assert_eq!(repository(bad).unwrap_err().reason, "INVALID_REPOSITORY", "{bad}");
        }
        for (fine, revision) in
            [(true, "main"), (true, "refs/pr/1"), (false, "../../x"), (false, "/etc"), (false, "")]
        {
            assert_eq!(check_revision(revision).is_ok(), fine, "{revision}");
        }
    }
}
