//! Changes inputs at random.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::coverage;

/// Numbers at which code tends to go wrong.
const EDGES: [u64; 16] = [
    0,
    1,
    7,
    31,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];
/// Texts of numbers at which code tends to go wrong.
const NUMBERS: [&str; 10] =
    ["0", "-1", "255", "65536", "2147483648", "4294967296", "18446744073709551616", "1e999", "0.1", "NaN"];

/// A source of changes, the same for the same seed.
pub struct Mutator {
    random: ChaCha8Rng,
    most_bytes: usize,
    words: &'static [&'static str],
}

impl Mutator {
    pub fn new(seed: u64, most_bytes: usize, words: &'static [&'static str]) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), most_bytes, words }
    }

    /// A number below another, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.next_u64() as usize % end.max(1)
    }

    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(bytes);
        let longest = if self.below(4) == 0 { bytes.len() } else { 16 };
        start..(start + 1 + self.below(longest)).min(bytes.len())
    }

    /// Some changes to an input, with parts of another one.
    pub fn change(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..1 << self.below(4) {
            self.change_once(&mut bytes, other);
        }
        bytes.truncate(self.most_bytes);
        bytes
    }

    fn change_once(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        match self.below(14) {
            0 => self.at(bytes, |random, byte| *byte ^= 1 << (random % 8)),
            1 => self.at(bytes, |random, byte| *byte = random as u8),
            2 => self.at(bytes, |random, byte| *byte = byte.wrapping_add((random % 9) as u8).wrapping_sub(4)),
            3 | 4 => {
                let value = EDGES[self.below(EDGES.len())];
                let value = if self.below(3) == 0 { value.wrapping_add(self.below(5) as u64) } else { value };
                self.put_number(bytes, value);
            }
            5 => {
                let range = self.range(bytes);
                bytes.drain(range);
            }
            6 => {
                let range = self.range(bytes);
                let piece = bytes.get(range).unwrap_or_default().to_vec();
                let times = 1 << self.below(6);
                self.insert(bytes, &piece.repeat(times));
            }
            7 => {
                let mut piece = vec![0; 1 + self.below(8)];
                self.random.fill_bytes(&mut piece);
                self.insert(bytes, &piece);
            }
            8 => {
                let range = self.range(other);
                let piece = other.get(range).unwrap_or_default().to_vec();
                self.insert(bytes, &piece);
            }
            9 => {
                let at = self.place(other);
                bytes.truncate(self.below(bytes.len() + 1));
                bytes.extend(other.get(at..).unwrap_or_default());
            }
            10 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                self.insert(bytes, word.as_bytes());
            }
            11 => self.change_digits(bytes),
            _ => self.solve(bytes),
        }
    }

    fn at(&mut self, bytes: &mut [u8], change: impl Fn(u64, &mut u8)) {
        let at = self.below(bytes.len());
        let random = self.random.next_u64();
        if let Some(byte) = bytes.get_mut(at) {
            change(random, byte);
        }
    }

    fn insert(&mut self, bytes: &mut Vec<u8>, piece: &[u8]) {
        let at = self.place(bytes);
        // In place of what is there, or between.
        let end = if self.below(2) == 0 { at } else { (at + piece.len()).min(bytes.len()) };
        bytes.splice(at..end, piece.iter().copied());
    }

    fn put_number(&mut self, bytes: &mut [u8], value: u64) {
        let width = 1 << self.below(4);
        let mut number = value.to_le_bytes();
        if self.below(4) == 0 {
            number[..width].reverse();
        }
        let at = self.below(bytes.len());
        bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
    }

    /// Puts another number in place of one that is written in digits.
    fn change_digits(&mut self, bytes: &mut Vec<u8>) {
        let from = self.place(bytes);
        let Some(start) = bytes.iter().skip(from).position(u8::is_ascii_digit).map(|at| from + at) else {
            return;
        };
        let digits = bytes.iter().skip(start).take_while(|byte| byte.is_ascii_digit()).count();
        let number = NUMBERS[self.below(NUMBERS.len())];
        bytes.splice(start..start + digits, number.bytes());
    }

    /// Makes a comparison that failed succeed: puts one side where the other is found.
    fn solve(&mut self, bytes: &mut [u8]) {
        let (left, right) = coverage::comparison(self.below(usize::MAX));
        let (old, new) = if self.below(2) == 0 { (left, right) } else { (right, left) };
        for width in [8, 4, 2, 1] {
            if width < 8 && (old | new) >> (8 * width) != 0 {
                break;
            }
            let (mut find, mut put) = (old.to_le_bytes(), new.to_le_bytes());
            if self.below(4) == 0 {
                find[..width].reverse();
                put[..width].reverse();
            }
            let places: Vec<usize> = bytes
                .windows(width)
                .enumerate()
                .filter(|(_, w)| *w == &find[..width])
                .map(|(at, _)| at)
                .collect();
            if !places.is_empty() {
                let at = places[self.below(places.len())];
                bytes[at..at + width].copy_from_slice(&put[..width]);
                return;
            }
        }
    }
}
