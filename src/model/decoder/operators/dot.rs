//! Products of activations in 8-bit integers with quantized weights, 16 outputs at once, by the best instructions that the
//! processor has.
//!
//! Blocks are summed from the first to the last for each token and output by itself: a token's result does not depend on the
//! tokens beside it.
#![allow(unsafe_code, reason = "vector instructions, argued where they are used")]

use std::ops::Range;
use std::sync::OnceLock;

use crate::model::decoder::packed::{GROUP, Layout, PLANE, QUAD};
use crate::model::gguf::block::PART;

/// Greatest absolute value of an activation.
const GREATEST: f32 = 127.0;
/// Columns whose sum is kept; Q6_K has a scale for so many.
const HALF: usize = PART / 2;
/// Quads of a part.
const QUADS: usize = PART / QUAD;

/// Rows of activations; 32 columns share a scale.
#[derive(Default)]
pub(super) struct Activations {
    columns: usize,
    values: Vec<i8>,
    /// One a part.
    scales: Vec<f32>,
    /// Sums of the integers of half a part.
    totals: Vec<i32>,
}

/// Some rows of [`Activations`] that are to be filled.
pub(super) struct Filled<'a> {
    values: &'a mut [i8],
    scales: &'a mut [f32],
    totals: &'a mut [i32],
}

impl Activations {
    /// Makes room for rows.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        let parts = rows * columns / PART;
        self.columns = columns;
        self.values.resize(rows * columns, 0);
        self.scales.resize(parts, 0.0);
        self.totals.resize(2 * parts, 0);
    }

    /// Some rows at a time, from the first ones on.
    pub fn chunks_mut(&mut self, rows: usize) -> impl Iterator<Item = Filled<'_>> {
        let (size, parts) = (rows * self.columns, rows * self.columns / PART);
        let values = self.values.chunks_mut(size).zip(self.scales.chunks_mut(parts));
        let all = values.zip(self.totals.chunks_mut(2 * parts));
        all.map(|((values, scales), totals)| Filled { values, scales, totals })
    }

    /// Of a row's part: values, scale, totals of its halves.
    #[inline(always)]
    fn part(&self, row: usize, part: usize) -> (&[i8; PART], f32, [i32; 2]) {
        let at = row * (self.columns / PART) + part;
        let values = self.values.get(at * PART..).and_then(<[i8]>::first_chunk);
        let totals = self.totals.get(2 * at..).and_then(<[i32]>::first_chunk);
        // `product` has found all of them to be there.
        (
            values.unwrap_or(&[0; PART]),
            self.scales.get(at).copied().unwrap_or_default(),
            totals.copied().unwrap_or_default(),
        )
    }
}

/// Some groups of a matrix.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    pub layout: Layout,
    /// Columns of the matrix.
    pub columns: usize,
    /// Whole groups.
    pub packed: &'a [u8],
}

/// The functions chosen for this processor.
#[derive(Clone, Copy)]
pub(super) struct Dot {
    /// Whether it uses more than plain Rust.
    pub is_vectorized: bool,
    quantize: fn(&[f32], &mut Filled<'_>),
    product: fn(Groups<'_>, &Activations, Range<usize>, &mut [&mut [f32]]),
}

impl Dot {
    /// The best that runs here.
    pub fn get() -> Self {
        static DOT: OnceLock<Dot> = OnceLock::new();
        *DOT.get_or_init(Self::detect)
    }

    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_vnni() {
                return x86::VNNI;
            }
            if x86::has_avx2() {
                return x86::AVX2;
            }
        }
        Self::portable()
    }

    /// Plain Rust.
    pub fn portable() -> Self {
        Self { is_vectorized: false, quantize, product: product::<Plain> }
    }

    /// Rounds rows of floats.
    pub fn quantize(&self, from: &[f32], to: &mut Filled<'_>) {
        (self.quantize)(from, to);
    }

