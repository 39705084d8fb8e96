//! One file from the hub: written beside its place, taken up again where it broke off, checked, and renamed when it is
//! what it should be.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::api::{Entry, Hub, Repository};
use super::cache::create_parent;
use crate::error::{Error, ErrorKind, Result};
use crate::model::place::{remove, sync_dir, unwritable};
use crate::model::sha256;

/// Attempts in a row that get nowhere before the download is given up.
const ATTEMPTS: u32 = 4;
/// Bytes that make an attempt one that got somewhere.
const PROGRESS: u64 = 1 << 20;
/// Before the second attempt; twice as long before each of the next.
const PAUSE: Duration = Duration::from_millis(250);

/// A file to fetch.
pub(super) struct Transfer<'a> {
    pub hub: &'a Hub,
    pub repository: Repository<'a>,
    pub commit: &'a str,
    pub entry: &'a Entry,
}

impl Transfer<'_> {
    /// Fetches the file into its place; what an earlier run left beside it is taken up. `progress` is told the bytes that
    /// are there.
    ///
    /// # Errors
    /// `HUB_UNREACHABLE` where it broke off again and again: the next run goes on. `CHECKSUM_MISMATCH` where it is not
    /// what the hub says. `MODEL_FILE_MISSING`, `HUB_REFUSED`, `MODEL_WRITE_FAILED`.
    pub async fn run(&self, to: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<()> {
        create_parent(to)?;
        let partial = PathBuf::from(format!("{}.incomplete", to.display()));
        let resumed = self.fetch(&partial, progress).await?;
        match self.check(&partial) {
            // What the first part was is not known: once more, from the start.
            Err(error) if resumed && error.reason == "CHECKSUM_MISMATCH" => {
                tracing::warn!(%error, "a download that was taken up again is not right; it starts anew");
                self.fetch(&partial, progress).await?;
                self.check(&partial)?;
            }
            other => other?,
        }
        std::fs::rename(&partial, to).map_err(|e| unwritable(to, e))?;
        sync_dir(to.parent().unwrap_or(to))
    }

    /// Writes until the file is as long as the hub says; whether an earlier run had begun it.
    async fn fetch(&self, partial: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<bool> {
        let failed = |e| unwritable(partial, e);
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(partial).map_err(failed)?;
        let mut have = file.metadata().map_err(failed)?.len();
        // Without a size nobody can tell what is left.
        if self.entry.size.is_none_or(|size| have > size) {
            have = 0;
        }
        let resumed = have > 0;
        let (mut failures, mut pause) = (0, PAUSE);
        loop {
            progress(have);
            if resumed && self.entry.size == Some(have) {
                break;
            }
            let before = have;
            match self.attempt(&mut file, partial, &mut have, progress).await {
                Ok(()) if self.entry.size.is_none_or(|size| have == size) => break,
                Err(error) if error.kind != ErrorKind::Unavailable => return Err(error),
                other => {
                    let got_somewhere = have >= before + PROGRESS;
                    (failures, pause) = if got_somewhere { (0, PAUSE) } else { (failures + 1, pause) };
                    if failures >= ATTEMPTS {
                        return Err(self.broken_off(have, other.err()));
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        file.set_len(have).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(resumed)
    }

    async fn attempt(
        &self,
        file: &mut File,
        partial: &Path,
        have: &mut u64,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let failed = |e| unwritable(partial, e);
        let mut bytes = self.hub.open(self.repository, self.commit, &self.entry.name, *have).await?;
        *have = if bytes.from == *have { *have } else { 0 };
        if bytes.from != *have {
            return Err(self.broken_off(*have, None));
        }
        file.seek(SeekFrom::Start(*have)).map_err(failed)?;
        let what = format!("{}/{}", self.repository, self.entry.name);
        while let Some(part) = bytes.next(&what).await? {
            file.write_all(&part).map_err(failed)?;
            *have += part.len() as u64;
            if self.entry.size.is_some_and(|size| *have > size) {
                remove(partial)?;
                return Err(mismatch(
                    &what,
                    "size",
                    &self.entry.size.unwrap_or_default().to_string(),
                    "more",
                ));
            }
            progress(*have);
        }
        Ok(())
    }

    fn check(&self, partial: &Path) -> Result<()> {
        let Some(expected) = &self.entry.sha256 else { return Ok(()) };
        let got = sha256::of_file(partial)?;
        if got.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        remove(partial)?;
        Err(mismatch(&format!("{}/{}", self.repository, self.entry.name), "SHA-256", expected, &got))
    }

    fn broken_off(&self, have: u64, cause: Option<Error>) -> Error {
        let cause = cause.map_or_else(|| "the hub ended it early".to_owned(), |error| error.message);
        let of = self.entry.size.map(|size| format!(" of {size}")).unwrap_or_default();
        Error::new(
            ErrorKind::Unavailable,
            "HUB_UNREACHABLE",
            format!(
                "{}/{} broke off after {have}{of} bytes: {cause}; the same command goes on from there",
                self.repository, self.entry.name
            ),
        )
    }
}

fn mismatch(what: &str, kind: &str, expected: &str, got: &str) -> Error {
    Error::data_loss(
        "CHECKSUM_MISMATCH",
        format!(
            "{what}: expected {kind} {expected}, as the hub says, got {got}; what came was deleted: try again, and if it \
             stays so, do not use this source"
        ),
    )
}
