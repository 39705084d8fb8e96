//! Texts to vectors: tokens, spans, batches.

mod cross_encoder;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod load;
mod meter;
mod options;
mod plan;
mod queue;
mod reader;
mod registry;
mod tokens;
mod trace;
mod verify;
mod wordpiece;
mod workers;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

pub use cross_encoder::{CrossEncoder, CrossEncoderInfo, Reranked};
pub use load::{check_model, sessions};
pub use options::{
    EmbedOptions, EmbedOutput, EmbedResult, EncoderInfo, EncoderOptions, Level, Overflow, PassageInput,
    PassageVectors, Representation,
};
pub use reader::{Reader, Reading};
pub use registry::{CrossEncoders, Encoders};
pub use tokens::Token;

pub use crate::model::{Activation, CudaOptions, Device, Pooling, Precision};

use crate::domain::{Span, scale_to_unit};
use crate::error::{Error, Result};
use crate::fair::{Fair, Shares};
use crate::model::{ModelDir, Projection, StaticTable};
use crate::room::AnswerRoom;
use crate::task;
use plan::{Plan, Sequence, finish, reduce_static};
use queue::{Class, stopping};
use tokens::TextTokenizer;
use workers::{Ran, Workers};

/// Texts of so many bytes are tokenized faster than another thread wakes up.
const INLINE_BYTES: usize = 4 << 10;

/// Bytes of text that are tokenized at once over all calls of an encoder, and a longer one by itself: while it is read, a
/// text takes up to some hundred times its length.
const READ_AT_ONCE: usize = 1 << 20;
/// Bytes of a call's texts that are worked on together.
const PIECE_BYTES: usize = 256 << 10;
/// Memory of a vector beside its numbers, as it is made and in an answer.
const VECTOR_BYTES: usize = 128;

/// One in so many of the places for bulk work is the most that a call takes at a time.
const BULK_SHARE: usize = 8;
/// Batches that a piece of bulk work fills at most: the smaller, the sooner others have their turn; the more, the more
/// like lengths there are to choose from.
const PIECE_BATCHES: usize = 8;
/// Pieces of one call that run or wait at a time.
const PIECES_AHEAD: usize = 2;

/// An encoder with its sessions, each on a thread of its own.
pub struct Encoder {
    info: EncoderInfo,
    model: ModelDir,
    tokenizer: TextTokenizer,
    /// Input embeddings, if the model has them in plain sight.
    table: Option<StaticTable>,
    /// What becomes of pooled vectors.
    projection: Arc<Projection>,
    workers: Workers,
    /// Room for texts that are tokenized.
    read: Arc<Semaphore>,
    /// Room for bulk work in the queue. What finds none waits outside.
    bulk: Fair,
    /// Most of it that one call takes at a time, so that others come in between.
    bulk_share: usize,
    /// Sequences of the calls of [`Encoder::embed`] that are bulk work.
    large: Shares,
}

/// The texts of a call, a piece at a time: so many that their bytes do not go over a bound, but at least one.
struct Pieces {
    texts: std::iter::Peekable<std::vec::IntoIter<String>>,
}

impl Pieces {
    fn of(texts: Vec<String>) -> Self {
        Self { texts: texts.into_iter().peekable() }
    }
}

impl Iterator for Pieces {
    type Item = Vec<String>;

    fn next(&mut self) -> Option<Vec<String>> {
        let mut piece = vec![self.texts.next()?];
        let mut bytes = piece[0].len();
        while let Some(text) = self.texts.next_if(|text| bytes + text.len() <= PIECE_BYTES) {
            bytes += text.len();
            piece.push(text);
        }
        Some(piece)
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

    /// Reads texts in pieces on a blocking thread, a few at once over all calls, and gives what `work` makes of each, in
    /// order: tokens take many times the room of their text.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn each_text<T: Send + 'static>(
        self: &Arc<Self>,
        inputs: Vec<String>,
        work: impl Fn(&Self, &str) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(inputs.len());
        for piece in Pieces::of(inputs) {
            let (encoder, work) = (Arc::clone(self), work.clone());
            let bytes = piece.iter().map(String::len).sum();
            let made = move || piece.iter().map(|text| work(&encoder, text)).collect::<Result<Vec<T>>>();
            all.extend(self.reading(bytes, made).await?);
        }
        Ok(all)
    }

