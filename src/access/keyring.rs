use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{ApiKey, Caller, FileStamp, KeyFile, KeyRecord, counted};
use crate::error::{Error, ErrorKind, Result};

/// When a caller should try again where the keys cannot be read.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The keys that a running server knows. The file is looked at with every call and read again when it is another one,
/// so that a key that was revoked does not hold any more from the next call on.
pub struct Keyring {
    file: KeyFile,
    state: ArcSwap<State>,
    reading: Mutex<()>,
}

/// API keys by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyCounts {
    /// Those that hold.
    pub valid: u64,
    /// Those whose time is over.
    pub expired: u64,
    /// Those that were revoked.
    pub revoked: u64,
}

struct State {
    /// Of the file that was read; none where there was none.
    stamp: Option<FileStamp>,
    keys: Keys,
}

enum Keys {
    /// There never was a file: all may do everything.
    Open,
    /// By id.
    Known(HashMap<String, Arc<KeyRecord>>),
    /// There was a file, and it cannot be read or is gone: nobody may do anything.
    Closed,
}

impl Keyring {
    /// Reads the keys of a data directory.
    ///
    /// # Errors
    /// `KEYS_UNREADABLE`.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let file = KeyFile::in_dir(data_dir);
        let stamp = FileStamp::of(&file.path()).map_err(|e| {
            Error::precondition(
                "KEYS_UNREADABLE",
                format!("{} cannot be looked at: {e}", file.path().display()),
            )
        })?;
        let keys = file.read()?.map_or(Keys::Open, known);
        Ok(Self { file, state: ArcSwap::from_pointee(State { stamp, keys }), reading: Mutex::new(()) })
    }

    /// Whether all may do everything, since no key was ever made.
    pub fn is_open(&self) -> bool {
        matches!(self.current().keys, Keys::Open)
    }

    /// How many keys there are.
    pub fn counts(&self) -> KeyCounts {
        let (mut counts, now) = (KeyCounts::default(), seconds_now());
        if let Keys::Known(known) = &self.current().keys {
            for key in known.values() {
                match check_times(key, now).map_err(|error| error.reason) {
                    Ok(()) => counts.valid += 1,
                    Err("API_KEY_REVOKED") => counts.revoked += 1,
                    Err(_) => counts.expired += 1,
                }
            }
        }
        counts
    }

    /// Who shows this key.
    ///
    /// # Errors
    /// `API_KEY_MISSING`, `API_KEY_INVALID`, `API_KEY_REVOKED`, `API_KEY_EXPIRED`; `KEYS_UNREADABLE` where the server
    /// cannot know.
    pub fn caller(&self, shown: Option<&str>) -> Result<Caller> {
        counted(self.caller_at(shown, seconds_now()))
    }

    fn caller_at(&self, shown: Option<&str>, now: u64) -> Result<Caller> {
        let state = self.current();
        let known = match &state.keys {
            Keys::Open => return Ok(Caller::anyone()),
            Keys::Closed => return Err(unreadable()),
            Keys::Known(known) => known,
        };
        let Some(shown) = shown else {
            let message =
                "expected an API key in the metadata `authorization: Bearer KEY` or `x-api-key`, got none";
            return Err(refused("API_KEY_MISSING", message));
        };
        let invalid =
            || refused("API_KEY_INVALID", "expected an API key that this server knows, got another");
        let key = ApiKey::parse(shown).ok_or_else(invalid)?;
        let record = known.get(key.id()).filter(|record| record.matches(&key)).ok_or_else(invalid)?;
        check_times(record, now)?;
        Ok(Caller::with_key(Arc::clone(record)))
    }

    /// Checks again a caller whose call goes on.
    ///
    /// # Errors
    /// As of [`Keyring::caller`].
    pub fn check(&self, caller: &Caller) -> Result<()> {
        counted(self.check_at(caller, seconds_now()))
    }

    fn check_at(&self, caller: &Caller, now: u64) -> Result<()> {
        let state = self.current();
        match (&state.keys, &caller.key) {
            (Keys::Open, _) => Ok(()),
            (Keys::Closed, _) => Err(unreadable()),
            (Keys::Known(_), None) => {
                Err(refused("API_KEY_MISSING", "expected an API key since one was made"))
            }
            (Keys::Known(known), Some(key)) => {
                let record = known.get(&key.id).ok_or_else(revoked)?;
                check_times(record, now)
            }
        }
    }

    /// The keys of the file as it is now.
    fn current(&self) -> arc_swap::Guard<Arc<State>> {
        let stamp = FileStamp::of(&self.file.path());
        let state = self.state.load();
        if stamp.as_ref().is_ok_and(|stamp| *stamp == state.stamp) {
            return state;
        }
        drop(state);
        self.read_again(stamp);
        self.state.load()
    }

    fn read_again(&self, stamp: io::Result<Option<FileStamp>>) {
        let _reading = self.reading.lock();
        let state = self.state.load();
        if stamp.as_ref().is_ok_and(|stamp| *stamp == state.stamp) {
            return;
        }
        if stamp.is_err() && matches!(state.keys, Keys::Closed) {
            return;
        }
        let was_open = matches!(state.keys, Keys::Open);
        let (stamp, read) = match stamp {
            Ok(stamp) => (stamp, self.file.read()),
            Err(error) => (None, Err(Error::precondition("KEYS_UNREADABLE", error.to_string()))),
        };
        let keys = match read {
            Ok(Some(keys)) => {
                tracing::info!(count = keys.len(), "API keys read again");
                known(keys)
            }
            Ok(None) if was_open => Keys::Open,
            Ok(None) => {
                tracing::error!(path = %self.file.path().display(), "the file of the API keys is gone: no call is served");
                Keys::Closed
            }
            Err(error) => {
                tracing::error!(
                    reason = error.reason,
                    "the API keys cannot be read, no call is served: {error}"
                );
                Keys::Closed
            }
        };
        self.state.store(Arc::new(State { stamp, keys }));
    }
}

