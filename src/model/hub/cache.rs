//! The hub's cache on this machine, as the hub's other tools lay it out: contents under their ids, the files of a commit
//! as links to them, and the names of commits.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::api::Repository;
use super::variable;
use crate::error::{Error, Result};
use crate::model::place::{sync_dir, unwritable};

/// Where the hub's tools keep what is theirs.
pub(super) fn home() -> Option<PathBuf> {
    let own = variable("HF_HOME").map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").map(PathBuf::from);
    let user = || Some(PathBuf::from(variable("HOME")?).join(".cache"));
    own.or_else(|| Some(cache().or_else(user)?.join("huggingface")))
}

/// What the cache holds of a repository.
pub(super) struct Cache {
    root: PathBuf,
    folder: String,
}

impl Cache {
    /// As the environment says: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`.
    ///
    /// # Errors
    /// `NO_CACHE` where there is no home.
    pub fn of(repository: Repository<'_>) -> Result<Self> {
        let named = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(PathBuf::from);
        let root = named.or_else(|| Some(home()?.join("hub"))).ok_or_else(|| {
            Error::precondition("NO_CACHE", "expected a folder for the hub's cache in HF_HUB_CACHE, got none")
        })?;
        Ok(Self { root, folder: format!("models--{}--{}", repository.owner, repository.name) })
    }

    /// The commit that a revision was when it was fetched as a whole.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.reference(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Names a commit, once all is there that was wanted of it.
    ///
    /// # Errors
    /// `MODEL_WRITE_FAILED`.
    pub fn name_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.reference(revision);
        create_parent(&path)?;
        fs::write(&path, commit).map_err(|e| unwritable(&path, e))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join(&self.folder).join("snapshots").join(commit)
    }

    /// The files of a commit that are whole.
    pub fn names(&self, commit: &str) -> BTreeSet<String> {
        let folder = self.snapshot(commit);
        let walk = ignore::WalkBuilder::new(&folder).standard_filters(false).follow_links(true).build();
        let file = |entry: ignore::DirEntry| {
            let is_file = entry.metadata().is_ok_and(|found| found.is_file());
            let name = entry.path().strip_prefix(&folder).ok()?.to_str()?.to_owned();
            is_file.then_some(name)
        };
        walk.flatten().filter_map(file).collect()
    }

    /// Where contents of an id are.
    pub fn blob(&self, id: &str) -> PathBuf {
        self.root.join(&self.folder).join("blobs").join(id)
    }

    /// Puts a file of a commit in its place, as a link to its contents.
    ///
    /// # Errors
    /// `MODEL_WRITE_FAILED`.
    pub fn link(&self, commit: &str, name: &str, id: &str) -> Result<()> {
        let path = self.snapshot(commit).join(name);
        create_parent(&path)?;
        let up = "../".repeat(2 + name.split('/').count() - 1);
        let target = format!("{up}blobs/{id}");
        if fs::read_link(&path).is_ok_and(|there| there.as_os_str() == target.as_str()) {
            return Ok(());
        }
        crate::model::place::remove(&path)?;
        std::os::unix::fs::symlink(target, &path).map_err(|e| unwritable(&path, e))?;
        sync_dir(path.parent().unwrap_or(&path))
    }

    /// Held while contents of an id are written: one process at a time.
    ///
    /// # Errors
    /// `MODEL_WRITE_FAILED`.
    pub fn lock(&self, id: &str) -> Result<File> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{id}.lock"));
        create_parent(&path)?;
        let file = File::create(&path).map_err(|e| unwritable(&path, e))?;
        file.lock().map_err(|e| unwritable(&path, e))?;
        Ok(file)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join(&self.folder).join("refs").join(revision)
    }
}

pub(super) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|e| unwritable(parent, e))
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}
