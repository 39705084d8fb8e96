//! The encoders and cross-encoders that are loaded, by id.

use std::sync::Arc;

use super::{CrossEncoder, Encoder};
use crate::error::{Error, Result};

/// Loaded encoders; the first is the default.
#[derive(Clone)]
pub struct Encoders(Arc<[Arc<Encoder>]>);

impl Encoders {
    /// A registry of at least one encoder.
    ///
    /// # Errors
    /// `NO_ENCODER` where the list is empty.
    pub fn new(encoders: Vec<Arc<Encoder>>) -> Result<Self> {
        if encoders.is_empty() {
            return Err(Error::invalid("NO_ENCODER", "expected at least one encoder to load, got none"));
        }
        Ok(Self(encoders.into()))
    }

    /// No encoder at all, for tests of what lies below encoding.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(Vec::new().into())
    }

    /// The encoder of an id; an empty id means the default.
    ///
    /// # Errors
    /// `UNKNOWN_MODEL` names the id and those that are loaded.
    pub fn get(&self, id: &str) -> Result<&Arc<Encoder>> {
        if id.is_empty() {
            return Ok(&self.0[0]);
        }
        self.0.iter().find(|e| e.info().id == id).ok_or_else(|| {
            let loaded: Vec<_> = self.0.iter().map(|e| e.info().id.as_str()).collect();
            Error::not_found(
                "UNKNOWN_MODEL",
                format!("no encoder {id:?} is loaded; loaded: {}", loaded.join(", ")),
            )
        })
    }

    /// The encoder that a collection is bound to.
    ///
    /// # Errors
    /// `UNKNOWN_MODEL` where it is not loaded, `MODEL_CHANGED` where its content hash differs.
    pub fn bound(&self, id: &str, revision: &str) -> Result<&Arc<Encoder>> {
        let encoder = self.get(id)?;
        let loaded = &encoder.info().revision;
        if loaded != revision {
            return Err(Error::precondition(
                "MODEL_CHANGED",
                format!(
                    "the collection was made with {id} of revision {revision}, but revision {loaded} is loaded"
                ),
            ));
        }
        Ok(encoder)
    }

    /// All of them, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Encoder>> {
        self.0.iter()
    }
}

/// Loaded cross-encoders, which may be none; the first is the default.
#[derive(Clone, Default)]
pub struct CrossEncoders(Arc<[Arc<CrossEncoder>]>);

impl CrossEncoders {
    /// A registry.
    pub fn new(cross_encoders: Vec<Arc<CrossEncoder>>) -> Self {
        Self(cross_encoders.into())
    }

    /// The cross-encoder of an id; an empty id means the default.
    ///
    /// # Errors
    /// `NO_CROSS_ENCODER` where none is loaded; `UNKNOWN_MODEL` names the id and those that are loaded.
    pub fn get(&self, id: &str) -> Result<&Arc<CrossEncoder>> {
        let first = self.0.first().ok_or_else(|| {
            Error::precondition(
                "NO_CROSS_ENCODER",
                "no cross-encoder is loaded; the setting reranker.models names those to load",
            )
        })?;
        if id.is_empty() {
            return Ok(first);
        }
        self.0.iter().find(|c| c.info().id == id).ok_or_else(|| {
            let loaded: Vec<_> = self.0.iter().map(|c| c.info().id.as_str()).collect();
            Error::not_found(
                "UNKNOWN_MODEL",
                format!("no cross-encoder {id:?} is loaded; loaded: {}", loaded.join(", ")),
            )
        })
    }

    /// All of them, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CrossEncoder>> {
        self.0.iter()
    }
}
