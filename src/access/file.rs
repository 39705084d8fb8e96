use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ApiKey, Scope};
use crate::domain::CollectionName;
use crate::error::{Error, ErrorKind, Result};
use crate::private;

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "keys.json";
/// Held by the command that changes the file, so that no change is lost.
const LOCK_NAME: &str = "keys.lock";
/// Version of the format that this program reads and writes.
const VERSION: u32 = 1;
/// Most characters of a name.
const MAX_NAME: usize = 64;

/// A key as it is stored. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The public part of the key.
    pub id: String,
    /// For people; unique among the keys that are not revoked.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// The collections that it is for; none means all.
    pub collections: Option<Vec<String>>,
    /// Hash of the key.
    hash: String,
    /// When it was made.
    pub create_time: u64,
    /// From when on it does not hold; none means it does not expire.
    pub expire_time: Option<u64>,
    /// When it was revoked.
    pub revoke_time: Option<u64>,
}

impl KeyRecord {
    /// Whether this is the record of the key. Compares in constant time.
    pub fn matches(&self, key: &ApiKey) -> bool {
        blake3::Hash::from_hex(&self.hash).is_ok_and(|hash| hash == key.hash())
    }

    /// Whether it has expired by the time.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expire_time.is_some_and(|time| time <= now)
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            id: "0".repeat(16),
            name: "example".to_owned(),
            scope: Scope::Read,
            collections: None,
            hash: blake3::hash(b"").to_hex().to_string(),
            create_time: 0,
            expire_time: None,
            revoke_time: None,
        }
    }
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For people.
    pub name: String,
    /// What it allows.
    pub scope: Scope,
    /// The collections that it is for; none at all means every one.
    pub collections: Vec<CollectionName>,
    /// How long it holds; none means without end.
    pub lifetime: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<KeyRecord>,
}

/// The file of the keys. It is replaced as a whole, so that a reader sees the state before or after a change.
#[derive(Debug, Clone)]
pub struct KeyFile {
    dir: PathBuf,
}

