//! Dot products of eight-bit codes, by the best instructions that the processor has.
//!
//! A stored code is unsigned: each component plus 128, so that zero is [`ZERO`]. The other operand is
//! signed. `dot(stored, signed) - 128 * sum(signed)` is the dot product of the components; the second
//! term, the *bias*, is the same for every code that one query meets.
#![allow(unsafe_code, reason = "vector instructions, argued where they are used")]

use std::sync::OnceLock;

/// A component of zero in a stored code.
pub(super) const ZERO: u8 = 0x80;
/// Codes are padded to whole blocks of this many bytes, a cache line each.
pub(super) const BLOCK: usize = 64;
/// How many codes ahead of the one at work are fetched.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4;

type Block = [u8; BLOCK];

/// The functions chosen for this processor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    many: Many,
    pair: fn(&[Block], &[Block]) -> i32,
}

/// Query, codes, slots, results.
type Many = fn(&[Block], &[Block], &[u32], &mut [i32]);

impl Kernel {
    /// The best that runs here.
    pub(super) fn get() -> Self {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        *KERNEL.get_or_init(Self::detect)
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        if x86::has_vnni() {
            return Self { many: x86::many_vnni, pair: x86::pair_vnni };
        }
        if x86::has_avx2() {
            return Self { many: x86::many_avx2, pair: x86::pair_avx2 };
        }
        Self::portable()
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Self::portable()
    }

    /// Plain Rust, which the compiler makes vector code of.
    pub(super) fn portable() -> Self {
        Self { many: portable_many, pair: portable_pair }
    }

    /// For each slot the dot product of its stored code and a signed query of the same width, bias
    /// included. `out` is as long as `slots`; slots that are not in `codes` give zero.
    pub(super) fn many(&self, query: &[u8], codes: &[u8], slots: &[u32], out: &mut [i32]) {
        (self.many)(query.as_chunks().0, codes.as_chunks().0, slots, out);
    }

    /// The dot product of two stored codes, bias of the second included.
    pub(super) fn pair(&self, a: &[u8], b: &[u8]) -> i32 {
        (self.pair)(a.as_chunks().0, b.as_chunks().0)
    }
}

/// What the second operand adds to a dot product: 128 times the sum of its components.
pub(super) fn bias(stored: &[u8]) -> i32 {
    128 * stored.iter().map(|&x| i32::from(x) - i32::from(ZERO)).sum::<i32>()
}

fn code(codes: &[Block], slot: u32, width: usize) -> &[Block] {
    let start = slot as usize * width;
    codes.get(start..start + width).unwrap_or(&[])
}

fn portable_many(query: &[Block], codes: &[Block], slots: &[u32], out: &mut [i32]) {
    for (&slot, out) in slots.iter().zip(out) {
        let mut sum = 0;
        for (c, q) in code(codes, slot, query.len()).as_flattened().iter().zip(query.as_flattened()) {
            sum += i32::from(i16::from(*c) * i16::from(*q as i8));
        }
        *out = sum;
    }
}

fn portable_pair(a: &[Block], b: &[Block]) -> i32 {
    let pairs = a.as_flattened().iter().zip(b.as_flattened());
    pairs.map(|(a, b)| i32::from(i16::from(*a) * i16::from((*b ^ ZERO) as i8))).sum()
}

