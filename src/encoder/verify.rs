use super::plan::{reduce, scale_to_unit};
use super::tokens::TextTokenizer;
use crate::error::{Error, Result};
use crate::model::{EncoderSession, Pooling};

/// Least cosine to fp32 that is taken.
const MIN_COSINE: f32 = 0.9995;
const TEXTS: [&str; 4] = [
    "A man is eating food.",
    "Where are backups kept, and for how long?",
    "The study measured how the boundary layer changes when the plate is heated; the results agree with theory \
     within two percent at low speed, but not above it.",
    "naïve café 日本語 🙂",
];

/// Refuses a session whose vectors are off those of fp32; gives the least cosine.
pub(super) fn verify(
    tokenizer: &TextTokenizer,
    width: usize,
    reference: &mut EncoderSession,
    candidate: &mut EncoderSession,
) -> Result<f32> {
    let (ids, mask, longest) = batch(tokenizer)?;
    let expected = reference.run(&ids, &mask, TEXTS.len(), longest)?;
    let got = candidate.run(&ids, &mask, TEXTS.len(), longest)?;
    let mut least = 1.0_f32;
    for row in 0..TEXTS.len() {
        let length = mask[row * longest..(row + 1) * longest].iter().filter(|&&m| m == 1).count();
        let pooled = |hidden: &[f32]| {
            let from = row * longest * width;
            let mut vector = reduce(&hidden[from..from + length * width], width, Pooling::Mean);
            scale_to_unit(&mut vector);
            vector
        };
        let cosine: f32 = pooled(&expected).iter().zip(pooled(&got)).map(|(a, b)| a * b).sum();
        least = if cosine.is_finite() { least.min(cosine) } else { -1.0 };
    }
    if least < MIN_COSINE {
        return Err(Error::precondition(
            "INEXACT_SESSION",
            format!("expected vectors with a cosine of at least {MIN_COSINE} to fp32, got {least}"),
        ));
    }
    Ok(least)
}

fn batch(tokenizer: &TextTokenizer) -> Result<(Vec<i64>, Vec<i64>, usize)> {
    let rows = TEXTS.iter().map(|text| tokenizer.tokenize(text, true)).collect::<Result<Vec<_>>>()?;
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let at = |row: &[super::Token], i: usize| row.get(i).map_or(0, |token| i64::from(token.id));
    let ids = rows.iter().flat_map(|row| (0..longest).map(|i| at(row, i))).collect();
    let mask = rows.iter().flat_map(|row| (0..longest).map(|i| i64::from(i < row.len()))).collect();
    Ok((ids, mask, longest))
}
