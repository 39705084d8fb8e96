use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Memory is granted in units of this many bytes.
const UNIT: usize = 1 << 10;

/// Memory for what all streams of a kind together hold at once.
#[derive(Clone)]
pub struct Room {
    units: Arc<Semaphore>,
    total: usize,
}

impl Room {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        let total = (bytes / UNIT).clamp(1, (u32::MAX as usize).min(Semaphore::MAX_PERMITS));
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// Waits for room; what is larger than all of it takes all of it.
    pub(super) async fn take(&self, bytes: usize) -> Result<Place> {
        let units = bytes.div_ceil(UNIT).clamp(1, self.total);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let closed = |e| Error::internal("ROOM_CLOSED", "the memory of the streams is closed").with_source(e);
        self.units.clone().acquire_many_owned(units).await.map(Place).map_err(closed)
    }
}

/// A part of a [`Room`], free again when it is dropped.
pub(super) struct Place(OwnedSemaphorePermit);

impl Place {
    /// How many bytes fit into it.
    pub fn bytes(&self) -> usize {
        self.0.num_permits() * UNIT
    }

    /// Gives back what is not needed for so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let spare = self.0.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        drop(self.0.split(spare));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_never_larger_than_the_room_and_is_given_back() {
        let room = Room::new(10 * UNIT);
        let mut place = room.take(usize::MAX).await.unwrap();
        assert_eq!((place.bytes(), room.units.available_permits()), (10 * UNIT, 0));
        place.shrink(3 * UNIT + 1);
        assert_eq!((place.bytes(), room.units.available_permits()), (4 * UNIT, 6));
        place.shrink(9 * UNIT);
        assert_eq!(place.bytes(), 4 * UNIT, "it does not grow");
        drop(place);
        assert_eq!(room.units.available_permits(), 10);
        assert_eq!(room.take(0).await.unwrap().bytes(), UNIT);
    }
}