impl KeyFile {
    /// The file of a data directory, whether it is there or not.
    pub fn in_dir(data_dir: &Path) -> Self {
        Self { dir: data_dir.to_owned() }
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// All keys, those that are revoked too; none where there is no file.
    ///
    /// # Errors
    /// `KEYS_UNREADABLE` where it is there and cannot be read.
    pub fn read(&self) -> Result<Option<Vec<KeyRecord>>> {
        let path = self.path();
        let unreadable = |what: &dyn std::fmt::Display| {
            let message =
                format!("expected a file of keys in version {VERSION}, got {}: {what}", path.display());
            Error::precondition("KEYS_UNREADABLE", message)
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&error)),
        };
        // The message names the place, never the text.
        let contents: Contents = serde_json::from_slice(&text)
            .map_err(|e| unreadable(&format!("line {}, column {}", e.line(), e.column())))?;
        if contents.version != VERSION {
            return Err(unreadable(&format!("version {}", contents.version)));
        }
        Ok(Some(contents.keys))
    }

    /// Makes a key. The key itself is not stored: what is returned is all there is of it.
    ///
    /// # Errors
    /// `BAD_KEY_NAME`, `KEY_EXISTS` for a name that is taken, `BAD_LIFETIME`, `KEYS_UNREADABLE`, `KEYS_UNWRITABLE`,
    /// `DISK_FULL`.
    pub fn create(&self, new: NewKey, now: u64) -> Result<(ApiKey, KeyRecord)> {
        let shown = !new.name.trim().is_empty() && !new.name.chars().any(char::is_control);
        if !shown || new.name.chars().count() > MAX_NAME {
            let message = format!("expected a name of 1 to {MAX_NAME} characters, got {:?}", new.name);
            return Err(Error::invalid("BAD_KEY_NAME", message));
        }
        let expire_time = match new.lifetime {
            Some(lifetime) => Some(now.checked_add(lifetime.as_secs()).ok_or_else(|| {
                Error::invalid("BAD_LIFETIME", "expected a lifetime that ends, got a longer one")
            })?),
            None => None,
        };
        let key = ApiKey::generate()?;
        let collections = new.collections.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
        let record = KeyRecord {
            id: key.id().to_owned(),
            name: new.name,
            scope: new.scope,
            collections: (!collections.is_empty()).then_some(collections),
            hash: key.hash().to_hex().to_string(),
            create_time: now,
            expire_time,
            revoke_time: None,
        };
        let made = record.clone();
        self.change(move |keys| {
            if keys.iter().any(|key| key.revoke_time.is_none() && key.name == record.name) {
                let message = format!("expected a name that is not in use, got {:?}", record.name);
                return Err(Error::new(ErrorKind::AlreadyExists, "KEY_EXISTS", message));
            }
            keys.push(record);
            Ok(())
        })?;
        Ok((key, made))
    }

    /// Revokes the key of an id or name. Its record stays, so that the server stays closed.
    ///
    /// # Errors
    /// `UNKNOWN_KEY`, `KEYS_UNREADABLE`, `KEYS_UNWRITABLE`.
    pub fn revoke(&self, id_or_name: &str, now: u64) -> Result<KeyRecord> {
        self.change(|keys| {
            let is_meant = |key: &&mut KeyRecord| {
                key.revoke_time.is_none() && (key.id == id_or_name || key.name == id_or_name)
            };
            let key = keys.iter_mut().find(is_meant).ok_or_else(|| {
                let message =
                    format!("expected the id or name of a key that is not revoked, got {id_or_name:?}");
                Error::not_found("UNKNOWN_KEY", message)
            })?;
            key.revoke_time = Some(now);
            Ok(key.clone())
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<KeyRecord>) -> Result<T>) -> Result<T> {
        let unwritable = |e: io::Error| {
            if let Some(known) = Error::of_want(&e) {
                return known.with_source(e);
            }
            let message =
                format!("expected a directory that can be written, got {}: {e}", self.dir.display());
            Error::precondition("KEYS_UNWRITABLE", message)
        };
        private::create_dir_all(&self.dir).map_err(unwritable)?;
        let lock = private::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.dir.join(LOCK_NAME))
            .map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        // The command before may have failed before its change was on the disk: what is read here may be answered with.
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(unwritable)?;
        let mut keys = self.read()?.unwrap_or_default();
        let changed = change(&mut keys)?;
        self.write(&Contents { version: VERSION, keys }).map_err(unwritable)?;
        Ok(changed)
    }

    /// Writes beside the file, flushes to the disk, renames. Only the owner may read it.
    fn write(&self, contents: &Contents) -> io::Result<()> {
        let temporary = self.dir.join(format!("{FILE_NAME}.new"));
        // What an interrupted command left may be open to others.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private::options().write(true).create_new(true).open(&temporary)?;
        let mut text = serde_json::to_vec_pretty(contents).map_err(io::Error::other)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path())?;
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn new(name: &str) -> NewKey {
        NewKey { name: name.to_owned(), scope: Scope::Write, collections: Vec::new(), lifetime: None }
    }

    #[test]
    fn the_file_holds_a_hash_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(&dir.path().join("data"));
        assert_eq!(file.read().unwrap(), None);
        let (key, record) = file.create(new("ci"), 7).unwrap();
        assert_eq!((record.id.as_str(), record.create_time), (key.id(), 7));
        assert_eq!(file.read().unwrap(), Some(vec![record.clone()]));
        assert!(record.matches(&key) && !record.matches(&ApiKey::generate().unwrap()));
        let text = fs::read_to_string(file.path()).unwrap();
        let secret = key.reveal().rsplit('_').next().unwrap();
        assert!(!text.contains(secret));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_is_free_again_after_its_key_was_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        let (_, first) = file.create(new("ci"), 1).unwrap();
        assert_eq!(file.create(new("ci"), 2).unwrap_err().reason, "KEY_EXISTS");
        assert_eq!(file.revoke("ci", 3).unwrap().id, first.id);
        assert_eq!(file.revoke("ci", 4).unwrap_err().reason, "UNKNOWN_KEY");
        let (_, second) = file.create(new("ci"), 5).unwrap();
        assert_eq!(file.revoke(&second.id, 6).unwrap().revoke_time, Some(6));
        assert_eq!(file.read().unwrap().unwrap().len(), 2);
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = KeyFile::in_dir(dir.path());
                scope.spawn(move || file.create(new(&number.to_string()), 1).unwrap());
            }
        });
        assert_eq!(KeyFile::in_dir(dir.path()).read().unwrap().unwrap().len(), 8);
    }

    #[test]
    fn bad_names_and_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(dir.path());
        for bad in ["", "  ", "a\nb", &"x".repeat(65)] {
            assert_eq!(file.create(new(bad), 1).unwrap_err().reason, "BAD_KEY_NAME", "{bad:?}");
        }
        let endless = NewKey { lifetime: Some(Duration::MAX), ..new("a") };
        assert_eq!(file.create(endless, 1).unwrap_err().reason, "BAD_LIFETIME");
        for bad in ["", "{", r#"{"version":2,"keys":[]}"#, r#"{"version":1,"keys":[],"secret":"x"}"#] {
            fs::write(file.path(), bad).unwrap();
            let error = file.create(new("a"), 1).unwrap_err();
            assert_eq!(error.reason, "KEYS_UNREADABLE");
            assert!(!error.message.contains("secret"), "{error}");
            assert_eq!(fs::read_to_string(file.path()).unwrap(), bad, "a broken file is left as it is");
        }
    }
}
