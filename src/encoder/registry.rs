//! The encoders that are loaded, by id.

use std::sync::Arc;

use super::Encoder;
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
                format!("model {id:?} is not loaded; loaded: {}", loaded.join(", ")),
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
