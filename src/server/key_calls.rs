//! How many calls of each API key run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// When a caller should try again where too many calls of its key run.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Counts the calls that run, by the id of their key.
pub(super) struct KeyCalls {
    most: usize,
    open: Mutex<HashMap<String, usize>>,
}

/// A call that is counted until it is dropped.
pub(super) struct KeyCall {
    calls: Arc<KeyCalls>,
    id: String,
}

impl KeyCalls {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// Counts a call of a key.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS_OF_KEY`.
    pub fn open(self: &Arc<Self>, id: &str) -> Result<KeyCall> {
        let mut open = self.open.lock();
        let count = open.get(id).copied().unwrap_or(0);
        if count >= self.most {
            let message =
                format!("expected at most {} calls of one API key at once, got one more", self.most);
            return Err(Error::exhausted("TOO_MANY_REQUESTS_OF_KEY", message, RETRY_AFTER));
        }
        open.insert(id.to_owned(), count + 1);
        Ok(KeyCall { calls: self.clone(), id: id.to_owned() })
    }
}

impl Drop for KeyCall {
    fn drop(&mut self) {
        let mut open = self.calls.open.lock();
        let Some(count) = open.get_mut(&self.id) else { return };
        *count -= 1;
        if *count == 0 {
            open.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_calls() {
        let calls = KeyCalls::new(2);
        let (first, _second) = (calls.open("a").unwrap(), calls.open("a").unwrap());
        let _other = calls.open("b").unwrap();
        assert_eq!(calls.open("a").map(drop).unwrap_err().reason, "TOO_MANY_REQUESTS_OF_KEY");
        drop(first);
        drop(calls.open("a").unwrap());
        assert_eq!(calls.open.lock().len(), 2);
        drop(_other);
        assert_eq!(calls.open.lock().len(), 1, "nothing is kept of a key without calls");
    }
}
