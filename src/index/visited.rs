//! Visited lists that need no clearing, kept for reuse.

use parking_lot::Mutex;

/// Most lists kept for reuse.
const KEPT: usize = 64;

/// Marks of one search: a slot is marked where it holds the current epoch.
#[derive(Debug, Default)]
pub(super) struct Visited {
    marks: Vec<u32>,
    epoch: u32,
}

impl Visited {
    /// Marks a slot; whether it was unmarked.
    pub(super) fn mark(&mut self, slot: u32) -> bool {
        match self.marks.get_mut(slot as usize) {
            Some(mark) if *mark != self.epoch => {
                *mark = self.epoch;
                true
            }
            _ => false,
        }
    }

    fn start(&mut self, len: usize) {
        if self.marks.len() != len || self.epoch == u32::MAX {
            self.marks.clear();
            self.marks.resize(len, 0);
            self.epoch = 0;
        }
        self.epoch += 1;
    }
}

/// A pool of lists of one segment.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Visited>>);

impl Pool {
    /// A list with nothing marked.
    pub(super) fn take(&self, len: usize) -> Visited {
        let mut visited = self.0.lock().pop().unwrap_or_default();
        visited.start(len);
        visited
    }

    /// Gives a list back.
    pub(super) fn give(&self, visited: Visited) {
        let mut pool = self.0.lock();
        if pool.len() < KEPT {
            pool.push(visited);
        }
    }
}
