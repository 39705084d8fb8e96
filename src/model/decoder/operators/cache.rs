#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use parking_lot::Mutex;

use super::kernel::LANES;
use crate::error::{Error, Result};
use crate::model::decoder::session::CacheShape;

/// Keys and values of all layers, allocated once; the operators write and read them in place.
pub(in crate::model::decoder) struct KvCache {
    pub(super) shape: CacheShape,
    pub(super) layers: Vec<Mutex<LayerCache>>,
    pub(super) scratch: Mutex<super::attention::Scratch>,
}

/// Keys and values of a layer.
///
/// Keys are `[slots, heads, capacity / LANES, width, LANES]`, so that a query meets neighbouring keys at once; values are
/// `[slots, heads, capacity, width]`. Capacity and the values' width are rounded up to whole lanes.
pub(super) struct LayerCache {
    shape: CacheShape,
    keys: Buffer,
    values: Buffer,
}

/// Memory that the system provides page by page as tokens reach it.
///
/// Huge pages would provide nearly all of a slot at its first token, for each head is about as large as one: the first
/// prompt of a slot waited half a second for that.
struct Buffer(MmapMut);

impl Buffer {
    fn new(elements: usize) -> Result<Self> {
        let bytes = elements * size_of::<f32>();
        let map = MmapMut::map_anon(bytes).map_err(|e| {
            let message = format!("cannot reserve {bytes} bytes for a KV cache: {e}");
            Error::precondition("SESSION_FAILED", message).with_source(e)
        })?;
        #[cfg(target_os = "linux")]
        if let Err(error) = map.advise(Advice::NoHugePage) {
            // A kernel without huge pages knows no such advice.
            tracing::debug!(%error, "the KV cache takes pages as they come");
        }
        Ok(Self(map))
    }

    fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

impl KvCache {
    pub fn new(layers: usize, shape: CacheShape) -> Result<Self> {
        let layers = (0..layers).map(|_| LayerCache::new(shape).map(Mutex::new)).collect::<Result<_>>()?;
        Ok(Self { shape, layers, scratch: Mutex::default() })
    }

    /// Copies the first tokens of a slot to another slot.
    pub fn copy(&self, from: usize, to: usize, tokens: usize) {
        for layer in &self.layers {
            layer.lock().copy(from, to, tokens);
        }
    }
}

impl LayerCache {
    fn new(shape: CacheShape) -> Result<Self> {
        let mut this = Self { shape, keys: Buffer::new(1)?, values: Buffer::new(1)? };
        this.keys = Buffer::new(shape.slots * shape.heads * this.key_head())?;
        this.values = Buffer::new(shape.slots * shape.heads * this.value_head())?;
        Ok(this)
    }

    fn capacity(&self) -> usize {
        self.shape.capacity.next_multiple_of(LANES)
    }

    /// Floats between a head's values of two tokens.
    pub fn value_width(&self) -> usize {
        self.shape.width.next_multiple_of(LANES)
    }

    fn key_head(&self) -> usize {
        self.capacity() * self.shape.width
    }

    fn value_head(&self) -> usize {
        self.capacity() * self.value_width()
    }

    /// A head's keys from a token on, which is the first of its lanes.
    pub fn keys(&self, slot: usize, head: usize, token: usize) -> &[f32] {
        let size = self.key_head();
        let start = (slot * self.shape.heads + head) * size;
        self.keys.floats().get(start + token * self.shape.width..start + size).unwrap_or(&[])
    }

    /// A head's values from a token on.
    pub fn values(&self, slot: usize, head: usize, token: usize) -> &[f32] {
        let size = self.value_head();
        let start = (slot * self.shape.heads + head) * size;
        self.values.floats().get(start + token * self.value_width()..start + size).unwrap_or(&[])
    }

    /// Writes a token's key and value of a head.
    pub fn write(&mut self, slot: usize, head: usize, token: usize, key: &[f32], value: &[f32]) {
        let row = slot * self.shape.heads + head;
        let start = row * self.key_head() + token / LANES * LANES * self.shape.width + token % LANES;
        let places = self.keys.floats_mut().get_mut(start..).unwrap_or(&mut []).iter_mut().step_by(LANES);
        places.zip(key).for_each(|(place, &x)| *place = x);
        let start = row * self.value_head() + token * self.value_width();
        let places = self.values.floats_mut().get_mut(start..).unwrap_or(&mut []);
        places.iter_mut().zip(value).for_each(|(place, &x)| *place = x);
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        let heads = self.shape.heads;
        let (key_head, value_head) = (self.key_head(), self.value_head());
        let keys = tokens.next_multiple_of(LANES) * self.shape.width;
        let values = tokens * self.value_width();
        for head in 0..heads {
            let at = |slot: usize, size: usize| (slot * heads + head) * size;
            let source = at(from, key_head);
            self.keys.floats_mut().copy_within(source..source + keys, at(to, key_head));
            let source = at(from, value_head);
            self.values.floats_mut().copy_within(source..source + values, at(to, value_head));
        }
    }
}
