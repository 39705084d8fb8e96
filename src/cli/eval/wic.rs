//! Words in context: does a word mean the same in two sentences?

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tonic_types::StatusExt;

use super::args::EvalArgs;
use super::embedder::{cosine, embed_all};
use super::metrics::{accuracy, best_threshold};
use crate::cli::client::Client;
use crate::cli::{EXIT_OK, output};
use crate::proto::{EmbedOptions, EmbedResult, EmbeddingLevel, Overflow, Representation};

struct Pair {
    same: bool,
    targets: [(usize, usize); 2],
}

struct Measured {
    threshold: f64,
    /// On the pairs that chose the threshold.
    fitted: f64,
    /// On the other ones.
    accuracy: f64,
}

/// Measures contextual against static word vectors. Every other pair, from the first on, chooses the threshold,
/// and the rest is reported: the halves of a file may differ in kind.
pub async fn run(client: &Client, json: bool, args: &EvalArgs, text: &str) -> Result<i32> {
    let (mut pairs, mut sentences) = parse(text)?;
    if let Some(limit) = args.limit_queries {
        pairs.truncate(limit);
        sentences.truncate(limit * 2);
    }
    ensure!(pairs.len() > 1, "expected at least two pairs");
    let started = Instant::now();
    let contextual = measure(client, args, &pairs, &sentences, Representation::Contextual).await?;
    let fixed = match measure(client, args, &pairs, &sentences, Representation::Static).await {
        Ok(fixed) => Some(fixed),
        Err(error) if is_unsupported(&error) => None,
        Err(error) => return Err(error),
    };
    let seconds = started.elapsed().as_secs_f64();
    let (chosen, reported) = alternate(pairs.iter().map(|pair| pair.same));
    let same = reported.iter().filter(|same| **same).count();
    let majority = same.max(reported.len() - same) as f64 / reported.len() as f64;
    if json {
        let side = |m: &Measured| {
            json!({"threshold": m.threshold.is_finite().then_some(m.threshold), "fitted_accuracy": m.fitted,
                "accuracy": m.accuracy})
        };
        output::print_json(
            &json!({"task": "wic", "threshold_pairs": chosen.len(), "reported_pairs": reported.len(),
            "contextual": side(&contextual), "static": fixed.as_ref().map(side), "majority": majority, "seconds": seconds}),
        )?;
        return Ok(EXIT_OK);
    }
    output::line(format!(
        "{} pairs choose the threshold, {} are reported, {seconds:.1} s",
        chosen.len(),
        reported.len()
    ))?;
    for (name, measured) in [("contextual", Some(&contextual)), ("static", fixed.as_ref())] {
        let Some(m) = measured else {
            output::line(format!("{name:<11} not measured: the model has no static vectors"))?;
            continue;
        };
        output::line(format!(
            "{name:<11} accuracy {:.4}  (threshold {:.4}, which gives {:.4} on the pairs that chose it)",
            m.accuracy, m.threshold, m.fitted
        ))?;
    }
    output::line(format!("majority    accuracy {majority:.4}"))?;
    Ok(EXIT_OK)
}

/// Whether the model has no vectors of the kind that was asked for.
fn is_unsupported(error: &anyhow::Error) -> bool {
    let info = error.downcast_ref::<tonic::Status>().and_then(StatusExt::get_details_error_info);
    info.is_some_and(|info| info.reason == "UNSUPPORTED_REPRESENTATION")
}

async fn measure(
    client: &Client,
    args: &EvalArgs,
    pairs: &[Pair],
    sentences: &[String],
    representation: Representation,
) -> Result<Measured> {
    let options = EmbedOptions {
        model: args.model.clone(),
        level: EmbeddingLevel::Word.into(),
        representation: representation.into(),
        overflow: Overflow::TruncateRight.into(),
        ..Default::default()
    };
    let results = embed_all(client, sentences, &options, representation.as_str_name()).await?;
    let mut items = Vec::with_capacity(pairs.len());
    for (index, (pair, sides)) in pairs.iter().zip(results.chunks_exact(2)).enumerate() {
        let a = word_vector(&sides[0], pair.targets[0])
            .with_context(|| format!("pair {}, first word", index + 1))?;
        let b = word_vector(&sides[1], pair.targets[1])
            .with_context(|| format!("pair {}, second word", index + 1))?;
        items.push((cosine(&a, &b), pair.same));
    }
    let (chosen, reported) = alternate(items.into_iter());
    let threshold = best_threshold(&chosen);
    Ok(Measured { threshold, fitted: accuracy(&chosen, threshold), accuracy: accuracy(&reported, threshold) })
}

/// Every other item, from the first on, and the rest.
fn alternate<T>(items: impl Iterator<Item = T>) -> (Vec<T>, Vec<T>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (index, item) in items.enumerate() {
        if index % 2 == 0 { first.push(item) } else { second.push(item) }
    }
    (first, second)
}

/// Mean of the vectors of the words that lie in a byte range; a hyphenated target is several words.
fn word_vector(result: &EmbedResult, (start, end): (usize, usize)) -> Result<Vec<f32>> {
    let mut sum: Vec<f32> = Vec::new();
    for embedding in &result.embeddings {
        let span = embedding.span.unwrap_or_default();
        if span.end as usize <= start || span.start as usize >= end {
            continue;
        }
        let values = embedding.vector.as_ref().map(|v| v.values.as_slice()).unwrap_or_default();
        if sum.is_empty() {
            sum = vec![0.0; values.len()];
        }
        for (total, value) in sum.iter_mut().zip(values) {
            *total += value;
        }
    }
    if sum.is_empty() {
        bail!("no word vector covers bytes {start}..{end}");
    }
    Ok(sum)
}

fn parse(text: &str) -> Result<(Vec<Pair>, Vec<String>)> {
    let mut pairs = Vec::new();
    let mut sentences = Vec::new();
    for (number, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
        let place = || format!("line {}", number + 1);
        let columns: Vec<&str> = line.split('\t').collect();
        let [label, _, _, index1, index2, one, two] = columns.as_slice() else {
            bail!("{}: expected 7 columns", place());
        };
        let targets = [target(one, index1).with_context(place)?, target(two, index2).with_context(place)?];
        pairs.push(Pair { same: matches!(*label, "T" | "1" | "true"), targets });
        sentences.push((*one).to_owned());
        sentences.push((*two).to_owned());
    }
    Ok((pairs, sentences))
}

/// Byte range of the word at an index among the words between spaces.
fn target(sentence: &str, index: &str) -> Result<(usize, usize)> {
    let index: usize = index.parse().with_context(|| format!("word index {index:?}"))?;
    let mut position = 0;
    for (number, word) in sentence.split(' ').enumerate() {
        if number == index {
            return Ok((position, position + word.len()));
        }
        position += word.len() + 1;
    }
    bail!("the sentence has no word {index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_target() -> Result<()> {
        assert_eq!(target("Sound carries well", "1")?, (6, 13));
        assert!(target("a b", "2").is_err());
        let (pairs, sentences) = parse("h\nF\tgo\tV\t0\t1\tgo now\tI go\n")?;
        assert_eq!((pairs[0].same, pairs[0].targets, sentences.len()), (false, [(0, 2), (2, 4)], 2));
        Ok(())
    }
}
