//! The arithmetic of the operators, by the best instructions that the processor has.
//!
//! Every element of a result is summed in the same order, whatever else is computed beside it: a token's result does not
//! depend on how many tokens share its step.
#![allow(unsafe_code, reason = "vector instructions, argued where they are used")]

use std::sync::OnceLock;

/// Floats that are worked on together.
pub(super) const LANES: usize = 16;

/// A matrix `[depth, panels * LANES]`: the first element of a row within a panel is at
/// `row * row_stride + panel * panel_stride`.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub panel_stride: usize,
    pub panels: usize,
}

impl Panels<'_> {
    #[inline(always)]
    fn at(&self, row: usize, panel: usize) -> &[f32; LANES] {
        let start = row * self.row_stride + panel * self.panel_stride;
        match self.data.get(start..).and_then(<[f32]>::first_chunk) {
            Some(lanes) => lanes,
            // `check` has found the last one to be there.
            None => &[0.0; LANES],
        }
    }

    fn holds(&self, depth: usize) -> bool {
        let last = |count: usize, stride: usize| count.saturating_sub(1) * stride;
        depth == 0
            || self.panels == 0
            || last(depth, self.row_stride) + last(self.panels, self.panel_stride) + LANES <= self.data.len()
    }
}

/// Rows of a matrix that follow each other in steps of `stride`.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub count: usize,
}

/// The functions chosen for this processor.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    accumulate: fn(Rows<'_>, usize, Panels<'_>, &mut [f32], usize),
    softmax: fn(&mut [f32]) -> (f32, f32),
    bend: fn(&mut [f32], f32),
}

impl Kernel {
    /// The best that runs here.
    pub fn get() -> Self {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        *KERNEL.get_or_init(Self::detect)
    }

    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_avx512() {
                return x86::AVX512;
            }
            if x86::has_avx2() {
                return x86::AVX2;
            }
        }
        Self::portable()
    }

    /// Plain Rust.
    pub fn portable() -> Self {
        Self {
            accumulate: |a, depth, b, out, stride| tiles::<Plain, 4, 1>(a, depth, b, out, stride),
            softmax,
            bend,
        }
    }

    /// `out[r][c] += Σ a[r][k] · b[k][c]` for the first `depth` of `k`, from the first one to the last. Rows of `out` are
    /// `stride` apart and hold all panels. Does nothing where a matrix is smaller than that.
    pub fn accumulate(&self, a: Rows<'_>, depth: usize, b: Panels<'_>, out: &mut [f32], stride: usize) {
        let wide = b.panels * LANES;
        let fits = |count: usize, step: usize, width: usize, length: usize| {
            count == 0 || (width <= step && (count - 1) * step + width <= length)
        };
        let whole = b.holds(depth)
            && fits(a.count, a.stride, depth, a.data.len())
            && fits(a.count, stride, wide, out.len());
        debug_assert!(whole);
        if whole {
            (self.accumulate)(a, depth, b, out, stride);
        }
    }

    /// Makes scores, at least one of which is finite, into `e^(score − greatest)`; gives the greatest and the sum. Minus
    /// infinity becomes zero.
    pub fn softmax(&self, scores: &mut [f32]) -> (f32, f32) {
        (self.softmax)(scores)
    }

    /// Makes scores `s` into `cap · tanh(s / cap)`.
    pub fn bend(&self, scores: &mut [f32], cap: f32) {
        (self.bend)(scores, cap);
    }
}

/// Sixteen floats.
trait Vector: Copy {
    fn zero() -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    /// `self + a · b`, for one `a`.
    fn add_scaled(self, a: f32, b: Self) -> Self;
}

#[derive(Clone, Copy)]
struct Plain([f32; LANES]);

impl Vector for Plain {
    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn add_scaled(mut self, a: f32, b: Self) -> Self {
        for (sum, b) in self.0.iter_mut().zip(b.0) {
            *sum += a * b;
        }
        self
    }
}

