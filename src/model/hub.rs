//! Fetches a model's files from the Hugging Face hub into its cache; the only user of hf-hub.
//!
//! The client reads the environment of the hub's other tools: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and
//! `HF_HUB_CACHE`. A file is written beside its place and renamed when it is whole, and the revision's name is
//! written last, so that a download that was interrupted is never taken for a model.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFError, HFRepositorySync, RepoTypeModel};
use parking_lot::Mutex;

use super::bert::Architecture;
use super::config::Config;
use super::dir::{CONFIG, Folder, ONNX, SAFETENSORS, TOKENIZER, is_inside};
use super::modules;
use crate::error::{Error, ErrorKind, Result};

/// A model to fetch.
#[derive(Debug, Clone, Copy)]
pub struct Pull<'a> {
    /// `OWNER/NAME`.
    pub repository: &'a str,
    /// Branch, tag or commit; the main branch where none is given.
    pub revision: Option<&'a str>,
    /// Whether only the cache is used.
    pub offline: bool,
}

/// What was fetched.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Directory in the Hugging Face layout, in the hub's cache.
    pub path: PathBuf,
    /// Commit on the hub.
    pub commit: String,
    /// Whether the hub was not asked, or did not answer.
    pub from_cache: bool,
}

/// How far a download is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullProgress {
    /// Of all files.
    pub total: u64,
    /// That are there.
    pub done: u64,
}

type Repository = HFRepositorySync<RepoTypeModel>;

