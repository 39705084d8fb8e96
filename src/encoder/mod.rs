//! Texts to vectors: tokens, spans, batches.

#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod load;
mod meter;
mod options;
mod plan;
mod queue;
mod registry;
mod tokens;
mod trace;
mod verify;
mod wordpiece;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

pub use load::check_model;
pub use options::{
    EmbedOptions, EmbedOutput, EmbedResult, EncoderInfo, EncoderOptions, Level, Overflow, PassageInput,
    PassageVectors, Representation,
};
pub use registry::Encoders;
pub use tokens::Token;

pub use crate::model::{CudaOptions, Device, Pooling, Precision};

use crate::domain::Span;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ModelDir, StaticTable};
use crate::task;
use plan::{Plan, Sequence, finish, reduce_static, scale_to_unit};
use queue::{Class, Done, Queue, Unit};
use tokens::TextTokenizer;
use trace::Trace;

/// Texts of so many bytes are tokenized faster than another thread wakes up.
const INLINE_BYTES: usize = 4 << 10;

/// An encoder with its sessions, each on a thread of its own.
pub struct Encoder {
    info: EncoderInfo,
    model: ModelDir,
    tokenizer: TextTokenizer,
    /// Input embeddings, if the model has them in plain sight.
    table: Option<StaticTable>,
    queue: Arc<Queue>,
    /// Room for passages in the queue: they wait outside, so that interactive work always finds some.
    bulk: Semaphore,
    bulk_room: u32,
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

    /// Waiting inputs from which on calls are refused.
    pub fn queue_capacity(&self) -> usize {
        self.queue.capacity()
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

    /// Embeds texts, ahead of bulk work unless they fill a batch by themselves; results are in the order of the
    /// inputs.
    pub async fn embed(self: &Arc<Self>, inputs: Vec<String>, options: &EmbedOptions) -> Result<EmbedOutput> {
        let bytes = inputs.iter().map(String::len).sum();
        let own = options.clone();
        let plans = self
            .plan(bytes, move |context| inputs.iter().map(|text| context.embed(text, &own)).collect())
            .await?;
        let tokens: usize = plans.iter().map(|plan| plan.tokens as usize).sum();
        let class = if tokens > self.queue.max_batch_tokens() { Class::Bulk } else { Class::Interactive };
        let (partials, queue, inference) = match options.representation {
            Representation::Contextual => self.run(class, &plans).await?,
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
    pub async fn encode_passages(
        self: &Arc<Self>,
        passages: Vec<PassageInput>,
    ) -> Result<Vec<PassageVectors>> {
        let bytes = passages.iter().map(|passage| passage.text.len()).sum();
        let plans =
            self.plan(bytes, move |context| passages.iter().map(|p| context.passage(p)).collect()).await?;
        let wanted = u32::try_from(plans.len()).unwrap_or(u32::MAX).min(self.bulk_room);
        let stopped = |_| Error::new(ErrorKind::Unavailable, "STOPPING", "the encoder is stopping");
        let _room = self.bulk.acquire_many(wanted).await.map_err(stopped)?;
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

    /// Makes plans for so many bytes of text, on a blocking thread unless that takes longer than the work.
    async fn plan(
        self: &Arc<Self>,
        bytes: usize,
        make: impl FnOnce(plan::Context) -> Result<Vec<Plan>> + Send + 'static,
    ) -> Result<Vec<Plan>> {
        let encoder = Arc::clone(self);
        let work = move || make(plan::Context { tokenizer: &encoder.tokenizer, model: &encoder.model });
        if bytes <= INLINE_BYTES {
            return work();
        }
        task::blocking("TOKENIZER_FAILED", work).await
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

    /// Queues every sequence of the plans, equal ones once, and waits for all; the longest wait and run are
    /// reported.
    async fn run(
        &self,
        class: Class,
        plans: &[Plan],
    ) -> Result<(Vec<Vec<Vec<Vec<f32>>>>, Duration, Duration)> {
        let trace = Arc::new(Trace::new());
        let mut units = Vec::new();
        let mut receivers = Vec::new();
        let mut firsts: HashMap<&[u32], (&Sequence, usize)> = HashMap::new();
        let mut places = Vec::with_capacity(plans.len());
        for sequence in plans.iter().flat_map(|plan| &plan.sequences) {
            let known = firsts.get(sequence.ids.as_slice()).filter(|(first, _)| *first == sequence);
            if let Some(&(_, place)) = known {
                self.queue.meter.deduplicated.increment(1);
                places.push(place);
                continue;
            }
            let (sender, receiver) = oneshot::channel();
            units.push(Unit::new(sequence.clone(), sender, Arc::clone(&trace)));
            firsts.insert(&sequence.ids, (sequence, receivers.len()));
            places.push(receivers.len());
            receivers.push(receiver);
        }
        self.queue.push(class, units)?;
        let (mut waited, mut ran) = (Duration::ZERO, Duration::ZERO);
        let mut results = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            let stopped = |_| Error::new(ErrorKind::Unavailable, "STOPPING", "the encoder is stopping");
            let Done { vectors, queue, inference } = receiver.await.map_err(stopped)??;
            (waited, ran) = (waited.max(queue), ran.max(inference));
            results.push(vectors);
        }
        let mut places = places.into_iter();
        let parts_of = |plan: &Plan| {
            let of_plan = places.by_ref().take(plan.sequences.len());
            of_plan.filter_map(|place| results.get(place).cloned()).collect()
        };
        Ok((plans.iter().map(parts_of).collect(), waited, ran))
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
