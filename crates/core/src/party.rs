//! On whose behalf work is done: what is shared among callers is shared among parties.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

tokio::task_local! {
    static CURRENT: Party;
}

/// Who gets one share of what callers take turns for.
///
/// It travels with a call as its span does, and not through the signatures of all that works for the call. Work that
/// moves to a thread or task of its own takes it along by value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Party {
    /// The server itself, and every program that uses this library without serving.
    Own,
    /// All who show this API key, by its id.
    Key(Arc<str>),
    /// A client without a key, by its address.
    Client(IpAddr),
}

impl Party {
    /// That of the call that is worked on.
    pub fn current() -> Self {
        CURRENT.try_with(Party::clone).unwrap_or(Self::Own)
    }

    /// Runs a part of a call.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// The future, with all that it does as a part of a call.
    pub fn with<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Key(id) => write!(f, "key {id}"),
            Self::Client(address) => write!(f, "client {address}"),
        }
    }
}
