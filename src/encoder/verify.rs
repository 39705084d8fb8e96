use super::cross_encoder::Pairs;
use super::plan::reduce;
use super::tokens::TextTokenizer;
use crate::domain::{dot, scale_to_unit};
use crate::error::{Error, Result};
use crate::model::{EncoderSession, ModelDir, Precision, Rows};

const SHORT: [&str; 5] = [
    "lake",
    "A man is eating food.",
    "Where are backups kept, and for how long?",
    "The study measured how the boundary layer changes when the plate is heated; the results agree with theory \
     within two percent at low speed, but not above it.",
    "naïve café 日本語 🙂",
];
/// What cross-encoders are asked.
const QUESTION: &str = "Where are backups kept?";
/// Repeated up to the model's limit, or [`MOST_TOKENS`].
const LONG: &str = "An index over 1,024 rows takes 40 ms to build (see `build.rs`), while a scan of the same table takes \
     7 ms; which of them pays depends on how often the question is asked, and by whom. ";
/// Tokens of the long text: attention over all that some models take would make every start slow.
const MOST_TOKENS: usize = 512;

/// Least and mean cosine to the vectors of fp32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cosines {
    pub least: f32,
    pub mean: f32,
}

/// Compares a session with exact fp32 on a few texts.
pub(super) struct Check<'a> {
    pub tokenizer: &'a TextTokenizer,
    pub model: &'a ModelDir,
}

impl Check<'_> {
    /// Refuses a session whose vectors are off: short texts in a padded batch, the same alone, and a long one, pooled
    /// as the model was trained.
    ///
    /// # Errors
    /// `INEXACT_SESSION` with the least and the mean cosine and the limit.
    pub fn run(
        &self,
        reference: &mut EncoderSession,
        candidate: &mut EncoderSession,
        precision: Precision,
    ) -> Result<()> {
        let mut cosines = Vec::new();
        for rows in self.batches()? {
            let expected = self.vectors(reference, &rows)?;
            let got = self.vectors(candidate, &rows)?;
            let finite = |cosine: f32| if cosine.is_finite() { cosine } else { -1.0 };
            cosines.extend(expected.iter().zip(&got).map(|(a, b)| finite(dot(a, b))));
        }
        let least = cosines.iter().copied().fold(1.0, f32::min);
        let found = Cosines { least, mean: cosines.iter().sum::<f32>() / cosines.len() as f32 };
        judge(found, precision)?;
        tracing::info!(
            precision = precision.as_str(),
            least_cosine = found.least,
            mean_cosine = found.mean,
            "encoder checked against fp32"
        );
        Ok(())
    }

    fn batches(&self) -> Result<Vec<Vec<Vec<u32>>>> {
        let most = self.model.max_tokens.min(MOST_TOKENS).saturating_sub(self.tokenizer.frame.len());
        let frame = |text: &str| -> Result<Vec<u32>> {
            let mut ids = self.tokenizer.encode(text)?.ids;
            ids.truncate(most);
            let frame = &self.tokenizer.frame;
            Ok([frame.open.as_slice(), &ids, &frame.close].concat())
        };
        let short = SHORT.iter().map(|text| frame(text)).collect::<Result<Vec<_>>>()?;
        let per_round = self.tokenizer.encode(LONG)?.ids.len().max(1);
        let long = frame(&LONG.repeat(most.div_ceil(per_round)))?;
        let alone = short.get(1).cloned().into_iter().collect();
        Ok(vec![short, alone, vec![long]])
    }

    fn vectors(&self, session: &mut EncoderSession, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let at = |row: &Vec<u32>, i: usize| row.get(i).map_or(0, |&id| i64::from(id));
        let ids: Vec<i64> = rows.iter().flat_map(|row| (0..longest).map(|i| at(row, i))).collect();
        let mask: Vec<i64> =
            rows.iter().flat_map(|row| (0..longest).map(|i| i64::from(i < row.len()))).collect();
        let batch = Rows { ids: &ids, mask: &mask, types: &[], batch: rows.len(), sequence: longest };
        let hidden = session.run(&batch)?;
        let width = self.model.state_width();
        let pooled = |(row, states): (&Vec<u32>, &[f32])| {
            let states = states.get(..row.len() * width).unwrap_or_default();
            let mut vector = reduce(states, width, self.model.pooling);
            scale_to_unit(&mut vector);
            vector
        };
        Ok(rows.iter().zip(hidden.chunks_exact((longest * width).max(1))).map(pooled).collect())
    }
}

