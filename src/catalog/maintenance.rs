//! One thread seals and merges, so that neither writes nor searches wait for a build.

use std::sync::{Weak, mpsc};

use super::Catalog;
use crate::error::{Error, Result};

/// Starts the thread; it ends with the catalog.
pub fn start(catalog: Weak<Catalog>, jobs: mpsc::Receiver<u32>) -> Result<()> {
    std::thread::Builder::new()
        .name("index-maintenance".to_owned())
        .spawn(move || {
            while let Ok(cid) = jobs.recv() {
                // One pass serves all wishes that wait.
                let mut waiting = vec![cid];
                waiting.extend(jobs.try_iter());
                waiting.sort_unstable();
                waiting.dedup();
                let Some(catalog) = catalog.upgrade() else { return };
                for cid in waiting {
                    let Some(indexes) = catalog.open_indexes(cid) else { continue };
                    if !indexes.has_work() {
                        continue;
                    }
                    if let Err(error) = indexes.maintain(&catalog.store, cid) {
                        tracing::error!(cid, %error, "sealing or merging failed; the head goes on growing");
                    }
                }
            }
        })
        .map(drop)
        .map_err(|e| Error::internal("NO_THREAD", "the index thread can't be started").with_source(e))
}
