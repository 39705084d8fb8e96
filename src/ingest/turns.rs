//! Turns among writes of one document: they are worked on side by side with those of other documents, but
//! one after the other among themselves, in the order in which they came.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::lock::{LEAF, Mutex};

/// A turn to wait for. One that leaves the line early hands on what it waited for itself.
struct Before {
    number: u64,
    over: oneshot::Receiver<Option<Before>>,
}

/// The last turn of each line.
type Lines = HashMap<(u32, String), Before>;

/// The lines of all documents that are being written.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<(u64, Lines), LEAF>>);

/// A place in a document's line; dropping it lets the next one go on.
pub(super) struct Turn {
    turns: Turns,
    key: (u32, String),
    number: u64,
    before: Option<Before>,
    done: Option<oneshot::Sender<Option<Before>>>,
}

impl Turns {
    /// Takes a place at the end of a document's line.
    pub(super) fn take(&self, cid: u32, id: &str) -> Turn {
        let (done, over) = oneshot::channel();
        let key = (cid, id.to_owned());
        let mut state = self.0.lock();
        state.0 += 1;
        let number = state.0;
        let before = state.1.insert(key.clone(), Before { number, over });
        drop(state);
        Turn { turns: self.clone(), key, number, before, done: Some(done) }
    }
}

impl Turn {
    /// Waits until every turn before is over.
    pub(super) async fn wait(&mut self) {
        while let Some(before) = &mut self.before {
            // Only dropping a turn ends it, and that sends.
            self.before = (&mut before.over).await.ok().flatten();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.0.lock();
        if let Entry::Occupied(mut last) = state.1.entry(self.key.clone())
            && last.get().number == self.number
        {
            // Nobody is next, so there is nobody to tell.
            match self.before.take() {
                Some(before) => drop(last.insert(before)),
                None => drop(last.remove()),
            }
            return;
        }
        if let Some(done) = self.done.take() {
            // The next one may have left at the same time.
            let _ = done.send(self.before.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_line_is_served_in_order_and_lines_do_not_wait_for_each_other() {
        let turns = Turns::default();
        let (mut a, mut b, mut other) = (turns.take(1, "x"), turns.take(1, "x"), turns.take(2, "x"));
        assert!(b.wait().now_or_never().is_none());
        assert!(a.wait().now_or_never().is_some());
        assert!(other.wait().now_or_never().is_some());
        drop(a);
        assert!(b.wait().now_or_never().is_some());
        drop((b, other));
        assert!(turns.0.lock().1.is_empty(), "lines that are empty are forgotten");
    }

    #[tokio::test]
    async fn who_leaves_the_line_does_not_let_the_next_one_pass_the_first() {
        let turns = Turns::default();
        let (a, mut b, mut c) = (turns.take(1, "x"), turns.take(1, "x"), turns.take(1, "x"));
        assert!(b.wait().now_or_never().is_none());
        drop(b);
        assert!(c.wait().now_or_never().is_none());
        drop(a);
        assert!(c.wait().now_or_never().is_some());
        drop(turns.take(1, "x"));
        let mut next = turns.take(1, "x");
        assert!(next.wait().now_or_never().is_none());
        drop(c);
        assert!(next.wait().now_or_never().is_some());
        drop(next);
        assert!(turns.0.lock().1.is_empty());
    }
}