    /// `out[r][n] = Σ x[rows.start + r][k] · w[n][k]` for all outputs of the groups, of which `out` may lack the last ones.
    /// Does nothing where something is smaller than that.
    pub fn product(&self, groups: Groups<'_>, x: &Activations, rows: Range<usize>, out: &mut [&mut [f32]]) {
        let bytes = groups.layout.group_bytes(groups.columns);
        let whole = x.columns == groups.columns
            && groups.columns.is_multiple_of(groups.layout.columns)
            && rows.len() == out.len()
            && rows.end * x.columns <= x.values.len()
            && bytes > 0
            && groups.packed.len().is_multiple_of(bytes)
            && out.iter().all(|row| row.len().div_ceil(GROUP) == groups.packed.len() / bytes);
        debug_assert!(whole);
        if whole {
            (self.product)(groups, x, rows, out);
        }
    }
}

/// Bytes, integers and floats of 16 outputs.
trait Lanes {
    /// Four bytes for each output.
    type Bytes: Copy;
    type Ints: Copy;
    type Floats: Copy;
    /// What [`Lanes::dot`] of eight bits adds to each weight.
    const EXCESS: i32;
    fn load(from: &[u8; PLANE]) -> Self::Bytes;
    /// Some bits of each byte: `(byte >> shift) & mask`, where the mask leaves nothing of a neighbour.
    fn field(bytes: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes;
    /// Puts two bits of each byte above four others.
    fn stack(low: Self::Bytes, high: Self::Bytes) -> Self::Bytes;
    /// Sums of products of weights of so many bits, of which eight are signed and others are not, with activations.
    fn dot<const BITS: usize>(weights: &[Self::Bytes], x: &[i8]) -> Self::Ints;
    /// Less a number.
    fn floats(ints: Self::Ints, less: i32) -> Self::Floats;
    fn zero() -> Self::Floats;
    fn halves(from: &[u8; 2 * GROUP]) -> Self::Floats;
    fn unsigned(from: &[u8; GROUP]) -> Self::Floats;
    fn signed(from: &[u8; GROUP]) -> Self::Floats;
    fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn scaled(a: Self::Floats, by: f32) -> Self::Floats;
    /// `sum + a · b`.
    fn add_product(sum: Self::Floats, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn add_scaled(sum: Self::Floats, a: Self::Floats, by: f32) -> Self::Floats;
    fn store(floats: Self::Floats, to: &mut [f32; GROUP]);
}

#[inline(always)]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).unwrap_or(&[0; N])
}

#[inline(always)]
fn product<L: Lanes>(groups: Groups<'_>, x: &Activations, rows: Range<usize>, out: &mut [&mut [f32]]) {
    let Layout { bits, has_minimum, scales, .. } = groups.layout;
    match (bits, has_minimum, scales > 0) {
        (4, false, _) => tiles::<L, 4, false, false>(groups, x, rows, out),
        (4, true, false) => tiles::<L, 4, true, false>(groups, x, rows, out),
        (4, true, true) => tiles::<L, 4, true, true>(groups, x, rows, out),
        (5, false, _) => tiles::<L, 5, false, false>(groups, x, rows, out),
        (5, true, false) => tiles::<L, 5, true, false>(groups, x, rows, out),
        (5, true, true) => tiles::<L, 5, true, true>(groups, x, rows, out),
        (6, ..) => tiles::<L, 6, false, true>(groups, x, rows, out),
        _ => tiles::<L, 8, false, false>(groups, x, rows, out),
    }
}

/// Four rows at once, then what is left; the group stays in the core's cache meanwhile.
#[inline(always)]
fn tiles<L: Lanes, const BITS: usize, const MINIMUM: bool, const SUPER: bool>(
    groups: Groups<'_>,
    x: &Activations,
    rows: Range<usize>,
    out: &mut [&mut [f32]],
) {
    let bytes = groups.layout.group_bytes(groups.columns);
    for (number, group) in groups.packed.chunks_exact(bytes).enumerate() {
        let mut at = 0;
        while at < rows.len() {
            let row = rows.start + at;
            let out = &mut out[at..];
            at += if rows.len() - at < 4 {
                tile::<L, BITS, MINIMUM, SUPER, 1>(groups.layout, group, x, row, number, out)
            } else {
                tile::<L, BITS, MINIMUM, SUPER, 4>(groups.layout, group, x, row, number, out)
            };
        }
    }
}

/// One group and `R` rows; gives `R`.
#[inline(always)]
fn tile<L: Lanes, const BITS: usize, const MINIMUM: bool, const SUPER: bool, const R: usize>(
    layout: Layout,
    group: &[u8],
    x: &Activations,
    row: usize,
    number: usize,
    out: &mut [&mut [f32]],
) -> usize {
    let mut sums = [L::zero(); R];
    let (parts, part_bytes) = (layout.columns / PART, layout.part_bytes());
    for (at, block) in group.chunks_exact(layout.block_bytes()).enumerate() {
        let scale = L::halves(chunk(block, 0));
        let second = if MINIMUM { L::halves(chunk(block, 2 * GROUP)) } else { L::zero() };
        let integers = if MINIMUM { 4 * GROUP } else { 2 * GROUP };
        let head = layout.head_bytes();
        for part in 0..parts {
            let weights = unpack::<L, BITS>(&block[head + part * part_bytes..][..part_bytes]);
            let column = at * parts + part;
            if BITS == 6 {
                let of_half = |half: usize| {
                    L::mul(scale, L::signed(chunk(block, integers + GROUP * (2 * part + half))))
                };
                let scales = [of_half(0), of_half(1)];
                for (r, sum) in sums.iter_mut().enumerate() {
                    let (values, factor, totals) = x.part(row + r, column);
                    for half in 0..2 {
                        let weights = &weights[half * QUADS / 2..][..QUADS / 2];
                        let ints = L::dot::<BITS>(weights, &values[half * HALF..][..HALF]);
                        let floats = L::scaled(L::floats(ints, 32 * totals[half]), factor);
                        *sum = L::add_product(*sum, floats, scales[half]);
                    }
                }
                continue;
            }
            let (scale, second) = if SUPER {
                let minima = integers + GROUP * (layout.scales + part);
                (
                    L::mul(scale, L::unsigned(chunk(block, integers + GROUP * part))),
                    L::scaled(L::mul(second, L::unsigned(chunk(block, minima))), -1.0),
                )
            } else {
                (scale, second)
            };
            let zero = match (BITS, MINIMUM) {
                (8, _) => L::EXCESS,
                (4, false) => 8,
                (5, false) => 16,
                _ => 0,
            };
            for (r, sum) in sums.iter_mut().enumerate() {
                let (values, factor, [first, last]) = x.part(row + r, column);
                let ints = L::dot::<BITS>(&weights, values);
                let floats = L::scaled(L::floats(ints, zero * (first + last)), factor);
                *sum = L::add_product(*sum, floats, scale);
                if MINIMUM {
                    // Of the rounded columns, as the products: what rounding adds to both cancels out.
                    *sum = L::add_scaled(*sum, second, factor * (first + last) as f32);
                }
            }
        }
    }
    for (sum, out) in sums.into_iter().zip(out) {
        let mut lanes = [0.0; GROUP];
        L::store(sum, &mut lanes);
        let places = out.get_mut(number * GROUP..).unwrap_or(&mut []);
        places.iter_mut().zip(lanes).for_each(|(place, x)| *place = x);
    }
    R
}

/// The values of a part, quad by quad.
#[inline(always)]
fn unpack<L: Lanes, const BITS: usize>(planes: &[u8]) -> [L::Bytes; QUADS] {
    let plane = |number: usize| L::load(chunk(planes, PLANE * number));
    let mut quads = [plane(0); QUADS];
    if BITS == 8 {
        for (number, quad) in quads.iter_mut().enumerate() {
            *quad = plane(number);
        }
        return quads;
    }
    for number in 0..QUADS / 2 {
        let both = plane(number);
        quads[number] = L::field(both, 0, 15);
        quads[number + QUADS / 2] = L::field(both, 4, 15);
    }
    if BITS == 5 {
        let fifths = plane(4);
        for (number, quad) in quads.iter_mut().enumerate() {
            *quad = L::stack(*quad, L::field(fifths, number as u32, 1));
        }
    }
    if BITS == 6 {
        for (number, quads) in quads.chunks_exact_mut(QUADS / 2).enumerate() {
            let pairs = plane(4 + number);
            for (at, quad) in quads.iter_mut().enumerate() {
                *quad = L::stack(*quad, L::field(pairs, 2 * at as u32, 3));
            }
        }
    }
    quads
}

/// In a fixed order that vector code can keep.
#[inline(always)]
fn quantize(from: &[f32], to: &mut Filled<'_>) {
    /// Adding it leaves a rounded integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let values = to.values.as_chunks_mut::<PART>().0.iter_mut();
    let parts = from.as_chunks::<PART>().0.iter().zip(values);
    let others = to.scales.iter_mut().zip(to.totals.as_chunks_mut::<2>().0);
    for ((from, values), (scale, totals)) in parts.zip(others) {
        let (mut most, mut lanes) = ([0.0_f32; 8], [0.0_f32; 8]);
        for x in from.as_chunks::<8>().0 {
            for ((most, lane), &x) in most.iter_mut().zip(&mut lanes).zip(x) {
                *most = larger(x.abs(), *most);
                *lane += x;
            }
        }
        let sum: f32 = lanes.iter().sum();
        let greatest = most.into_iter().fold(0.0, larger);
        // What is no number is none in the product either.
        *scale = if sum.is_finite() { greatest / GREATEST } else { f32::NAN };
        let factor = if greatest > 0.0 { GREATEST / greatest } else { 0.0 };
        for (value, &x) in values.iter_mut().zip(from) {
            *value = (x * factor + ROUND).to_bits() as i8;
        }
        for (total, values) in totals.iter_mut().zip(values.as_chunks::<HALF>().0) {
            *total = values.iter().map(|&value| i32::from(value)).sum();
        }
    }
}

struct Plain;

impl Lanes for Plain {
    type Bytes = [u8; PLANE];
    type Ints = [i32; GROUP];
    type Floats = [f32; GROUP];
    const EXCESS: i32 = 0;