/// The only `unsafe` code of the index; the safety of each step is argued beside it.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128,
        _mm_prefetch, _mm_set1_epi8, _mm_shuffle_epi32, _mm_xor_si128, _mm256_add_epi32,
        _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16, _mm256_extracti128_si256,
        _mm256_madd_epi16, _mm256_setzero_si256, _mm512_dpbusd_epi32, _mm512_loadu_si512,
        _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_xor_si512,
    };

    use super::{AHEAD, BLOCK, Block, ZERO, code};

    /// What the AVX2 functions widen at a time.
    const STEP: usize = 16;

    pub fn has_vnni() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    }

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2")
    }

    pub fn many_vnni(query: &[Block], codes: &[Block], slots: &[u32], out: &mut [i32]) {
        // SAFETY: chosen only where `has_vnni` found the features that the function needs.
        unsafe { many_vnni_inner(query, codes, slots, out) }
    }

    pub fn pair_vnni(a: &[Block], b: &[Block]) -> i32 {
        // SAFETY: as above.
        unsafe { dot_vnni::<true>(a, b) }
    }

    pub fn many_avx2(query: &[Block], codes: &[Block], slots: &[u32], out: &mut [i32]) {
        // SAFETY: chosen only where `has_avx2` found the feature that the function needs.
        unsafe { many_avx2_inner(query, codes, slots, out) }
    }

    pub fn pair_avx2(a: &[Block], b: &[Block]) -> i32 {
        // SAFETY: as above.
        unsafe { dot_avx2::<true>(a, b) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn many_vnni_inner(query: &[Block], codes: &[Block], slots: &[u32], out: &mut [i32]) {
        each(query.len(), codes, slots, out, |code| dot_vnni::<false>(code, query));
    }

    #[target_feature(enable = "avx2")]
    fn many_avx2_inner(query: &[Block], codes: &[Block], slots: &[u32], out: &mut [i32]) {
        each(query.len(), codes, slots, out, |code| dot_avx2::<false>(code, query));
    }

    /// Gives `dot` the code of each slot, while the codes of those to come are on their way to the cache.
    #[inline(always)]
    fn each(width: usize, codes: &[Block], slots: &[u32], out: &mut [i32], dot: impl Fn(&[Block]) -> i32) {
        for &slot in slots.iter().take(AHEAD) {
            prefetch(code(codes, slot, width));
        }
        for (at, (&slot, out)) in slots.iter().zip(out).enumerate() {
            if let Some(&next) = slots.get(at + AHEAD) {
                prefetch(code(codes, next, width));
            }
            *out = dot(code(codes, slot, width));
        }
    }

    #[inline]
    fn prefetch(blocks: &[Block]) {
        for block in blocks {
            // SAFETY: a prefetch is a hint; SSE is part of x86-64 and the address is that of a block.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().cast()) };
        }
    }

    /// The dot product of a stored code and a signed one; `FLIP` where the second is stored too.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn dot_vnni<const FLIP: bool>(stored: &[Block], other: &[Block]) -> i32 {
        let zero = _mm512_set1_epi8(ZERO as i8);
        let mut sum = _mm512_setzero_si512();
        for (a, b) in stored.iter().zip(other) {
            let b = if FLIP { _mm512_xor_si512(load_512(b), zero) } else { load_512(b) };
            sum = _mm512_dpbusd_epi32(sum, load_512(a), b);
        }
        _mm512_reduce_add_epi32(sum)
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn load_512(block: &Block) -> __m512i {
        // SAFETY: a block is 64 bytes that can be read, and the load asks for no alignment.
        unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
    }

    /// As [`dot_vnni`]. AVX2's own product of bytes saturates, hence products of bytes widened to 16 bits.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn dot_avx2<const FLIP: bool>(stored: &[Block], other: &[Block]) -> i32 {
        let zero = _mm_set1_epi8(ZERO as i8);
        let mut sums = [_mm256_setzero_si256(); BLOCK / STEP];
        for (a, b) in stored.iter().zip(other) {
            let (a, b) = (a.as_chunks().0, b.as_chunks().0);
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                let b = if FLIP { _mm_xor_si128(load_128(b), zero) } else { load_128(b) };
                let products = _mm256_madd_epi16(_mm256_cvtepu8_epi16(load_128(a)), _mm256_cvtepi8_epi16(b));
                *sum = _mm256_add_epi32(*sum, products);
            }
        }
        let [a, b, c, d] = sums;
        total(_mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d)))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load_128(bytes: &[u8; STEP]) -> __m128i {
        // SAFETY: 16 bytes that can be read, and the load asks for no alignment.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn total(sum: __m256i) -> i32 {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every one that runs here, the best or not.
    fn kernels() -> Vec<Kernel> {
        let mut all = vec![Kernel::get(), Kernel::portable()];
        #[cfg(target_arch = "x86_64")]
        if x86::has_avx2() {
            all.push(Kernel { many: x86::many_avx2, pair: x86::pair_avx2 });
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_kernel_gives_the_dot_product(blocks in 1usize..8, seed: u64, extreme: bool) {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if extreme { [1u8, 255][(state >> 63) as usize] } else { ((state >> 56) as u8).max(1) }
            };
            let width = blocks * BLOCK;
            let codes: Vec<u8> = (0..width * 5).map(|_| next()).collect();
            let query: Vec<u8> = (0..width).map(|_| next()).collect();
            let signed: Vec<u8> = query.iter().map(|x| x ^ ZERO).collect();
            let truth = |slot: usize| -> i32 {
                let code = &codes[slot * width..][..width];
                code.iter().zip(&query).map(|(c, q)| (i32::from(*c) - 128) * (i32::from(*q) - 128)).sum()
            };
            for kernel in kernels() {
                let mut out = [7; 5];
                kernel.many(&signed, &codes, &[3, 0, 4, 9, 1], &mut out);
                for (at, slot) in [(0, 3), (1, 0), (2, 4), (4, 1)] {
                    prop_assert_eq!(out[at] - bias(&query), truth(slot));
                }
                prop_assert_eq!(out[3], 0);
                prop_assert_eq!(kernel.pair(&codes[width..2 * width], &query) - bias(&query), truth(1));
            }
        }
    }
}
