use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::options::Sampling;

/// Candidates that are sorted at first where only the most probable ones matter.
const FIRST_SORTED: usize = 256;

/// Chooses the tokens of one generation.
pub(super) struct Sampler {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    min_p: f32,
    penalty: f32,
    /// Whether a token has come, by id; empty without a penalty.
    seen: Vec<bool>,
    random: ChaCha8Rng,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    weight: f32,
}

impl Sampler {
    pub fn new(options: &Sampling, vocabulary: usize, prompt: &[u32]) -> Self {
        let seed = options.seed.unwrap_or_else(random_seed);
        let mut sampler = Self {
            temperature: options.temperature,
            top_p: options.top_p,
            top_k: options.top_k as usize,
            min_p: options.min_p,
            penalty: options.repetition_penalty,
            seen: if options.repetition_penalty == 1.0 { Vec::new() } else { vec![false; vocabulary] },
            random: ChaCha8Rng::seed_from_u64(seed),
            candidates: Vec::new(),
        };
        prompt.iter().for_each(|&id| sampler.remember(id));
        sampler
    }

    fn remember(&mut self, id: u32) {
        if let Some(seen) = self.seen.get_mut(id as usize) {
            *seen = true;
        }
    }

    /// The next token; none where no logit is a number.
    pub fn next(&mut self, logits: &[f32]) -> Option<u32> {
        let penalized: Vec<f32>;
        let logits = if self.seen.is_empty() {
            logits
        } else {
            let penalize = |(&x, &seen): (&f32, &bool)| match seen {
                true if x > 0.0 => x / self.penalty,
                true => x * self.penalty,
                false => x,
            };
            penalized = logits.iter().zip(&self.seen).map(penalize).collect();
            &penalized
        };
        let best = argmax(logits)?;
        let id = if self.temperature == 0.0 { best as u32 } else { self.draw(logits, logits[best]) };
        self.remember(id);
        Some(id)
    }

    fn draw(&mut self, logits: &[f32], best: f32) -> u32 {
        let weigh = |(id, &x): (usize, &f32)| {
            let weight = ((x - best) / self.temperature).exp();
            Candidate { id: id as u32, weight: if weight.is_nan() { 0.0 } else { weight } }
        };
        self.candidates.clear();
        self.candidates.extend(logits.iter().enumerate().map(weigh));
        if self.top_k > 0 && self.top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(self.top_k - 1, by_weight);
            self.candidates.truncate(self.top_k);
            self.candidates.sort_unstable_by(by_weight);
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut self.candidates, self.top_p);
        }
        // The best one's weight is one.
        self.candidates.retain(|candidate| candidate.weight >= self.min_p);
        // In an order that does not depend on which of two nearly equal weights is larger by rounding.
        self.candidates.sort_unstable_by_key(|candidate| candidate.id);
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.weight)).sum();
        // 53 bits, as many as the mantissa holds.
        let mut left = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * total;
        let drawn = self.candidates.iter().find(|candidate| {
            left -= f64::from(candidate.weight);
            left < 0.0
        });
        // Rounding may leave a rest behind the last one.
        drawn.or(self.candidates.last()).map_or(0, |candidate| candidate.id)
    }
}

/// Heaviest first; the lower id of two that weigh the same.
fn by_weight(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

/// Keeps the heaviest ones that together have a share of the whole (nucleus sampling, Holtzman et al. 2020).
fn keep_nucleus(candidates: &mut Vec<Candidate>, share: f32) {
    let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
    let wanted = f64::from(share) * total;
    let mut sorted = FIRST_SORTED.min(candidates.len());
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, by_weight);
        }
        candidates[..sorted].sort_unstable_by(by_weight);
        let mut sum = 0.0;
        let reached = candidates[..sorted].iter().position(|candidate| {
            sum += f64::from(candidate.weight);
            sum >= wanted
        });
        match reached {
            Some(last) => return candidates.truncate(last + 1),
            None if sorted == candidates.len() => return,
            None => sorted = (sorted * 4).min(candidates.len()),
        }
    }
}

/// Index of the largest number, the first of several.
fn argmax(values: &[f32]) -> Option<usize> {
    // Lanes that do not depend on each other become vector instructions.
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let best = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |best, &x| if x > best { x } else { best });
    if best == f32::NEG_INFINITY {
        return None;
    }
    values.iter().position(|&x| x == best)
}

/// Different at every call.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32) -> Sampling {
        Sampling { temperature, seed: Some(7), ..Sampling::default() }
    }

    fn counts(options: &Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options, logits.len(), &[]);
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.next(logits).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let mut logits = vec![0.5; 100];
        logits[70] = 2.0;
        logits[90] = 2.0;
        assert_eq!(counts(&sampling(0.0), &logits, 3)[70], 3);
        assert_eq!(argmax(&[f32::NAN, -1.0, f32::NAN]), Some(1));
        assert_eq!(argmax(&[f32::NAN; 40]), None);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // Probabilities 0.6, 0.3, 0.1.
        let logits = [0.6_f32.ln(), 0.3_f32.ln(), 0.1_f32.ln()];
        let drawn = counts(&sampling(1.0), &logits, 20_000);
        for (count, expected) in drawn.iter().zip([12_000.0, 6_000.0, 2_000.0]) {
            // Five standard deviations of the widest.
            assert!((*count as f64 - expected).abs() < 350.0, "{drawn:?}");
        }
        let cold = counts(&sampling(0.01), &logits, 100);
        assert_eq!(cold, [100, 0, 0]);
    }

    #[test]
    fn filters_keep_the_most_probable() {
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.15_f32.ln(), 0.05_f32.ln()];
        let kept =
            |options: Sampling| counts(&options, &logits, 4000).iter().map(|&c| c > 0).collect::<Vec<_>>();
        assert_eq!(kept(sampling(1.0)), [true; 4]);
        assert_eq!(kept(Sampling { top_k: 2, ..sampling(1.0) }), [true, true, false, false]);
        assert_eq!(kept(Sampling { top_p: 0.7, ..sampling(1.0) }), [true, true, false, false]);
        assert_eq!(kept(Sampling { top_p: 0.4, ..sampling(1.0) }), [true, false, false, false]);
        assert_eq!(kept(Sampling { min_p: 0.2, ..sampling(1.0) }), [true, true, true, false]);
    }

    #[test]
    fn the_nucleus_of_a_flat_distribution_is_wide() {
        let logits = vec![0.0; 2000];
        let drawn = counts(&Sampling { top_p: 0.5, ..sampling(1.0) }, &logits, 20_000);
        // Of equal weights the lower ids are kept.
        let kept = drawn.iter().filter(|&&c| c > 0).count();
        assert!(kept > 950 && drawn[1001..].iter().all(|&c| c == 0), "{kept}");
    }

    #[test]
    fn a_seed_repeats_and_a_penalty_discourages() {
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(&Sampling { seed: Some(seed), ..sampling(1.0) }, 50, &[]);
            (0..20).map(|_| sampler.next(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let options = Sampling { repetition_penalty: 2.0, ..sampling(0.0) };
        let mut sampler = Sampler::new(&options, 3, &[2]);
        // 3 / 2 < 2; then 2 / 2 and 1 are left; negative logits sink.
        assert_eq!(sampler.next(&[-1.0, 2.0, 3.0]), Some(1));
        assert_eq!(sampler.next(&[-1.0, 2.0, 3.0]), Some(2));
    }
}
