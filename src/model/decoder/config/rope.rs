use std::f64::consts::TAU;

/// A rotary embedding (Su et al. 2021, arXiv:2104.09864).
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub base: f64,
    /// What each pair's frequency is divided by; of a head as many pairs are rotated as there are factors.
    pub factors: Vec<f64>,
    /// What sines and cosines are multiplied by.
    pub magnitude: f64,
}

/// Llama 3's scaling: long waves are stretched by a factor, short ones are not, those between by something between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Llama3Scaling {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_context: f64,
}

impl Rope {
    /// With the same factor for all pairs.
    pub fn scaled(base: f64, pairs: usize, factor: f64) -> Self {
        Self { base, factors: vec![factor; pairs], magnitude: 1.0 }
    }

    /// As in `transformers`' `modeling_rope_utils.py`.
    pub(super) fn llama3(base: f64, pairs: usize, scaling: Llama3Scaling) -> Self {
        let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
        let factor = |pair: usize| {
            let wavelength = TAU * base.powf(pair as f64 / pairs as f64);
            let turns = scaling.original_context / wavelength;
            if turns < low {
                scaling.factor
            } else if turns > high {
                1.0
            } else {
                let smooth = (turns - low) / (high - low);
                1.0 / ((1.0 - smooth) / scaling.factor + smooth)
            }
        };
        Self { base, factors: (0..pairs).map(factor).collect(), magnitude: 1.0 }
    }

    /// Pairs of a head that are rotated.
    pub fn pairs(&self) -> usize {
        self.factors.len()
    }

    /// Cosines and sines of a number of positions, each flat `[positions, pairs]`.
    pub fn tables(&self, positions: usize) -> (Vec<f32>, Vec<f32>) {
        let pairs = self.pairs() as f64;
        let frequency = |(pair, factor): (usize, &f64)| self.base.powf(-(pair as f64) / pairs) / factor;
        let frequencies: Vec<f64> = self.factors.iter().enumerate().map(frequency).collect();
        let angles = (0..positions).flat_map(|at| frequencies.iter().map(move |f| at as f64 * f));
        let scaled = |x: f64| (x * self.magnitude) as f32;
        angles.map(|angle| (scaled(angle.cos()), scaled(angle.sin()))).unzip()
    }
}