    #[inline(always)]
    fn load(from: &[u8; PLANE]) -> Self::Bytes {
        *from
    }

    #[inline(always)]
    fn field(bytes: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
        bytes.map(|byte| (byte >> shift) & mask)
    }

    #[inline(always)]
    fn stack(mut low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        low.iter_mut().zip(high).for_each(|(low, high)| *low |= high << 4);
        low
    }

    #[inline(always)]
    fn dot<const BITS: usize>(weights: &[Self::Bytes], x: &[i8]) -> Self::Ints {
        let mut sums = [0; GROUP];
        for (weights, x) in weights.iter().zip(x.as_chunks::<QUAD>().0) {
            for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<QUAD>().0) {
                for (&weight, &x) in weights.iter().zip(x) {
                    let weight = if BITS == 8 { i32::from(weight as i8) } else { i32::from(weight) };
                    *sum += weight * i32::from(x);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn floats(ints: Self::Ints, less: i32) -> Self::Floats {
        ints.map(|x| (x - less) as f32)
    }

    #[inline(always)]
    fn zero() -> Self::Floats {
        [0.0; GROUP]
    }

    #[inline(always)]
    fn halves(from: &[u8; 2 * GROUP]) -> Self::Floats {
        let mut floats = [0.0; GROUP];
        let halves = floats.iter_mut().zip(from.as_chunks::<2>().0);
        halves.for_each(|(to, &bytes)| *to = half::f16::from_le_bytes(bytes).to_f32());
        floats
    }

    #[inline(always)]
    fn unsigned(from: &[u8; GROUP]) -> Self::Floats {
        from.map(f32::from)
    }

    #[inline(always)]
    fn signed(from: &[u8; GROUP]) -> Self::Floats {
        from.map(|byte| f32::from(byte as i8))
    }

    #[inline(always)]
    fn mul(mut a: Self::Floats, b: Self::Floats) -> Self::Floats {
        a.iter_mut().zip(b).for_each(|(a, b)| *a *= b);
        a
    }

    #[inline(always)]
    fn scaled(a: Self::Floats, by: f32) -> Self::Floats {
        a.map(|a| a * by)
    }

    #[inline(always)]
    fn add_product(mut sum: Self::Floats, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        sum.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
        sum
    }

    #[inline(always)]
    fn add_scaled(mut sum: Self::Floats, a: Self::Floats, by: f32) -> Self::Floats {
        sum.iter_mut().zip(a).for_each(|(sum, a)| *sum += a * by);
        sum
    }

    #[inline(always)]
    fn store(floats: Self::Floats, to: &mut [f32; GROUP]) {
        *to = floats;
    }
}

/// The safety of each step is argued beside it.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, __m256i, __m512, __m512i, _mm_cvtsi32_si128, _mm_loadu_si128, _mm256_abs_epi8,
        _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
        _mm256_cvtepu8_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8,
        _mm256_slli_epi16, _mm256_srl_epi16, _mm256_storeu_ps, _mm256_sub_epi32, _mm512_and_si512,
        _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_or_si512, _mm512_set1_epi8,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi16,
        _mm512_srl_epi16, _mm512_storeu_ps, _mm512_sub_epi32, _mm512_xor_si512,
    };
    use std::ops::Range;

    use super::{Activations, Dot, Filled, GROUP, Groups, Lanes, PLANE, QUAD, product, quantize};

    pub const VNNI: Dot = Dot { is_vectorized: true, quantize: quantize_vnni, product: product_vnni };
    pub const AVX2: Dot = Dot { is_vectorized: true, quantize: quantize_avx2, product: product_avx2 };

    pub fn has_vnni() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    }

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }

    fn product_vnni(groups: Groups<'_>, x: &Activations, rows: Range<usize>, out: &mut [&mut [f32]]) {
        // SAFETY: chosen only where `has_vnni` found the features.
        unsafe { product_wide(groups, x, rows, out) }
    }

    fn product_avx2(groups: Groups<'_>, x: &Activations, rows: Range<usize>, out: &mut [&mut [f32]]) {
        // SAFETY: chosen only where `has_avx2` found the features.
        unsafe { product_narrow(groups, x, rows, out) }
    }

    fn quantize_vnni(from: &[f32], to: &mut Filled<'_>) {
        // SAFETY: as of `product_vnni`.
        unsafe { quantize_wide(from, to) }
    }

    fn quantize_avx2(from: &[f32], to: &mut Filled<'_>) {
        // SAFETY: as of `product_avx2`.
        unsafe { quantize_narrow(from, to) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn product_wide(groups: Groups<'_>, x: &Activations, rows: Range<usize>, out: &mut [&mut [f32]]) {
        product::<Wide>(groups, x, rows, out);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn product_narrow(groups: Groups<'_>, x: &Activations, rows: Range<usize>, out: &mut [&mut [f32]]) {
        product::<Narrow>(groups, x, rows, out);
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn quantize_wide(from: &[f32], to: &mut Filled<'_>) {
        quantize(from, to);
    }

    #[target_feature(enable = "avx2,fma")]
    fn quantize_narrow(from: &[f32], to: &mut Filled<'_>) {
        quantize(from, to);
    }

    #[inline(always)]
    fn four(x: &[i8; QUAD]) -> i32 {
        i32::from_ne_bytes(x.map(|x| x as u8))
    }

    struct Wide;

    // SAFETY of all: loads and stores take references to as many bytes as they move, unaligned; the functions are inlined
    // into `product_wide` only, whose caller has found the features.
    impl Lanes for Wide {
        type Bytes = __m512i;
        type Ints = __m512i;
        type Floats = __m512;
        const EXCESS: i32 = 128;

        #[inline(always)]
        fn load(from: &[u8; PLANE]) -> __m512i {
            unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
        }

        #[inline(always)]
        fn field(bytes: __m512i, shift: u32, mask: u8) -> __m512i {
            unsafe {
                let shifted = _mm512_srl_epi16(bytes, _mm_cvtsi32_si128(shift as i32));
                _mm512_and_si512(shifted, _mm512_set1_epi8(mask as i8))
            }
        }

        #[inline(always)]
        fn stack(low: __m512i, high: __m512i) -> __m512i {
            unsafe { _mm512_or_si512(low, _mm512_slli_epi16::<4>(high)) }
        }

        #[inline(always)]
        fn dot<const BITS: usize>(weights: &[__m512i], x: &[i8]) -> __m512i {
            unsafe {
                let mut sum = _mm512_setzero_si512();
                for (&weights, x) in weights.iter().zip(x.as_chunks::<QUAD>().0) {
                    // Signed bytes and 128 are unsigned ones.
                    let weights =
                        if BITS == 8 { _mm512_xor_si512(weights, _mm512_set1_epi8(-128)) } else { weights };
                    sum = _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(four(x)));
                }
                sum
            }
        }

        #[inline(always)]
        fn floats(ints: __m512i, less: i32) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(_mm512_sub_epi32(ints, _mm512_set1_epi32(less))) }
        }

        #[inline(always)]
        fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn halves(from: &[u8; 2 * GROUP]) -> __m512 {
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
        }

        #[inline(always)]
        fn unsigned(from: &[u8; GROUP]) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
        }

        #[inline(always)]
        fn signed(from: &[u8; GROUP]) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
        }