    /// Puts token ids back together, once there is room for the text.
    ///
    /// # Errors
    /// `UNKNOWN_TOKEN_ID`; those of the room.
    pub async fn detokenize(
        self: &Arc<Self>,
        ids: Vec<u32>,
        skip_special: bool,
        room: AnswerRoom,
    ) -> Result<String> {
        let encoder = Arc::clone(self);
        let work = move || {
            room.add(encoder.tokenizer.bytes_of(&ids)?)?;
            encoder.tokenizer.detokenize(&ids, skip_special)
        };
        self.reading(usize::MAX, work).await
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
    /// `QUEUE_FULL`, for a large call where as many sequences of large calls as the capacity are not done yet, of which
    /// its party has its part; `STOPPING`;
    /// `EMPTY_INPUT`, `INPUT_TOO_LONG`, `INVALID_DIMENSIONS`, `UNKNOWN_PROMPT`, `UNSUPPORTED_REPRESENTATION`.
    pub async fn embed(self: &Arc<Self>, inputs: Vec<String>, options: &EmbedOptions) -> Result<EmbedOutput> {
        self.embed_within(inputs, options, &AnswerRoom::unbounded()).await
    }

    /// The same for an answer that there must be room for: what is read of a piece is gone before the next one is, and
    /// vectors take their room before they are made.
    ///
    /// # Errors
    /// Those of [`Encoder::embed`] and of the room.
    pub async fn embed_within(
        self: &Arc<Self>,
        inputs: Vec<String>,
        options: &EmbedOptions,
        room: &AnswerRoom,
    ) -> Result<EmbedOutput> {
        let mut all = EmbedOutput::default();
        let is_large = inputs.iter().map(String::len).sum::<usize>() > PIECE_BYTES && inputs.len() > 1;
        for piece in Pieces::of(inputs) {
            let plans = self.plan_texts(piece, options).await?;
            let _planned = room.hold(plans.iter().map(Plan::memory).sum())?;
            let tokens: usize = plans.iter().map(|plan| plan.tokens as usize).sum();
            let fills_batch = is_large || tokens > self.workers.queue.max_batch_tokens();
            let output = if !fills_batch || options.representation == Representation::Static {
                self.embed_plans(Class::Interactive, plans, options, room).await?
            } else {
                let sequences = plans.iter().map(|plan| plan.sequences.len()).sum();
                let _share =
                    self.large.add(sequences).map_err(|waiting| self.workers.queue.refuse(waiting))?;
                self.embed_plans(Class::Bulk, plans, options, room).await?
            };
            all.results.extend(output.results);
            all.queue = all.queue.max(output.queue);
            all.inference = all.inference.max(output.inference);
        }
        Ok(all)
    }

    /// The same ahead of bulk work however many texts there are: for what somebody waits for, a few batches at most.
    pub async fn embed_interactive(
        self: &Arc<Self>,
        inputs: Vec<String>,
        options: &EmbedOptions,
    ) -> Result<EmbedOutput> {
        let plans = self.plan_texts(inputs, options).await?;
        self.embed_plans(Class::Interactive, plans, options, &AnswerRoom::unbounded()).await
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
        room: &AnswerRoom,
    ) -> Result<EmbedOutput> {
        let vectors: usize = plans.iter().map(|plan| plan.spans.len()).sum();
        let width = self.model.state_width().max(self.model.dimensions());
        room.add(vectors.saturating_mul(width * size_of::<f32>() + VECTOR_BYTES))?;
        let (partials, queue, inference) = match options.representation {
            Representation::Contextual => self.run(class, &plans).await?,
            Representation::Static => (self.look_up(&plans)?, Duration::ZERO, Duration::ZERO),
        };
        let mut results = Vec::with_capacity(plans.len());
        for (plan, vectors) in self.finish(plans, partials).await? {
            let trim = |mut vector: Vec<f32>| {
                if let Some(dimensions) = options.dimensions {
                    vector.truncate(dimensions as usize);
                    vector.shrink_to_fit();
                }
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
        let sums_tokens = self.model.sums_tokens();
        let vectors_of = |(plan, mut vectors): (Plan, Vec<Vec<f32>>)| {
            let sum = if sums_tokens { vectors.pop() } else { None };
            // Whatever the model was trained on: stored vectors are compared by their dot products.
            vectors.iter_mut().for_each(|v| scale_to_unit(v));
            let mut vectors = vectors.into_iter();
            let passage = vectors.next().unwrap_or_default();
            let sum = sum.unwrap_or_else(|| passage.clone());
            let own = |(found, vector)| if found { vector } else { passage.clone() };
            let found = plan.found.iter().skip(1).copied();
            let sentences = found.zip(vectors).map(own).collect();
            PassageVectors { passage, sentences, sum, tokens: plan.tokens }
        };
        Ok(self.finish(plans, partials).await?.into_iter().map(vectors_of).collect())
    }

    /// Puts the parts of plans together: the model's vectors of their groups. Dense layers are computed on a blocking
    /// thread.
    async fn finish(
        &self,
        plans: Vec<Plan>,
        partials: Vec<Vec<Vec<Vec<f32>>>>,
    ) -> Result<Vec<(Plan, Vec<Vec<f32>>)>> {
        let (width, projection) = (self.model.state_width(), Arc::clone(&self.projection));
        let is_dense = projection.is_dense();
        let work = move || {
            let finished = |(plan, parts): (Plan, Vec<Vec<Vec<f32>>>)| {
                let vectors = finish(&plan, parts, width).into_iter().map(|v| projection.apply(v)).collect();
                (plan, vectors)
            };
            plans.into_iter().zip(partials).map(finished).collect()
        };
        if !is_dense {
            return Ok(work());
        }
        task::blocking("PROJECTION_FAILED", || Ok(work())).await
    }

    /// Makes plans for so many bytes of text, on a blocking thread unless that takes longer than the work.
    async fn plan(
        self: &Arc<Self>,
        bytes: usize,
        make: impl FnOnce(plan::Context) -> Result<Vec<Plan>> + Send + 'static,
    ) -> Result<Vec<Plan>> {
        let encoder = Arc::clone(self);
        let work = move || make(plan::Context { tokenizer: &encoder.tokenizer, model: &encoder.model });
        self.reading(bytes, work).await
    }

    /// Reads so many bytes of text on a blocking thread, unless that takes longer than the work; what would be too much
    /// at once over all calls waits.
    async fn reading<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if bytes <= INLINE_BYTES {
            return work();
        }
        let share = u32::try_from(bytes.min(READ_AT_ONCE)).unwrap_or(u32::MAX);
        let read = self.read.clone().acquire_many_owned(share).await.map_err(|_| stopping())?;
        task::blocking("TOKENIZER_FAILED", move || {
            // A caller that leaves does not stop the thread: the share is free when it is done.
            let _read = read;
            work()
        })
        .await
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
                     plain sight, or dense layers behind its pooling, got static",
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
        let most_tokens = PIECE_BATCHES * self.workers.queue.max_batch_tokens();
        // The next piece stands ready as one ends, or sessions would have nothing to do in between.
        let pieces = pieces(sequences, self.bulk_share, most_tokens);
        let mut running = futures::stream::iter(pieces)
            .map(|piece| self.run_piece(sequences, piece))
            .buffered(PIECES_AHEAD);
        let mut all = Ran::default();
        all.vectors.reserve(sequences.len());
        while let Some(ran) = running.try_next().await? {
            all.vectors.extend(ran.vectors);
            all.queue = all.queue.max(ran.queue);
            all.inference = all.inference.max(ran.inference);
        }
        Ok(all)
    }

    async fn run_piece(&self, sequences: &[&Sequence], piece: Range<usize>) -> Result<Ran> {
        let piece = sequences.get(piece).unwrap_or_default();
        let came = Instant::now();
        let _room = self.bulk.take(piece.len()).await;
        let outside = came.elapsed();
        let ran = self.workers.run(Class::Bulk, piece).await?;
        Ok(Ran { queue: outside + ran.queue, ..ran })
    }
}

/// Where pieces of at most so many sequences and tokens lie; each has at least one sequence.
fn pieces(sequences: &[&Sequence], most: usize, most_tokens: usize) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (index, sequence) in sequences.iter().enumerate() {
        tokens += sequence.ids.len();
        match pieces.last_mut().filter(|piece| piece.len() < most && tokens <= most_tokens) {
            Some(piece) => piece.end += 1,
            None => {
                tokens = sequence.ids.len();
                pieces.push(index..index + 1);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_keep_the_order() {
        let of = |lengths: &[usize]| -> Vec<Sequence> {
            let one =
                |&length: &usize| Sequence { ids: vec![0; length], first_type: length, parts: Vec::new() };
            lengths.iter().map(one).collect()
        };
        let found = |lengths: &[usize]| {
            let sequences = of(lengths);
            pieces(&sequences.iter().collect::<Vec<_>>(), 3, 100)
        };
        assert_eq!(found(&[1, 2, 3, 4]), [0..3, 3..4]);
        assert_eq!(found(&[60, 40, 1, 500, 7]), [0..2, 2..3, 3..4, 4..5]);
        assert!(found(&[]).is_empty());
    }
}
