//! Random numbers that a seed tells.

/// A small generator of random numbers (splitmix64), so that a seed tells all that happens.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// A generator of its own for another task.
    pub fn fork(&mut self) -> Random {
        Random(self.below(u64::MAX))
    }
}