/// Least cosine that is taken. Weights in 8 bits cost more than wider types, and are only used where they are asked
/// for by name.
fn limit(precision: Precision) -> f32 {
    match precision {
        Precision::Int8 => 0.998,
        _ => 0.9995,
    }
}

fn judge(found: Cosines, precision: Precision) -> Result<()> {
    let limit = limit(precision);
    if found.least >= limit {
        return Ok(());
    }
    Err(Error::precondition(
        "INEXACT_SESSION",
        format!(
            "precision {}: expected vectors with a cosine of at least {limit} to those of fp32, got {} at least and \
             {} on average",
            precision.as_str(),
            found.least,
            found.mean
        ),
    ))
}

/// Greatest difference of a cross-encoder's logits to those of fp32 that is taken, as a share of the logits'
/// magnitude, or as it is for logits below one.
fn logit_limit(precision: Precision) -> f32 {
    match precision {
        Precision::Int8 => 0.1,
        _ => 0.05,
    }
}

/// Refuses a session of a cross-encoder whose logits are off: the short texts and the long one, each with the first
/// question.
///
/// # Errors
/// `INEXACT_SESSION` with the greatest difference and the limit.
pub(super) fn check_logits(
    pairs: &Pairs,
    reference: &mut EncoderSession,
    candidate: &mut EncoderSession,
    precision: Precision,
) -> Result<()> {
    let long = LONG.repeat(8);
    let mut worst = 0.0_f32;
    for text in SHORT.iter().copied().chain([long.as_str()]) {
        let (sequence, _) = pairs.sequence(QUESTION, text)?;
        let ids: Vec<i64> = sequence.ids.iter().map(|&id| i64::from(id)).collect();
        let types: Vec<i64> = (0..ids.len()).map(|at| i64::from(at >= sequence.first_type)).collect();
        let mask = vec![1; ids.len()];
        let rows = Rows { ids: &ids, mask: &mask, types: &types, batch: 1, sequence: ids.len() };
        for (expected, got) in reference.run(&rows)?.into_iter().zip(candidate.run(&rows)?) {
            let off = (expected - got).abs() / expected.abs().max(1.0);
            worst = worst.max(if off.is_finite() { off } else { f32::INFINITY });
        }
    }
    let limit = logit_limit(precision);
    if worst > limit {
        return Err(Error::precondition(
            "INEXACT_SESSION",
            format!(
                "precision {}: expected logits within {limit} of those of fp32, got a difference of {worst}",
                precision.as_str()
            ),
        ));
    }
    tracing::info!(precision = precision.as_str(), difference = worst, "cross-encoder checked against fp32");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_are_off_are_refused_with_their_figures() {
        let cosines = |least, mean| Cosines { least, mean };
        assert!(judge(cosines(0.9996, 0.9999), Precision::Bf16).is_ok());
        assert!(judge(cosines(0.9985, 0.9993), Precision::Int8).is_ok());
        let error = judge(cosines(0.984, 0.994), Precision::Int8).unwrap_err();
        assert_eq!(error.reason, "INEXACT_SESSION");
        for figure in ["int8", "0.998", "0.984", "0.994"] {
            assert!(error.message.contains(figure), "{}", error.message);
        }
        assert!(judge(cosines(-1.0, f32::NAN), Precision::Fp32).is_err());
    }
}
