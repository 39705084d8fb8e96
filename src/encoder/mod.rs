//! Texts to vectors: tokens, spans, batches.

mod load;
mod options;
mod plan;
mod queue;
mod registry;
mod tokens;
mod verify;

use std::time::Duration;

use tokio::sync::oneshot;

pub use load::check_model;
pub use options::{
    EmbedOptions, EmbedOutput, EmbedResult, EncoderInfo, EncoderOptions, Level, Overflow, PassageInput,
    PassageVectors, Representation,
};
pub use registry::Encoders;
pub use tokens::Token;

pub use crate::model::{CudaOptions, Device, Pooling, Precision};

use crate::domain::Span;
use crate::error::{Error, Result};
use crate::model::{ModelDir, StaticTable};
use plan::{Plan, finish, reduce_static, scale_to_unit};
use queue::{Class, Done, Queue, Unit};
use tokens::TextTokenizer;

/// An encoder with its sessions, each on a thread of its own.
pub struct Encoder {
    info: EncoderInfo,
    model: ModelDir,
    tokenizer: TextTokenizer,
    /// Input embeddings, if the model has them in plain sight.
    table: Option<StaticTable>,
    queue: std::sync::Arc<Queue>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

impl Encoder {
    /// What it is and how it runs.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Inputs that wait for a session.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Splits a text into tokens, without truncation or padding.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<Token>> {
        self.tokenizer.tokenize(text, add_special)
    }

    /// Puts token ids back together.
    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.tokenizer.detokenize(ids, skip_special)
    }

    /// Spans of a text's tokens, without special ones.
    pub fn token_spans(&self, text: &str) -> Result<Vec<Span>> {
        Ok(self.tokenizer.encode(text)?.spans)
    }

    /// How often each token occurs, by token id in rising order, without special tokens.
    pub fn bag_of_words(&self, text: &str) -> Result<Vec<(u32, f32)>> {
        let mut counts = std::collections::BTreeMap::new();
        for id in self.tokenizer.encode(text)?.ids {
            *counts.entry(id).or_insert(0.0) += 1.0;
        }
        Ok(counts.into_iter().collect())
    }

    /// Embeds texts ahead of all bulk work; results are in the order of the inputs.
    pub async fn embed(&self, inputs: Vec<String>, options: &EmbedOptions) -> Result<EmbedOutput> {
        let context = self.plan_context();
        let plans = inputs.iter().map(|text| context.embed(text, options)).collect::<Result<Vec<_>>>()?;
        let (partials, queue, inference) = match options.representation {
            Representation::Contextual => self.run(Class::Interactive, &plans).await?,
            Representation::Static => (self.look_up(&plans)?, Duration::ZERO, Duration::ZERO),
        };
        let mut results = Vec::with_capacity(plans.len());
        for (plan, parts) in plans.into_iter().zip(partials) {
            let vectors = finish(&plan, &parts, self.info.dimensions as usize);
            let trim = |mut vector: Vec<f32>| {
                vector.truncate(options.dimensions.map_or(vector.len(), |d| d as usize));
                if options.normalize {
                    scale_to_unit(&mut vector);
                }
                vector
            };
            let embeddings = plan.spans.iter().copied().zip(vectors.into_iter().map(trim)).collect();
            results.push(EmbedResult { embeddings, truncated: plan.truncated, tokens: plan.tokens });
        }
        Ok(EmbedOutput { results, queue, inference })
    }

    /// Encodes passages with their sentences in one run each, after all interactive work. Vectors are pooled as the
    /// model was trained; a sentence without tokens of its own gets its passage's vector.
    pub async fn encode_passages(&self, passages: Vec<PassageInput>) -> Result<Vec<PassageVectors>> {
        let context = self.plan_context();
        let plans = passages.iter().map(|p| context.passage(p)).collect::<Result<Vec<_>>>()?;
        let (partials, ..) = self.run(Class::Bulk, &plans).await?;
        let vectors_of = |(plan, parts): (Plan, Vec<Vec<Vec<f32>>>)| {
            let mut vectors = finish(&plan, &parts, self.info.dimensions as usize);
            let sum = vectors.pop().unwrap_or_default();
            if self.info.normalize {
                vectors.iter_mut().for_each(|v| scale_to_unit(v));
            }
            let mut vectors = vectors.into_iter();
            let passage = vectors.next().unwrap_or_default();
            let own = |(found, vector)| if found { vector } else { passage.clone() };
            let found = plan.found.iter().skip(1).copied();
            let sentences = found.zip(vectors).map(own).collect();
            PassageVectors { passage, sentences, sum, tokens: plan.tokens }
        };
        Ok(plans.into_iter().zip(partials).map(vectors_of).collect())
    }

    /// Name of the prompt for the query of a search, for [`EmbedOptions::prompt_name`].
    pub fn query_prompt(&self) -> Option<String> {
        self.model.query_prompt().map(str::to_owned)
    }

    /// The prompt that goes before passages, and before texts that are compared with them; unset means the model's
    /// default prompt.
    pub fn passage_prompt(&self) -> Option<String> {
        self.model.passage_prompt().map(str::to_owned)
    }

    /// The parts of plans from the input embeddings.
    fn look_up(&self, plans: &[Plan]) -> Result<Vec<Vec<Vec<Vec<f32>>>>> {
        let table = self.table.as_ref().ok_or_else(|| {
            Error::precondition(
                "UNSUPPORTED_REPRESENTATION",
                format!(
                    "representation: expected contextual for {}, whose graph has no table of input embeddings in \
                     plain sight, got static",
                    self.info.id
                ),
            )
        })?;
        plans.iter().map(|plan| reduce_static(plan, table)).collect()
    }

    fn plan_context(&self) -> plan::Context<'_> {
        plan::Context { tokenizer: &self.tokenizer, model: &self.model }
    }

    /// Queues every sequence of the plans and waits for all; the longest wait and run are reported.
    async fn run(
        &self,
        class: Class,
        plans: &[Plan],
    ) -> Result<(Vec<Vec<Vec<Vec<f32>>>>, Duration, Duration)> {
        let mut units = Vec::new();
        let mut receivers = Vec::with_capacity(plans.len());
        for plan in plans {
            let mut of_plan = Vec::with_capacity(plan.sequences.len());
            for sequence in &plan.sequences {
                let (sender, receiver) = oneshot::channel();
                units.push(Unit::new(sequence.clone(), sender));
                of_plan.push(receiver);
            }
            receivers.push(of_plan);
        }
        self.queue.push(class, units)?;
        let (mut all, mut waited, mut ran) =
            (Vec::with_capacity(plans.len()), Duration::ZERO, Duration::ZERO);
        for of_plan in receivers {
            let mut parts = Vec::with_capacity(of_plan.len());
            for receiver in of_plan {
                let stopped = |_| {
                    Error::new(crate::error::ErrorKind::Unavailable, "STOPPING", "the encoder is stopping")
                };
                let Done { vectors, queue, inference } = receiver.await.map_err(stopped)??;
                (waited, ran) = (waited.max(queue), ran.max(inference));
                parts.push(vectors);
            }
            all.push(parts);
        }
        Ok((all, waited, ran))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to clean up.
            let _ = worker.join();
        }
    }
}
