//! What the code that is fuzzed tells, where it was built by `make fuzz`: how often each of its edges was taken, and
//! what it compared. The functions are those that LLVM's SanitizerCoverage calls
//! (<https://clang.llvm.org/docs/SanitizerCoverage.html>).
#![allow(
    unsafe_code,
    reason = "functions of the C ABI that compiled code calls, and counters that it writes"
)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Comparisons that are remembered, a power of two.
const COMPARISONS: usize = 1 << 10;

/// Counters that are looked at together.
const TOGETHER: usize = 8;

static COUNTERS: OnceLock<&'static [AtomicU8]> = OnceLock::new();
static NEXT: AtomicUsize = AtomicUsize::new(0);
static LEFT: [AtomicU64; COMPARISONS] = [const { AtomicU64::new(0) }; COMPARISONS];
static RIGHT: [AtomicU64; COMPARISONS] = [const { AtomicU64::new(0) }; COMPARISONS];

/// The edges' counters.
///
/// # Safety
/// Called by compiled code with the bounds of a section that lives as long as the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *const AtomicU8, end: *const AtomicU8) {
    let length = (end as usize).saturating_sub(start as usize);
    if length > 0 {
        let _ = COUNTERS.set(unsafe { std::slice::from_raw_parts(start, length) });
    }
}

fn compared(left: u64, right: u64) {
    if left != right {
        let at = NEXT.fetch_add(1, Relaxed) % COMPARISONS;
        LEFT[at].store(left, Relaxed);
        RIGHT[at].store(right, Relaxed);
    }
}

macro_rules! comparisons {
    ($($name:ident $kind:ty),*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name(left: $kind, right: $kind) {
            compared(left.into(), right.into());
        }
    )* };
}

comparisons! {
    __sanitizer_cov_trace_cmp1 u8, __sanitizer_cov_trace_cmp2 u16,
    __sanitizer_cov_trace_cmp4 u32, __sanitizer_cov_trace_cmp8 u64,
    __sanitizer_cov_trace_const_cmp1 u8, __sanitizer_cov_trace_const_cmp2 u16,
    __sanitizer_cov_trace_const_cmp4 u32, __sanitizer_cov_trace_const_cmp8 u64
}

/// # Safety
/// Called by compiled code with the number of cases, their width, and the cases.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_trace_switch(value: u64, cases: *const u64) {
    let count = unsafe { *cases } as usize;
    for case in unsafe { std::slice::from_raw_parts(cases.add(2), count.min(16)) } {
        compared(value, *case);
    }
}

/// Two numbers that were compared and differed.
pub fn comparison(random: usize) -> (u64, u64) {
    let at = random % COMPARISONS;
    (LEFT[at].load(Relaxed), RIGHT[at].load(Relaxed))
}

/// What has been seen of the edges.
pub struct Seen {
    counters: &'static [AtomicU8],
    /// A bit for each magnitude of each counter.
    seen: Vec<u8>,
    /// Edges that were taken.
    pub edges: usize,
}

impl Seen {
    pub fn new() -> Self {
        let counters = COUNTERS.get().copied().unwrap_or_default();
        Self { counters, seen: vec![0; counters.len()], edges: 0 }
    }

    /// Whether there is anything to see.
    pub fn is_there(&self) -> bool {
        !self.counters.is_empty()
    }

    /// Sets all counters to zero.
    pub fn forget(&self) {
        self.counters.iter().for_each(|counter| counter.store(0, Relaxed));
    }

    /// Takes over what the counters say, and sets them to zero; whether any of it is new.
    pub fn is_new(&mut self) -> bool {
        let mut is_new = false;
        for (counters, seen) in self.counters.chunks(TOGETHER).zip(self.seen.chunks_mut(TOGETHER)) {
            // Nearly all are zero. Nothing else writes them now, and they are bytes, which a word may be read from.
            let is_zero = match <&[AtomicU8; TOGETHER]>::try_from(counters) {
                Ok(eight) => unsafe { eight.as_ptr().cast::<u64>().read_unaligned() == 0 },
                Err(_) => false,
            };
            if !is_zero {
                is_new |= take(counters, seen, &mut self.edges);
            }
        }
        is_new
    }
}

/// Takes over some counters.
fn take(counters: &[AtomicU8], seen: &mut [u8], edges: &mut usize) -> bool {
    let mut is_new = false;
    for (counter, seen) in counters.iter().zip(seen) {
        let count = counter.swap(0, Relaxed);
        if count == 0 {
            continue;
        }
        let magnitude = match count {
            1..=3 => 1 << (count - 1),
            4..=7 => 8,
            8..=15 => 16,
            16..=31 => 32,
            32..=127 => 64,
            _ => 128_u8,
        };
        if *seen & magnitude == 0 {
            *edges += usize::from(*seen == 0);
            *seen |= magnitude;
            is_new = true;
        }
    }
    is_new
}
