//! Who may do what: API keys in a file of the data directory, their scopes, and the scope that each method needs.

mod file;
mod key;
mod keyring;
mod methods;
mod stamp;

use std::net::IpAddr;
use std::sync::Arc;

use ::metrics::counter;
use serde::{Deserialize, Serialize};

use crate::domain::CollectionName;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;
use crate::party::Party;

pub use file::{FILE_NAME, KeyFile, KeyRecord, NewKey};
pub use key::{ApiKey, Secret};
pub use keyring::{KeyCounts, Keyring};
pub use methods::{METHODS, Method, Reach, method};
pub use stamp::FileStamp;

/// What a key allows; each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Search, read and embed.
    Read,
    /// Also put documents in and take them out.
    Write,
    /// Also manage collections and the server.
    Admin,
}

impl Scope {
    /// Its name, as files and commands have it.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }
}

/// Who makes a call, and what it may do.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key that was shown; none where the server has no keys and is open to all.
    key: Option<Arc<KeyRecord>>,
}

impl Caller {
    /// Anyone, where the server has no keys.
    pub fn anyone() -> Self {
        Self { key: None }
    }

    fn with_key(key: Arc<KeyRecord>) -> Self {
        Self { key: Some(key) }
    }

    /// Name of the key, for logs.
    pub fn name(&self) -> Option<&str> {
        self.key.as_deref().map(|key| key.name.as_str())
    }

    /// Id of its key; none where the server is open to all.
    pub fn key_id(&self) -> Option<&str> {
        self.key.as_deref().map(|key| key.id.as_str())
    }

    /// Who shares with others for it: all who show its key, or its client where there are no keys.
    pub fn party(&self, client: IpAddr) -> Party {
        self.key.as_deref().map_or(Party::Client(client), |key| Party::Key(key.id.as_str().into()))
    }

    /// Checks that the method may be called at all.
    ///
    /// # Errors
    /// `SCOPE_TOO_LOW`; `COLLECTION_NOT_ALLOWED` where the method reaches every collection and the key does not;
    /// `METHOD_NOT_ALLOWED` for a method that is not in [`METHODS`].
    pub fn check_method(&self, path: &str) -> Result<()> {
        counted(self.may_call(path))
    }

    fn may_call(&self, path: &str) -> Result<()> {
        let Some(key) = self.key.as_deref() else { return Ok(()) };
        let Some(method) = method(path) else {
            return Err(denied("METHOD_NOT_ALLOWED", "expected a method of this server, got another"));
        };
        if key.scope < method.scope {
            let (wanted, got) = (method.scope.name(), key.scope.name());
            return Err(denied("SCOPE_TOO_LOW", format!("expected a key of scope {wanted}, got {got}")));
        }
        if method.reach == Reach::Everything && key.collections.is_some() {
            let message = "expected a key for all collections, got one that is limited to some";
            return Err(denied("COLLECTION_NOT_ALLOWED", message));
        }
        Ok(())
    }

    /// Checks that a collection may be reached. The answer does not tell whether it exists.
    ///
    /// # Errors
    /// `COLLECTION_NOT_ALLOWED`.
    pub fn check_collection(&self, name: &CollectionName) -> Result<()> {
        if self.may_reach(name.as_str()) {
            return Ok(());
        }
        let message = format!("expected a collection that the key is for, got {name}");
        counted(Err(denied("COLLECTION_NOT_ALLOWED", message).about("collection", name.as_str())))
    }

    /// Whether a collection of this name may be reached.
    pub fn may_reach(&self, collection: &str) -> bool {
        let allowed = self.key.as_deref().and_then(|key| key.collections.as_ref());
        allowed.is_none_or(|names| names.iter().any(|name| name == collection))
    }
}

/// Counts a refusal.
fn counted<T>(checked: Result<T>) -> Result<T> {
    checked.inspect_err(|error| counter!(metrics::ACCESS_REFUSALS, "reason" => error.reason).increment(1))
}

fn denied(reason: &'static str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::PermissionDenied, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scope: Scope, collections: Option<&[&str]>) -> Caller {
        let mut key = KeyRecord::example();
        key.scope = scope;
        key.collections = collections.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        Caller::with_key(Arc::new(key))
    }

    #[test]
    fn scopes_include_those_below() {
        let search = "/trove.v1.SearchService/Search";
        let upsert = "/trove.v1.DocumentService/UpsertDocuments";
        let create = "/trove.v1.CollectionService/CreateCollection";
        let allowed =
            |scope| [search, upsert, create].map(|path| caller(scope, None).check_method(path).is_ok());
        assert_eq!(allowed(Scope::Read), [true, false, false]);
        assert_eq!(allowed(Scope::Write), [true, true, false]);
        assert_eq!(allowed(Scope::Admin), [true, true, true]);
        let reason = |path| caller(Scope::Read, None).check_method(path).unwrap_err().reason;
        assert_eq!(reason(upsert), "SCOPE_TOO_LOW");
        assert_eq!(reason("/trove.v1.SearchService/NoSuch"), "METHOD_NOT_ALLOWED");
        assert!(Caller::anyone().check_method(create).is_ok());
    }

    #[test]
    fn a_limited_key_reaches_its_collections_only() {
        let caller = caller(Scope::Admin, Some(&["notes"]));
        let check = |name| caller.check_collection(&CollectionName::new(name).unwrap());
        assert!(check("notes").is_ok());
        assert_eq!(check("note").unwrap_err().reason, "COLLECTION_NOT_ALLOWED");
        assert!(!super::tests::caller(Scope::Read, Some(&[])).may_reach("notes"));
        assert!(super::tests::caller(Scope::Read, None).may_reach("notes"));
    }
}