/// Works on `R` rows and `P` panels at once, then on what is left: up to three rows, four panels.
#[inline(always)]
fn tiles<V: Vector, const R: usize, const P: usize>(
    a: Rows<'_>,
    depth: usize,
    b: Panels<'_>,
    out: &mut [f32],
    stride: usize,
) {
    let mut row = 0;
    while row < a.count {
        let left = a.count - row;
        let from = Rows { data: a.data.get(row * a.stride..).unwrap_or(&[]), ..a };
        let out = out.get_mut(row * stride..).unwrap_or(&mut []);
        row += if left >= R {
            band::<V, R, P>(from, depth, b, out, stride)
        } else {
            match left {
                1 => band::<V, 1, 4>(from, depth, b, out, stride),
                2 => band::<V, 2, 2>(from, depth, b, out, stride),
                3 => band::<V, 3, P>(from, depth, b, out, stride),
                _ => band::<V, 4, P>(from, depth, b, out, stride),
            }
        };
    }
}

/// `R` rows and all panels; gives `R`.
#[inline(always)]
fn band<V: Vector, const R: usize, const P: usize>(
    a: Rows<'_>,
    depth: usize,
    b: Panels<'_>,
    out: &mut [f32],
    stride: usize,
) -> usize {
    let mut panel = 0;
    while panel + P <= b.panels {
        tile::<V, R, P>(a, depth, b, panel, out, stride);
        panel += P;
    }
    while panel < b.panels {
        tile::<V, R, 1>(a, depth, b, panel, out, stride);
        panel += 1;
    }
    R
}