        #[inline(always)]
        fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        fn scaled(a: __m512, by: f32) -> __m512 {
            unsafe { _mm512_mul_ps(a, _mm512_set1_ps(by)) }
        }

        #[inline(always)]
        fn add_product(sum: __m512, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, sum) }
        }

        #[inline(always)]
        fn add_scaled(sum: __m512, a: __m512, by: f32) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, _mm512_set1_ps(by), sum) }
        }

        #[inline(always)]
        fn store(floats: __m512, to: &mut [f32; GROUP]) {
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), floats) }
        }
    }

    struct Narrow;

    #[inline(always)]
    fn both<A: Copy, B>(a: [A; 2], f: impl Fn(A) -> B) -> [B; 2] {
        a.map(f)
    }

    #[inline(always)]
    fn each<A: Copy, B: Copy, C>(a: [A; 2], b: [B; 2], f: impl Fn(A, B) -> C) -> [C; 2] {
        [f(a[0], b[0]), f(a[1], b[1])]
    }

    // SAFETY of all: as of `Wide`, with AVX2, FMA and F16C, inlined into `product_narrow`; the second half starts eight
    // outputs after the first.
    impl Lanes for Narrow {
        type Bytes = [__m256i; 2];
        type Ints = [__m256i; 2];
        type Floats = [__m256; 2];
        const EXCESS: i32 = 0;

        #[inline(always)]
        fn load(from: &[u8; PLANE]) -> Self::Bytes {
            let half = |at: usize| unsafe { _mm256_loadu_si256(from.as_ptr().add(at).cast()) };
            [half(0), half(PLANE / 2)]
        }

        #[inline(always)]
        fn field(bytes: Self::Bytes, shift: u32, mask: u8) -> Self::Bytes {
            both(bytes, |bytes| unsafe {
                let shifted = _mm256_srl_epi16(bytes, _mm_cvtsi32_si128(shift as i32));
                _mm256_and_si256(shifted, _mm256_set1_epi8(mask as i8))
            })
        }

        #[inline(always)]
        fn stack(low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
            each(low, high, |low, high| unsafe { _mm256_or_si256(low, _mm256_slli_epi16::<4>(high)) })
        }

        #[inline(always)]
        fn dot<const BITS: usize>(weights: &[Self::Bytes], x: &[i8]) -> Self::Ints {
            // So many products of two weights and 127 each have sums that fit into 16 bits.
            let fit = match BITS {
                4 => 8,
                5 => 4,
                6 => 2,
                _ => 1,
            };
            unsafe {
                let ones = _mm256_set1_epi16(1);
                let mut sums = [_mm256_setzero_si256(); 2];
                for (weights, x) in weights.chunks(fit).zip(x.as_chunks::<QUAD>().0.chunks(fit)) {
                    let mut narrow = [_mm256_setzero_si256(); 2];
                    for (&weights, x) in weights.iter().zip(x) {
                        let x = _mm256_set1_epi32(four(x));
                        narrow = each(narrow, weights, |sum, weights| {
                            let products = if BITS == 8 {
                                _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights))
                            } else {
                                _mm256_maddubs_epi16(weights, x)
                            };
                            _mm256_add_epi16(sum, products)
                        });
                    }
                    sums = each(sums, narrow, |sum, narrow| {
                        _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, ones))
                    });
                }
                sums
            }
        }

        #[inline(always)]
        fn floats(ints: Self::Ints, less: i32) -> Self::Floats {
            both(ints, |ints| unsafe { _mm256_cvtepi32_ps(_mm256_sub_epi32(ints, _mm256_set1_epi32(less))) })
        }

        #[inline(always)]
        fn zero() -> Self::Floats {
            [unsafe { _mm256_setzero_ps() }; 2]
        }

        #[inline(always)]
        fn halves(from: &[u8; 2 * GROUP]) -> Self::Floats {
            let half = |at: usize| unsafe {
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(at).cast::<__m128i>()))
            };
            [half(0), half(GROUP)]
        }

        #[inline(always)]
        fn unsigned(from: &[u8; GROUP]) -> Self::Floats {
            let half = |at: usize| {
                let mut eight = [0; 16];
                eight[..8].copy_from_slice(&from[at..at + 8]);
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadu_si128(eight.as_ptr().cast()))) }
            };
            [half(0), half(8)]
        }

        #[inline(always)]
        fn signed(from: &[u8; GROUP]) -> Self::Floats {
            let half = |at: usize| {
                let mut eight = [0; 16];
                eight[..8].copy_from_slice(&from[at..at + 8]);
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si128(eight.as_ptr().cast()))) }
            };
            [half(0), half(8)]
        }

        #[inline(always)]
        fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
            each(a, b, |a, b| unsafe { _mm256_mul_ps(a, b) })
        }

        #[inline(always)]
        fn scaled(a: Self::Floats, by: f32) -> Self::Floats {
            both(a, |a| unsafe { _mm256_mul_ps(a, _mm256_set1_ps(by)) })
        }

        #[inline(always)]
        fn add_product(sum: Self::Floats, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            let half = |at: usize| unsafe { _mm256_fmadd_ps(a[at], b[at], sum[at]) };
            [half(0), half(1)]
        }

        #[inline(always)]
        fn add_scaled(sum: Self::Floats, a: Self::Floats, by: f32) -> Self::Floats {
            each(sum, a, |sum, a| unsafe { _mm256_fmadd_ps(a, _mm256_set1_ps(by), sum) })
        }

        #[inline(always)]
        fn store(floats: Self::Floats, to: &mut [f32; GROUP]) {
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), floats[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), floats[1]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::decoder::packed::pack;
    use crate::model::gguf::{Blocks, TensorType};

    fn kernels() -> Vec<Dot> {
        let mut all = vec![Dot::portable(), Dot::get()];
        #[cfg(target_arch = "x86_64")]
        if x86::has_avx2() {
            all.push(x86::AVX2);
        }
        all
    }

    struct Random(u64);

    impl Random {
        fn byte(&mut self) -> u8 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 56) as u8
        }

        /// Any values under scales that are small numbers.
        fn blocks(&mut self, kind: TensorType, rows: usize, columns: usize) -> Blocks {
            let size = kind.block().1;
            let mut bytes: Vec<u8> =
                (0..rows * columns / kind.block().0 * size).map(|_| self.byte()).collect();
            let halves: &[usize] = match kind {
                TensorType::Q6K => &[208],
                _ if kind.has_minimum() => &[0, 2],
                _ => &[0],
            };
            for chunk in bytes.chunks_exact_mut(size) {
                for &at in halves {
                    let half = half::f16::from_f32((f32::from(self.byte()) - 100.0) / 300.0);
                    chunk[at..at + 2].copy_from_slice(&half.to_le_bytes());
                }
            }
            Blocks { kind, columns, bytes }
        }
    }

    fn run(dot: Dot, blocks: &Blocks, x: &[f32], rows: usize) -> Vec<f32> {
        let mut activations = Activations::default();
        activations.resize(rows, blocks.columns);
        for (from, mut to) in x.chunks(2 * blocks.columns).zip(activations.chunks_mut(2)) {
            dot.quantize(from, &mut to);
        }
        let (layout, packed) = (Layout::of(blocks.kind).unwrap(), pack(blocks).unwrap());
        let groups = Groups { layout, columns: blocks.columns, packed: &packed };
        let mut out = vec![f32::NAN; rows * blocks.rows()];
        let mut parts: Vec<&mut [f32]> = out.chunks_mut(blocks.rows()).collect();
        dot.product(groups, &activations, 0..rows, &mut parts);
        out
    }

    #[test]
    fn products_of_every_format_and_number_of_rows() {
        let mut random = Random(11);
        for number in [2, 3, 6, 7, 8, 12, 13, 14] {
            let kind = TensorType::from_number(number).unwrap();
            let (outputs, columns, rows) = if number % 2 == 0 { (37, 512, 7) } else { (50, 256, 6) };
            let blocks = random.blocks(kind, outputs, columns);
            let x: Vec<f32> =
                (0..rows * columns).map(|_| (f32::from(random.byte()) - 127.5) / 40.0).collect();
            let weights = blocks.to_floats();
            for dot in kernels() {
                let got = run(dot, &blocks, &x, rows);
                for (at, got) in got.iter().enumerate() {
                    let (row, output) = (at / outputs, at % outputs);
                    let (x, w) = (&x[row * columns..][..columns], &weights[output * columns..][..columns]);
                    let pairs = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                    let expected: f64 = pairs.clone().sum();
                    // Activations are rounded to a 254th of their range.
                    let size = pairs.map(|p| p * p).sum::<f64>().sqrt();
                    let off = (f64::from(*got) - expected).abs() / size;
                    assert!(off < 0.02, "{kind:?}, row {row}, output {output}: {got} {expected}");
                }
                for row in 0..rows {
                    let alone = run(dot, &blocks, &x[row * columns..][..columns], 1);
                    assert_eq!(alone, got[row * outputs..][..outputs], "{kind:?}: a row alone");
                }
            }
        }
    }

    /// Sums of 16 bits do not run over.
    #[test]
    fn the_greatest_values_have_right_products() {
        for (number, byte) in
            [(2, 0xff), (2, 0), (3, 0xff), (6, 0xff), (7, 0xff), (8, 0x80), (8, 0x7f), (14, 0xff)]
        {
            let kind = TensorType::from_number(number).unwrap();
            let mut blocks = Random(1).blocks(kind, 16, 256);
            let size = kind.block().1;
            let halves = if kind.has_minimum() { 4 } else { 2 };
            for chunk in blocks.bytes.chunks_exact_mut(size) {
                chunk.fill(byte);
                let at = if kind == TensorType::Q6K { 208 } else { 0 };
                chunk[at..at + halves].fill(0);
                chunk[at..at + 2].copy_from_slice(&half::f16::from_f32(1.0).to_le_bytes());
            }
            let expected: f32 = blocks.to_floats()[..256].iter().map(|w| w * 3.0).sum();
            for dot in kernels() {
                for sign in [1.0, -1.0] {
                    let got = run(dot, &blocks, &[3.0 * sign; 256], 1);
                    assert!(
                        (got[5] - sign * expected).abs() < 1e-4 * expected.abs(),
                        "{kind:?}: {got:?} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn zeros_and_numbers_that_are_none() {
        let blocks = Random(3).blocks(TensorType::Q8_0, 16, 64);
        for dot in kernels() {
            assert_eq!(run(dot, &blocks, &[0.0; 64], 1), [0.0; 16]);
            let mut x = [1.0; 64];
            x[40] = f32::INFINITY;
            assert!(run(dot, &blocks, &x, 1).iter().all(|y| !y.is_finite()));
        }
    }
}
