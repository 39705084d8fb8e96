//! A segment in use, with what was removed from it.

use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::format::damaged;
use super::manifest::SegmentEntry;
use super::segment::Segment;
use crate::error::Result;

/// A segment in use.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub id: u64,
    /// blake3 of its bytes.
    pub checksum: [u8; 32],
    pub segment: Arc<Segment>,
    /// Slots of points that were removed.
    pub deleted: Arc<RoaringBitmap>,
    /// What a manifest of the first version says was removed.
    pub inherited: Arc<Vec<u8>>,
}

impl Live {
    /// Opens a stored segment.
    ///
    /// # Errors
    /// `INDEX_DAMAGED` where it is not the one of the manifest.
    pub fn open(dimensions: usize, entry: &SegmentEntry, bytes: &[u8]) -> Result<Self> {
        let checksum = *blake3::hash(bytes).as_bytes();
        if checksum.as_slice() != entry.checksum {
            return Err(damaged("a segment's checksum is not that of the manifest"));
        }
        let segment = Segment::from_bytes(bytes)?;
        if segment.codes.dimensions() != dimensions || segment.len() as u64 != entry.points {
            return Err(damaged("a segment is not the one of the manifest"));
        }
        let deleted = match entry.deleted.as_slice() {
            [] => RoaringBitmap::new(),
            bytes => RoaringBitmap::deserialize_from(bytes)
                .map_err(|e| damaged("a list of removed points is garbled").with_source(e))?,
        };
        if deleted.max().is_some_and(|slot| slot as usize >= segment.len()) {
            return Err(damaged("a list of removed points is out of bounds"));
        }
        let inherited = Arc::new(entry.deleted.clone());
        Ok(Self { id: entry.id, checksum, segment: Arc::new(segment), deleted: Arc::new(deleted), inherited })
    }

    /// How many of its points were not removed.
    pub fn alive(&self) -> usize {
        self.segment.len().saturating_sub(self.deleted.len() as usize)
    }

    /// The slot of a point that was not removed.
    pub fn slot(&self, point: u64) -> Option<u32> {
        self.segment.slot(point).filter(|&slot| !self.deleted.contains(slot))
    }

    /// Removes the points of a range; whether any of it is there, dead or alive.
    pub fn remove(&mut self, range: &Range<u64>) -> bool {
        let slots = self.segment.slots(range);
        if slots.is_empty() {
            return false;
        }
        Arc::make_mut(&mut self.deleted).insert_range(slots);
        true
    }

    /// What the manifest says of it.
    pub fn entry(&self) -> SegmentEntry {
        SegmentEntry {
            id: self.id,
            points: self.segment.len() as u64,
            checksum: self.checksum.to_vec(),
            deleted: Vec::clone(&self.inherited),
        }
    }
}
