//! Texts to vectors: tokens, spans, batches.

mod cross_encoder;
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
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

pub use cross_encoder::{CrossEncoder, CrossEncoderInfo, Reranked};
pub use load::{check_model, sessions};
pub use options::{
    EmbedOptions, EmbedOutput, EmbedResult, EncoderInfo, EncoderOptions, Level, Overflow, PassageInput,
    PassageVectors, Representation,
};
pub use registry::{CrossEncoders, Encoders};
pub use tokens::Token;

pub use crate::model::{Activation, CudaOptions, Device, Pooling, Precision};

use crate::domain::{Span, scale_to_unit};
use crate::error::{Error, Result};
use crate::model::{ModelDir, StaticTable};
use crate::task;
use plan::{Plan, Sequence, finish, reduce_static};
use queue::{Class, stopping};
use tokens::TextTokenizer;
use workers::{Ran, Workers};

/// Texts of so many bytes are tokenized faster than another thread wakes up.
const INLINE_BYTES: usize = 4 << 10;

/// One in so many of the places for bulk work is what a call takes at a time.
const BULK_SHARE: usize = 4;

/// An encoder with its sessions, each on a thread of its own.
pub struct Encoder {
    info: EncoderInfo,
    model: ModelDir,
    tokenizer: TextTokenizer,
    /// Input embeddings, if the model has them in plain sight.
    table: Option<StaticTable>,
    workers: Workers,
    /// Room for bulk work in the queue. What finds none waits outside, in the order of the calls.
    bulk: Semaphore,
    /// Most of it that one call takes at a time, so that others come in between.
    bulk_share: usize,
    /// Sequences of the calls of [`Encoder::embed`] that are bulk work.
    large: AtomicUsize,
}

/// Sequences of a large call that count until they are done.
struct Held<'a>(&'a AtomicUsize, usize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Encoder {
    /// What it is and how it runs.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Inputs that wait in the queue for a session.
    pub fn waiting(&self) -> usize {
        self.workers.queue.waiting()
    }

    /// Waiting inputs of one class from which on calls of it are refused.
    pub fn queue_capacity(&self) -> usize {
        self.workers.queue.capacity()
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
    /// inputs. Large calls take turns with the passages of documents, piece by piece.
    ///
    /// # Errors
    /// `QUEUE_FULL`, for a large call where as many sequences of others as the capacity are not done yet; `STOPPING`;
    /// `EMPTY_INPUT`, `INPUT_TOO_LONG`, `INVALID_DIMENSIONS`, `UNKNOWN_PROMPT`, `UNSUPPORTED_REPRESENTATION`.
    pub async fn embed(self: &Arc<Self>, inputs: Vec<String>, options: &EmbedOptions) -> Result<EmbedOutput> {
        let plans = self.plan_texts(inputs, options).await?;
        let tokens: usize = plans.iter().map(|plan| plan.tokens as usize).sum();
        let fills_batch = tokens > self.workers.queue.max_batch_tokens();
        if !fills_batch || options.representation == Representation::Static {
            return self.embed_plans(Class::Interactive, plans, options).await;
        }
        let _held = self.hold(plans.iter().map(|plan| plan.sequences.len()).sum())?;
        self.embed_plans(Class::Bulk, plans, options).await
    }

    /// The same ahead of bulk work however many texts there are: for what somebody waits for, a few batches at most.
    pub async fn embed_interactive(
        self: &Arc<Self>,
        inputs: Vec<String>,
        options: &EmbedOptions,
    ) -> Result<EmbedOutput> {
        let plans = self.plan_texts(inputs, options).await?;
        self.embed_plans(Class::Interactive, plans, options).await
    }

    /// Counts the sequences of a large call.
    fn hold(&self, sequences: usize) -> Result<Held<'_>> {
        let others = self.large.fetch_add(sequences, Ordering::Relaxed);
        let held = Held(&self.large, sequences);
        if others >= self.workers.queue.capacity() {
            return Err(self.workers.queue.refuse(others));
        }
        Ok(held)
    }

    async fn plan_texts(self: &Arc<Self>, inputs: Vec<String>, options: &EmbedOptions) -> Result<Vec<Plan>> {
        let bytes = inputs.iter().map(String::len).sum();
        let own = options.clone();
        self.plan(bytes, move |context| inputs.iter().map(|text| context.embed(text, &own)).collect()).await
    }

    async fn embed_plans(
        &self,
        class: Class,
        plans: Vec<Plan>,
        options: &EmbedOptions,
    ) -> Result<EmbedOutput> {
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

    /// Encodes passages with their sentences in one run each, after all interactive work. Passages are pooled as the
    /// model was trained, and so are sentences, but for a model that pools one token: theirs are averaged. A sentence
    /// without tokens of its own gets its passage's vector.
    ///
    /// # Errors
    /// `EMPTY_INPUT`, `INPUT_TOO_LONG`, `STOPPING`.
    pub async fn encode_passages(
        self: &Arc<Self>,
        passages: Vec<PassageInput>,
    ) -> Result<Vec<PassageVectors>> {
        let bytes = passages.iter().map(|passage| passage.text.len()).sum();
        let plans =
            self.plan(bytes, move |context| passages.iter().map(|p| context.passage(p)).collect()).await?;
        let (partials, ..) = self.run(Class::Bulk, &plans).await?;
        let sums_tokens = self.model.pooling == Pooling::Mean;
        let vectors_of = |(plan, parts): (Plan, Vec<Vec<Vec<f32>>>)| {
            let mut vectors = finish(&plan, &parts, self.info.dimensions as usize);
            let sum = if sums_tokens { vectors.pop() } else { None };
            if self.info.normalize {
                vectors.iter_mut().for_each(|v| scale_to_unit(v));
            }
            let mut vectors = vectors.into_iter();
            let passage = vectors.next().unwrap_or_default();
            let sum = sum.unwrap_or_else(|| passage.clone());
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

    /// Runs the sequences of plans; the longest wait and run are reported. Bulk work goes to the queue in pieces, each
    /// when there is room for it.
    async fn run(
        &self,
        class: Class,
        plans: &[Plan],
    ) -> Result<(Vec<Vec<Vec<Vec<f32>>>>, Duration, Duration)> {
        let sequences: Vec<&Sequence> = plans.iter().flat_map(|plan| &plan.sequences).collect();
        let ran = match class {
            Class::Interactive => self.workers.run(class, &sequences).await?,
            Class::Bulk => self.run_in_pieces(&sequences).await?,
        };
        let mut all = ran.vectors.into_iter();
        let of_plan = |plan: &Plan| all.by_ref().take(plan.sequences.len()).collect();
        Ok((plans.iter().map(of_plan).collect(), ran.queue, ran.inference))
    }

    async fn run_in_pieces(&self, sequences: &[&Sequence]) -> Result<Ran> {
        let mut all = Ran::default();
        all.vectors.reserve(sequences.len());
        for piece in sequences.chunks(self.bulk_share) {
            let places = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let came = Instant::now();
            let _room = self.bulk.acquire_many(places).await.map_err(|_| stopping())?;
            let outside = came.elapsed();
            let ran = self.workers.run(Class::Bulk, piece).await?;
            all.vectors.extend(ran.vectors);
            all.queue = all.queue.max(outside + ran.queue);
            all.inference = all.inference.max(ran.inference);
        }
        Ok(all)
    }
}
