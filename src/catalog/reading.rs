//! A collection for as long as it is read.

use std::sync::Arc;

use super::{Catalog, Filters, Indexes, Keywords, Open, gone};
use crate::domain::CollectionName;
use crate::error::Result;
use crate::store::{CollectionRecord, Lease, View};
use crate::task::Cancelled;

/// A collection as one call reads it. If it is deleted or replaced meanwhile, what it held stays there for the reader.
#[derive(Clone)]
pub struct Reading {
    record: CollectionRecord,
    open: Open,
    _lease: Arc<Lease>,
}

impl Reading {
    /// Its record.
    pub fn record(&self) -> &CollectionRecord {
        &self.record
    }

    /// Its number.
    pub fn cid(&self) -> u32 {
        self.record.cid
    }

    /// Its vector indexes.
    pub fn indexes(&self) -> &Indexes {
        &self.open.indexes
    }

    /// Its keyword index.
    pub fn keywords(&self) -> &Keywords {
        &self.open.keywords
    }

    /// Its metadata index.
    pub fn filters(&self) -> &Filters {
        &self.open.filters
    }
}

impl Catalog {
    /// Begins to read a collection.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION`.
    pub fn read(&self, name: &CollectionName) -> Result<Reading> {
        loop {
            let (record, lease) = self.store.read_collection(name.as_str())?;
            if let Some(open) = self.open_of(record.cid) {
                return Ok(Reading { record, open, _lease: Arc::new(lease) });
            }
            // It was deleted since, or another one has its name by now.
            if self.collection(name)?.cid == record.cid {
                return Err(gone(&record));
            }
        }
    }

    /// Begins to read a collection as it is at this moment, whatever is written meanwhile.
    ///
    /// # Errors
    /// `UNKNOWN_COLLECTION` and `CANCELLED`.
    pub fn read_moment(&self, name: &CollectionName, is_cancelled: Cancelled<'_>) -> Result<(Reading, View)> {
        loop {
            let reading = self.read(name)?;
            match self.store.view(reading.cid(), is_cancelled) {
                Err(error) if error.reason == "UNKNOWN_COLLECTION" => {}
                view => return Ok((reading, view?)),
            }
        }
    }
}