#[inline(always)]
fn tile<V: Vector, const R: usize, const P: usize>(
    a: Rows<'_>,
    depth: usize,
    b: Panels<'_>,
    panel: usize,
    out: &mut [f32],
    stride: usize,
) {
    let at = |r: usize, p: usize| r * stride + (panel + p) * LANES;
    let mut sums = [[V::zero(); P]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        for (p, sum) in sums.iter_mut().enumerate() {
            if let Some(held) = out.get(at(r, p)..).and_then(<[f32]>::first_chunk) {
                *sum = V::load(held);
            }
        }
    }
    let mut rows = [&a.data[..0]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = a.data.get(r * a.stride..r * a.stride + depth).unwrap_or(&[]);
    }
    for k in 0..depth {
        let mut loaded = [V::zero(); P];
        for (p, lanes) in loaded.iter_mut().enumerate() {
            *lanes = V::load(b.at(k, panel + p));
        }
        for (row, sums) in rows.iter().zip(&mut sums) {
            let factor = row.get(k).copied().unwrap_or_default();
            for (sum, lanes) in sums.iter_mut().zip(loaded) {
                *sum = sum.add_scaled(factor, lanes);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (p, sum) in sums.iter().enumerate() {
            if let Some(to) = out.get_mut(at(r, p)..).and_then(<[f32]>::first_chunk_mut) {
                sum.store(to);
            }
        }
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32]) -> (f32, f32) {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (lanes, rest) = scores.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for lanes in lanes {
        for (most, &score) in most.iter_mut().zip(lanes) {
            *most = larger(*most, score);
        }
    }
    let greatest = most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger);
    let (lanes, rest) = scores.as_chunks_mut::<LANES>();
    let mut sums = [0.0; LANES];
    for lanes in lanes {
        for (sum, score) in sums.iter_mut().zip(lanes) {
            *score = exp(*score - greatest);
            *sum += *score;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for score in rest {
        *score = exp(*score - greatest);
        sum += *score;
    }
    (greatest, sum)
}

/// By `tanh |x| = (1 − e^(−2|x|)) / (1 + e^(−2|x|))`; each score by itself.
#[inline(always)]
fn bend(scores: &mut [f32], cap: f32) {
    for score in scores {
        let power = exp(-2.0 * (*score / cap).abs());
        *score = (cap * (1.0 - power) / (1.0 + power)).copysign(*score);
    }
}

/// `e^x` for x of zero and below, zero below −87; within 2 units in the last place. Halves of ln 2 and the polynomial as
/// in Cephes' `expf` (Moshier).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it leaves a rounded integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let inside = if x > -87.0 { x } else { -87.0 };
    let shifted = inside * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = inside - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut value = 1.987_569_1e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        value = value * rest + factor;
    }
    value = value * rest * rest + rest + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x > -87.0 { value * power } else { 0.0 }
}

/// The safety of each step is argued beside it; docs/BENCHMARKS.md tells what the operators bring as a whole.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };

    use super::{Kernel, LANES, Panels, Rows, Vector, bend, softmax, tiles};

    pub const AVX512: Kernel =
        Kernel { accumulate: accumulate_avx512, softmax: softmax_avx512, bend: bend_avx512 };
    pub const AVX2: Kernel = Kernel { accumulate: accumulate_avx2, softmax: softmax_avx2, bend: bend_avx2 };

    pub fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f")
    }

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    fn accumulate_avx512(a: Rows<'_>, depth: usize, b: Panels<'_>, out: &mut [f32], stride: usize) {
        // SAFETY: chosen only where `has_avx512` found the feature.
        unsafe { accumulate_wide(a, depth, b, out, stride) }
    }

    fn accumulate_avx2(a: Rows<'_>, depth: usize, b: Panels<'_>, out: &mut [f32], stride: usize) {
        // SAFETY: chosen only where `has_avx2` found the features.
        unsafe { accumulate_narrow(a, depth, b, out, stride) }
    }

    fn softmax_avx512(scores: &mut [f32]) -> (f32, f32) {
        // SAFETY: as of `accumulate_avx512`.
        unsafe { softmax_wide(scores) }
    }

    fn softmax_avx2(scores: &mut [f32]) -> (f32, f32) {
        // SAFETY: as of `accumulate_avx2`.
        unsafe { softmax_narrow(scores) }
    }

    fn bend_avx512(scores: &mut [f32], cap: f32) {
        // SAFETY: as of `accumulate_avx512`.
        unsafe { bend_wide(scores, cap) }
    }

    fn bend_avx2(scores: &mut [f32], cap: f32) {
        // SAFETY: as of `accumulate_avx2`.
        unsafe { bend_narrow(scores, cap) }
    }

    #[target_feature(enable = "avx512f")]
    fn bend_wide(scores: &mut [f32], cap: f32) {
        bend(scores, cap);
    }

    #[target_feature(enable = "avx2,fma")]
    fn bend_narrow(scores: &mut [f32], cap: f32) {
        bend(scores, cap);
    }

    #[target_feature(enable = "avx512f")]
    fn accumulate_wide(a: Rows<'_>, depth: usize, b: Panels<'_>, out: &mut [f32], stride: usize) {
        tiles::<Wide, 8, 2>(a, depth, b, out, stride);
    }

    #[target_feature(enable = "avx2,fma")]
    fn accumulate_narrow(a: Rows<'_>, depth: usize, b: Panels<'_>, out: &mut [f32], stride: usize) {
        tiles::<Narrow, 4, 1>(a, depth, b, out, stride);
    }

    #[target_feature(enable = "avx512f")]
    fn softmax_wide(scores: &mut [f32]) -> (f32, f32) {
        softmax(scores)
    }

    #[target_feature(enable = "avx2,fma")]
    fn softmax_narrow(scores: &mut [f32]) -> (f32, f32) {
        softmax(scores)
    }

    #[derive(Clone, Copy)]
    struct Wide(__m512);

    // SAFETY of all: loads and stores take references to as many floats as they move, unaligned; the functions are
    // inlined into `accumulate_wide` only, whose caller has found AVX-512.
    impl Vector for Wide {
        #[inline(always)]
        fn zero() -> Self {
            Self(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add_scaled(self, a: f32, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(_mm512_set1_ps(a), b.0, self.0) })
        }
    }

    #[derive(Clone, Copy)]
    struct Narrow([__m256; 2]);

    // SAFETY of all: as of `Wide`, with AVX2 and FMA; the second half starts eight floats after the first.
    impl Vector for Narrow {
        #[inline(always)]
        fn zero() -> Self {
            Self(unsafe { [_mm256_setzero_ps(), _mm256_setzero_ps()] })
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            Self(unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), self.0[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), self.0[1]);
            }
        }

        #[inline(always)]
        fn add_scaled(self, a: f32, b: Self) -> Self {
            let a = unsafe { _mm256_set1_ps(a) };
            Self(unsafe { [_mm256_fmadd_ps(a, b.0[0], self.0[0]), _mm256_fmadd_ps(a, b.0[1], self.0[1])] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels() -> Vec<Kernel> {
        let mut all = vec![Kernel::portable(), Kernel::get()];
        #[cfg(target_arch = "x86_64")]
        if x86::has_avx2() {
            all.push(x86::AVX2);
        }
        all
    }

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32) / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn sums_of_products_in_every_shape() {
        for kernel in kernels() {
            for (rows, depth, panels) in
                [(1, 1, 1), (1, 64, 5), (2, 18, 3), (3, 64, 16), (7, 5, 2), (21, 33, 7)]
            {
                let wide = panels * LANES;
                let (a, b) = (numbers(rows * (depth + 3), 1), numbers(depth * wide, 2));
                let mut out = numbers(rows * wide, 3);
                let expected: Vec<f64> = (0..rows * wide)
                    .map(|at| {
                        let (r, c) = (at / wide, at % wide);
                        let product =
                            |k: usize| f64::from(a[r * (depth + 3) + k]) * f64::from(b[k * wide + c]);
                        f64::from(out[at]) + (0..depth).map(product).sum::<f64>()
                    })
                    .collect();
                let a = Rows { data: &a, stride: depth + 3, count: rows };
                let b = Panels { data: &b, row_stride: wide, panel_stride: LANES, panels };
                kernel.accumulate(a, depth, b, &mut out, wide);
                for (got, expected) in out.iter().zip(expected) {
                    assert!((f64::from(*got) - expected).abs() < 1e-4, "{rows} {depth} {panels}");
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_among_others() {
        let (rows, depth, panels) = (21, 64, 6);
        let wide = panels * LANES;
        let (a, b) = (numbers(rows * depth, 4), numbers(depth * wide, 5));
        let b = Panels { data: &b, row_stride: wide, panel_stride: LANES, panels };
        for kernel in kernels() {
            let mut together = vec![0.0; rows * wide];
            kernel.accumulate(Rows { data: &a, stride: depth, count: rows }, depth, b, &mut together, wide);
            for (row, together) in together.chunks_exact(wide).enumerate() {
                let mut alone = vec![0.0; wide];
                let one = Rows { data: &a[row * depth..], stride: depth, count: 1 };
                kernel.accumulate(one, depth, b, &mut alone, wide);
                assert_eq!(alone, together);
            }
        }
    }

    #[test]
    fn exponentials_and_their_sum() {
        for step in 0..8700 {
            let x = -(step as f32) / 100.0;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) - expected).abs() <= 3e-7 * expected, "{x}: {} {expected}", exp(x));
        }
        assert_eq!((exp(0.0), exp(-1000.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        for kernel in kernels() {
            for length in [1, 15, 16, 40, 256] {
                let mut scores = numbers(length, 6);
                scores[length - 1] = 3.0;
                let masked = length > 20;
                if masked {
                    scores[5] = f32::NEG_INFINITY;
                }
                let expected: f64 = scores.iter().map(|&s| f64::from(s - 3.0).exp()).sum();
                let (greatest, sum) = kernel.softmax(&mut scores);
                assert_eq!(greatest, 3.0);
                assert!((f64::from(sum) - expected).abs() < 1e-4 * expected);
                assert!(!masked || scores[5] == 0.0);
            }
        }
    }

    #[test]
    fn scores_bend_towards_the_cap_and_each_by_itself() {
        for kernel in kernels() {
            let scores: Vec<f32> =
                numbers(40, 7).iter().map(|x| x * 200.0).chain([0.0, 1e-3, 1e30]).collect();
            let mut bent = scores.clone();
            kernel.bend(&mut bent, 50.0);
            for (&score, &bent) in scores.iter().zip(&bent) {
                let expected = 50.0 * (f64::from(score) / 50.0).tanh();
                assert!((f64::from(bent) - expected).abs() < 1e-5, "{score}: {bent} {expected}");
                let mut alone = [score];
                kernel.bend(&mut alone, 50.0);
                assert_eq!(alone, [bent]);
            }
        }
    }
}