impl Pull<'_> {
    /// Owner and name.
    ///
    /// # Errors
    /// `INVALID_REPOSITORY`.
    pub fn parts(&self) -> Result<(&str, &str)> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fine = |part: &str| {
            !part.is_empty() && part.len() <= 96 && !part.starts_with('.') && part.chars().all(allowed)
        };
        match self.repository.split_once('/') {
            Some((owner, name)) if fine(owner) && fine(name) => Ok((owner, name)),
            _ => Err(Error::invalid(
                "INVALID_REPOSITORY",
                format!(
                    "expected OWNER/NAME of letters, digits, '.', '-' and '_', got {:?}",
                    self.repository
                ),
            )),
        }
    }

    /// Fetches what is not in the cache: configuration, tokenizer and one kind of weights. Where the hub does not
    /// answer, the cache is used as it is. Blocks: call it off the async threads.
    ///
    /// # Errors
    /// `INVALID_REPOSITORY`, `UNKNOWN_REPOSITORY`, `HUB_REFUSED`, `HUB_UNREACHABLE`, `MODEL_FILE_MISSING`.
    pub fn run(&self, progress: impl Fn(PullProgress) + Send + Sync + 'static) -> Result<Pulled> {
        let (owner, name) = self.parts()?;
        let client = HFClient::builder()
            .user_agent(concat!("trove/", env!("CARGO_PKG_VERSION")))
            .build_sync()
            .map_err(|e| self.failed(e))?;
        let repository = client.model(owner, name);
        if self.offline {
            return self.cached(&repository);
        }
        match self.fetch(&repository, progress) {
            Err(error) if error.kind == ErrorKind::Unavailable => match self.cached(&repository) {
                Ok(found) => {
                    tracing::warn!(%error, "the hub does not answer; using its cache");
                    Ok(found)
                }
                Err(_) => Err(error),
            },
            other => other,
        }
    }

    fn cached(&self, repository: &Repository) -> Result<Pulled> {
        let found = repository
            .snapshot_download()
            .maybe_revision(self.revision)
            .local_files_only(true)
            .send()
            .map_err(|e| self.failed(e))?;
        Ok(Pulled { commit: commit_of(&found), path: found, from_cache: true })
    }

    fn fetch(
        &self,
        repository: &Repository,
        progress: impl Fn(PullProgress) + Send + Sync + 'static,
    ) -> Result<Pulled> {
        let info = repository.info().maybe_revision(self.revision).send().map_err(|e| self.failed(e))?;
        let names: BTreeSet<String> =
            info.siblings.unwrap_or_default().into_iter().map(|file| file.rfilename).collect();
        if let Some(name) = names.iter().find(|name| !is_inside(name)) {
            return Err(Error::invalid(
                "INVALID_REPOSITORY",
                format!("{}: expected files inside the repository, got {name:?}", self.repository),
            ));
        }
        let commit = info.sha.or_else(|| self.revision.map(str::to_owned)).unwrap_or_default();
        let read = |name: &str| {
            let file = repository.download_file().filename(name).revision(commit.as_str()).send();
            file.map_err(|e| self.failed(e))
        };
        let config = read(CONFIG)?;
        if names.contains(modules::MODULES) {
            read(modules::MODULES)?;
        }
        let folder = config.parent().ok_or_else(|| self.missing(CONFIG))?;
        let wanted = self.wanted(&Folder::open(folder)?, &names)?;
        let path = repository
            .snapshot_download()
            .maybe_revision(self.revision)
            .allow_patterns(wanted)
            .progress(Meter { report: progress, files: Mutex::default() })
            .send()
            .map_err(|e| self.failed(e))?;
        Ok(Pulled { commit: commit_of(&path), path, from_cache: false })
    }

    /// The files that make the model, out of those that the repository has.
    fn wanted(&self, folder: &Folder, names: &BTreeSet<String>) -> Result<Vec<String>> {
        let config: Config = folder.json(CONFIG)?.ok_or_else(|| self.missing(CONFIG))?;
        let pooling = modules::pooling_file(folder)?;
        let mut wanted: Vec<String> =
            [CONFIG, TOKENIZER, modules::MODULES, modules::LIMIT, modules::PROMPTS, &pooling]
                .into_iter()
                .filter(|name| names.contains(*name))
                .map(str::to_owned)
                .collect();
        if !names.contains(TOKENIZER) {
            return Err(self.missing(TOKENIZER));
        }
        let architecture = Architecture::read(&config);
        if names.contains(SAFETENSORS) && architecture.is_ok() {
            wanted.push(SAFETENSORS.to_owned());
        } else if let Some(graph) = ONNX.into_iter().find(|name| names.contains(*name)) {
            // Weights beside a graph are named after it: model.onnx_data, model.onnx.data.
            wanted.extend(names.iter().filter(|name| name.starts_with(graph)).cloned());
        } else if let (true, Err(error)) = (names.contains(SAFETENSORS), architecture) {
            return Err(error);
        } else {
            return Err(self.missing(&format!("{SAFETENSORS}, {} or {}", ONNX[0], ONNX[1])));
        }
        Ok(wanted)
    }

    fn missing(&self, name: &str) -> Error {
        Error::not_found("MODEL_FILE_MISSING", format!("expected {name} in {}, got none", self.repository))
    }

    fn failed(&self, error: HFError) -> Error {
        let repository = self.repository;
        let made = match &error {
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => Error::not_found(
                "UNKNOWN_REPOSITORY",
                format!("the hub has no model {repository} of revision {}", self.revision.unwrap_or("main")),
            ),
            HFError::EntryNotFound { path, .. } => {
                Error::not_found("MODEL_FILE_MISSING", format!("expected {path} in {repository}, got none"))
            }
            HFError::LocalEntryNotFound { .. } => Error::not_found(
                "NOT_IN_CACHE",
                format!("{repository} is not in the hub's cache; pull it once while the hub can be reached"),
            ),
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => Error::precondition(
                "HUB_REFUSED",
                format!(
                    "the hub refuses {repository}: {error}; it may need a token in HF_TOKEN, or not exist"
                ),
            ),
            HFError::InvalidParameter(_) | HFError::Url(_) => {
                Error::invalid("INVALID_REPOSITORY", format!("{repository}: {error}"))
            }
            HFError::Io(_) => Error::internal("MODEL_WRITE_FAILED", format!("{repository}: {error}")),
            _ => Error::new(
                ErrorKind::Unavailable,
                "HUB_UNREACHABLE",
                format!("{repository} was not fetched: {error}"),
            ),
        };
        made.with_source(error)
    }
}

/// A snapshot's directory is named after its commit.
fn commit_of(snapshot: &Path) -> String {
    snapshot.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Adds up what the files tell of themselves.
struct Meter<F> {
    report: F,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    total: u64,
    done: HashMap<String, u64>,
}

impl<F: Fn(PullProgress) + Send + Sync> ProgressHandler for Meter<F> {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let mut files = self.files.lock();
        match event {
            // Each file tells its own start after the whole has told it.
            DownloadEvent::Start { total_bytes, .. } => files.total = files.total.max(*total_bytes),
            DownloadEvent::Progress { files: changed } => {
                files.done.extend(changed.iter().map(|file| (file.filename.clone(), file.bytes_completed)));
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => {
                files.done.insert(String::new(), *bytes_completed);
            }
            DownloadEvent::Complete => {}
        }
        let done = files.done.values().sum::<u64>().min(files.total);
        (self.report)(PullProgress { total: files.total, done });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_have_an_owner_and_a_name() {
        let parts = |repository| Pull { repository, revision: None, offline: true }.parts().map(|_| ());
        assert!(parts("sentence-transformers/all-MiniLM-L6-v2").is_ok());
        for bad in ["", "name", "a/b/c", "../b", "a/..", "a/", "/b", "a b/c"] {
            assert_eq!(parts(bad).unwrap_err().reason, "INVALID_REPOSITORY", "{bad}");
        }
    }
}