fn known(keys: Vec<KeyRecord>) -> Keys {
    Keys::Known(keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect())
}

fn check_times(record: &KeyRecord, now: u64) -> Result<()> {
    if record.revoke_time.is_some() {
        return Err(revoked());
    }
    if record.is_expired(now) {
        return Err(refused("API_KEY_EXPIRED", "expected an API key that holds, got one that has expired"));
    }
    Ok(())
}

fn revoked() -> Error {
    refused("API_KEY_REVOKED", "expected an API key that holds, got one that was revoked")
}

fn refused(reason: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, reason, message)
}

fn unreadable() -> Error {
    let message = "the server's API keys cannot be read; its log says why";
    let mut error = Error::new(ErrorKind::Unavailable, "KEYS_UNREADABLE", message);
    error.retry_after = Some(RETRY_AFTER);
    error
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{NewKey, Scope};

    fn new(name: &str, lifetime: Option<Duration>) -> NewKey {
        NewKey { name: name.to_owned(), scope: Scope::Read, collections: Vec::new(), lifetime }
    }

    fn reason<T>(result: Result<T>) -> &'static str {
        result.err().map_or("OK", |error| error.reason)
    }

    #[test]
    fn a_server_is_open_until_the_first_key() {
        let dir = tempfile::tempdir().unwrap();
        let (file, keyring) = (KeyFile::in_dir(dir.path()), Keyring::open(dir.path()).unwrap());
        let anyone = keyring.caller(None).unwrap();
        assert!(keyring.is_open() && keyring.check(&anyone).is_ok());
        let (key, _) = file.create(new("a", None), 1).unwrap();
        assert!(!keyring.is_open());
        assert_eq!(reason(keyring.check(&anyone)), "API_KEY_MISSING");
        assert_eq!(reason(keyring.caller(None)), "API_KEY_MISSING");
        assert_eq!(keyring.caller(Some(key.reveal())).unwrap().name(), Some("a"));
        for wrong in ["", "x", ApiKey::generate().unwrap().reveal(), &key.reveal().replace('_', "-")] {
            assert_eq!(reason(keyring.caller(Some(wrong))), "API_KEY_INVALID");
        }
    }

    #[test]
    fn revocation_and_expiry_hold_at_once_and_never_open_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let (brief, _) = file.create(new("brief", Some(Duration::from_secs(10))), 100).unwrap();
        let (other, _) = file.create(new("other", None), 100).unwrap();
        let keyring = Keyring::open(dir.path()).unwrap();
        assert_eq!(keyring.counts(), KeyCounts { valid: 1, expired: 1, revoked: 0 });
        let caller = keyring.caller_at(Some(brief.reveal()), 109).unwrap();
        assert_eq!(reason(keyring.caller_at(Some(brief.reveal()), 110)), "API_KEY_EXPIRED");
        assert_eq!(reason(keyring.check_at(&caller, 110)), "API_KEY_EXPIRED");
        let caller = keyring.caller(Some(other.reveal())).unwrap();
        file.revoke("other", 120).unwrap();
        file.revoke("brief", 120).unwrap();
        assert_eq!(reason(keyring.caller(Some(other.reveal()))), "API_KEY_REVOKED");
        assert_eq!(reason(keyring.check(&caller)), "API_KEY_REVOKED");
        assert_eq!(keyring.counts(), KeyCounts { valid: 0, expired: 0, revoked: 2 });
        assert_eq!(reason(keyring.caller(None)), "API_KEY_MISSING");
    }

    #[test]
    fn a_file_that_breaks_or_goes_away_closes_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let (key, _) = file.create(new("a", None), 1).unwrap();
        let keyring = Keyring::open(dir.path()).unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        std::fs::write(file.path(), "{").unwrap();
        assert_eq!(reason(keyring.caller(Some(key.reveal()))), "KEYS_UNREADABLE");
        assert_eq!(reason(Keyring::open(dir.path())), "KEYS_UNREADABLE");
        std::fs::write(file.path(), whole).unwrap();
        assert!(keyring.caller(Some(key.reveal())).is_ok());
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(reason(keyring.caller(None)), "KEYS_UNREADABLE");
        assert_eq!(reason(keyring.caller(Some(key.reveal()))), "KEYS_UNREADABLE");
    }
}
