//! A look at a store that nobody has opened.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::live::{Live, from_io};
use super::{check_database, check_unused, current, migrate};
use crate::error::Result;

/// Memory for the look: it reads one key.
const CACHE_BYTES: u64 = 8 << 20;

/// What is in a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    /// No store; the first start makes one.
    Missing,
    /// A process has it open.
    InUse,
    /// A store of this schema version and size.
    Present {
        /// Schema version; may be newer than the program's.
        schema_version: u64,
        /// Bytes on disk.
        bytes: u64,
    },
}

/// Looks at the store of a data directory, without bringing it to another version.
///
/// # Errors
/// `CORRUPT_STORE` where it is damaged, `STORE_IO` where it cannot be read.
pub fn inspect(data: &Path) -> Result<StoreState> {
    let dir = data.join("store");
    let Some(name) = current(&dir)? else {
        if dir.exists() {
            check_unused(&dir)?;
        }
        return Ok(StoreState::Missing);
    };
    let _lock = match File::options().write(true).open(data.join("LOCK")) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => return Ok(StoreState::InUse),
            Err(TryLockError::Error(error)) => return Err(from_io(error)),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(from_io(error)),
    };
    check_database(&dir, &name)?;
    let path = dir.join(name);
    let live = Live::open(&path, CACHE_BYTES)?;
    Ok(StoreState::Present { schema_version: migrate::version(&live)?, bytes: live.size_on_disk()? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{CURRENT, Store, StoreOptions, codec, keys};
    use super::*;

    #[test]
    fn every_state_is_told() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(inspect(data.path()).unwrap(), StoreState::Missing);
        let store = Store::open(data.path(), StoreOptions::default()).unwrap();
        assert_eq!(inspect(data.path()).unwrap(), StoreState::InUse);
        drop(store);
        let state = inspect(data.path()).unwrap();
        let newest = u64::from(migrate::SCHEMA_VERSION);
        assert!(matches!(state, StoreState::Present { schema_version, .. } if schema_version == newest));

        let dir = data.path().join("store");
        let path = dir.join(current(&dir).unwrap().unwrap());
        let live = Live::open(&path, CACHE_BYTES).unwrap();
        live.put(keys::SCHEMA, codec::pack(keys::SCHEMA, &codec::Number { value: 99 })).unwrap();
        live.sync().unwrap();
        drop(live);
        let state = inspect(data.path()).unwrap();
        assert!(matches!(state, StoreState::Present { schema_version: 99, .. }), "{state:?}");

        fs::rename(&path, dir.join("elsewhere")).unwrap();
        assert_eq!(inspect(data.path()).unwrap_err().reason, "CORRUPT_STORE");
        assert!(!path.exists(), "a look makes no store");
        fs::write(dir.join(CURRENT), "nonsense").unwrap();
        assert_eq!(inspect(data.path()).unwrap_err().reason, "CORRUPT_STORE");
    }
}
