//! Tells when files below paths change; the only user of notify.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Changes that follow one another within this time are taken together: editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for quiet.
const LONGEST: Duration = Duration::from_secs(3);

/// Watches paths until it is dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    interrupt: Signal,
    terminate: Signal,
}

impl Watch {
    /// Starts watching. Whatever changes from now on is told, so what is read after this misses nothing.
    ///
    /// # Errors
    /// What the system gives, as where it has no room for more watches.
    pub fn start(paths: &[PathBuf]) -> Result<Self> {
        // One waiting note is enough: it tells that something changed, not what.
        let (sender, changes) = mpsc::channel(1);
        let tell = move |event: notify::Result<Event>| {
            let is_read = event.as_ref().is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
            if !is_read {
                // A full channel has a note already. An error may be an overflow, so everything is looked at.
                let _ = sender.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(tell).context("watching for changes")?;
        for path in paths {
            // An editor puts another file in the place of a file: its folder tells.
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let (place, mode) = match path.is_dir() {
                true => (path.as_path(), RecursiveMode::Recursive),
                false => (parent, RecursiveMode::NonRecursive),
            };
            let watched = watcher.watch(place, mode);
            watched.with_context(|| format!("watching {}", place.display()))?;
        }
        Ok(Self {
            _watcher: watcher,
            changes,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for a change and the quiet after it, or until a time; false where the user wants to stop.
    pub async fn changed(&mut self, until: Option<Instant>) -> bool {
        let far = Instant::now() + Duration::from_secs(365 * 86_400);
        tokio::select! {
            note = self.changes.recv() => if note.is_none() { return false },
            () = sleep_until(until.unwrap_or(far)), if until.is_some() => return true,
            _ = self.interrupt.recv() => return false,
            _ = self.terminate.recv() => return false,
        }
        let last = Instant::now() + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(last);
            tokio::select! {
                note = self.changes.recv() => if note.is_none() { return false },
                () = sleep_until(quiet) => return true,
                _ = self.interrupt.recv() => return false,
                _ = self.terminate.recv() => return false,
            }
            if Instant::now() >= last {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_watched_although_another_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("a.md"), dir.path().join("a.md.new"));
        std::fs::write(&file, "0").unwrap();
        let mut watch = Watch::start(std::slice::from_ref(&file)).unwrap();
        for text in ["1", "2"] {
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &file).unwrap();
            assert!(tokio::time::timeout(Duration::from_secs(30), watch.changed(None)).await.unwrap());
        }
    }

    #[tokio::test]
    async fn changes_are_told_and_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.md");
        std::fs::write(&file, "x").unwrap();
        let mut watch = Watch::start(&[dir.path().to_owned()]).unwrap();
        std::fs::read(&file).unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(50));
        assert!(watch.changed(soon).await);
        assert!(watch.changes.try_recv().is_err(), "reading a file is told as a change");
        std::fs::rename(&file, dir.path().join("b.md")).unwrap();
        let told = tokio::time::timeout(Duration::from_secs(30), watch.changed(None)).await;
        assert!(told.unwrap());
        // A folder that is made later is watched too.
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(30), watch.changed(None)).await.unwrap());
        std::fs::write(dir.path().join("sub/c.md"), "y").unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(30), watch.changed(None)).await.unwrap());
    }
}
