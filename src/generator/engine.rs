//! The thread that owns a decoder: it gives slots to waiting generations and runs them in turn.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::field::Empty;
use tracing::{Span, debug_span};

use super::draft::draft;
use super::meter::Meter;
use super::options::{Event, Finish, FinishReason};
use super::queue::{Job, Queue};
use super::sample::Sampler;
use super::text::{Piece, TextStream};
use super::tokens::ChatTokenizer;
use crate::error::{Error, Result};
use crate::model::decoder::{DecoderSession, Run, Sharing, Step};
use crate::task;

/// A shorter common beginning is computed again rather than copied.
const LEAST_SHARED: usize = 8;
/// Pause after a turn that panicked.
const AFTER_PANIC: Duration = Duration::from_millis(100);
/// While others decode, a prompt's share of a turn is divided by this.
const BUSY_DIVISOR: usize = 4;

/// How the engine runs.
#[derive(Debug, Clone)]
pub(super) struct EngineOptions {
    pub slots: usize,
    pub context_tokens: usize,
    pub prefill_tokens: usize,
    pub end_ids: Vec<u32>,
}

pub(super) struct Engine {
    session: DecoderSession,
    tokenizer: Arc<ChatTokenizer>,
    queue: Arc<Queue>,
    options: EngineOptions,
    /// Those with a generation come first, so that they are a batch.
    slots: Vec<Slot>,
    /// How many of them have one.
    active: usize,
    /// Turns so far.
    turn: u64,
}

/// A KV cache. After its generation has ended its tokens stay, for a prompt that starts with them.
#[derive(Default)]
struct Slot {
    /// What is in the cache.
    tokens: Vec<u32>,
    /// The turn in which it was last given away.
    used: u64,
    generation: Option<Generation>,
}

/// A slot's share of a step.
struct Part {
    index: usize,
    /// Most of its pending tokens.
    most: usize,
    /// Tokens that may follow the last one.
    draft: Vec<u32>,
}

struct Generation {
    /// Prompt and answer. What the cache does not hold yet is to be run next: the rest of the prompt, or one token.
    context: Vec<u32>,
    prompt_tokens: usize,
    cached: usize,
    max_tokens: usize,
    speculation: bool,
    accepted: u32,
    sampler: Sampler,
    text: TextStream,
    events: UnboundedSender<Result<Event>>,
    queue: Duration,
    started: Instant,
    since: Instant,
    parent: Span,
    /// Of what it is in: the prompt is run, or tokens are written.
    phase: Span,
    /// Prompt tokens that the cache holds, as far as counted.
    prefilled: usize,
    /// Tokens that were written, as far as counted.
    counted: usize,
}

impl Engine {
    pub fn new(
        session: DecoderSession,
        tokenizer: Arc<ChatTokenizer>,
        queue: Arc<Queue>,
        options: EngineOptions,
    ) -> Self {
        let slots = (0..options.slots).map(|_| Slot::default()).collect();
        Self { session, tokenizer, queue, options, slots, active: 0, turn: 0 }
    }

    /// Works until the queue is closed.
    pub fn run(mut self) {
        while !self.queue.is_closed() {
            self.turn += 1;
            let turn = || {
                self.take_turn();
                Ok(())
            };
            if let Err(error) = task::guarded("INFERENCE_FAILED", turn) {
                // Nobody knows which slot it came from, nor what the caches hold.
                self.fail(0..self.slots.len(), &error);
                std::thread::sleep(AFTER_PANIC);
            }
        }
        for slot in &mut self.slots {
            if let Some(generation) = slot.generation.take() {
                generation.finish(FinishReason::Cancelled, &self.queue.meter);
            }
        }
    }

    /// Gives free slots away, and runs a part of each generation; waits where there is none.
    fn take_turn(&mut self) {
        self.release_left();
        self.admit();
        self.queue.meter.set_slots_in_use(self.active);
        if self.active == 0 {
            return self.queue.wait();
        }
        self.prefill();
        self.decode();
    }

    /// Frees the slots of callers that have left.
    fn release_left(&mut self) {
        for index in (0..self.active).rev() {
            if self.slots[index].generation.as_ref().is_none_or(|g| g.events.is_closed()) {
                self.release(index);
            }
        }
    }

    /// Moves a slot out of the active ones.
    fn release(&mut self, index: usize) {
        if self.slots[index].generation.take().is_some() {
            self.queue.meter.finished(FinishReason::Cancelled).increment(1);
        }
        self.active -= 1;
        self.exchange(index, self.active);
    }

    fn exchange(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let tokens = self.slots[a].tokens.len().max(self.slots[b].tokens.len());
        if let Err(error) = self.session.swap(a, b, tokens) {
            // The caches are as they were, so nothing in them can be trusted under the other's name.
            tracing::error!(%error, "cannot exchange slots");
            self.fail(a..a + 1, &error);
            self.fail(b..b + 1, &error);
        }
        self.slots.swap(a, b);
    }

    fn admit(&mut self) {
        while self.active < self.slots.len() {
            let Some(job) = self.queue.take() else { return };
            let started = Instant::now();
            match self.prepare(&job.prompt) {
                Ok(cached) => {
                    self.queue.meter.queue.record(started - job.since);
                    self.queue.meter.cached.increment(cached as u64);
                    let vocabulary = self.session.vocabulary();
                    let slot = &mut self.slots[self.active];
                    slot.used = self.turn;
                    slot.generation = Some(Generation::new(job, cached, started, vocabulary));
                    self.active += 1;
                }
                Err(error) => {
                    self.slots[self.active].tokens.clear();
                    self.queue.meter.failed.increment(1);
                    // The caller may have left meanwhile.
                    let _ = job.events.send(Err(error));
                }
            }
        }
    }

    /// Makes the first idle slot hold as much of the beginning of a prompt as any slot does; gives the length.
    fn prepare(&mut self, prompt: &[u32]) -> Result<usize> {
        let first = self.active;
        // The last token is always run, for its logits.
        let wanted = &prompt[..prompt.len().saturating_sub(1)];
        let shared = |slot: &Slot| slot.tokens.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        let lengths: Vec<usize> = self.slots.iter().map(shared).collect();
        let idle = first..self.slots.len();
        let oldest = idle.clone().min_by_key(|&i| self.slots[i].used).unwrap_or(first);
        let source = (0..self.slots.len()).max_by_key(|&i| lengths[i]).unwrap_or(first);
        let cached = if lengths[source] < LEAST_SHARED { 0 } else { lengths[source] };
        // A cache nearly all of which is of use is continued where it is; another one keeps what it has.
        let useful = |&i: &usize| lengths[i] == cached && cached * 8 >= self.slots[i].tokens.len() * 7;
        let continued = if cached > 0 { idle.clone().find(useful) } else { None };
        let target = continued.unwrap_or(oldest);
        if continued.is_none() && cached > 0 && source != target {
            self.session.copy(source, target, cached)?;
            self.slots[target].tokens = wanted[..cached].to_vec();
        }
        self.slots[target].tokens.truncate(cached);
        self.exchange(target, first);
        Ok(cached)
    }

    /// Runs a part of one prompt, the longest waiting first.
    fn prefill(&mut self) {
        let pending =
            |slot: &Slot| slot.generation.as_ref().map_or(0, |g| g.context.len() - slot.tokens.len());
        let waiting = (0..self.active).filter(|&i| pending(&self.slots[i]) > 1);
        let Some(index) = waiting.min_by_key(|&i| self.slots[i].used) else { return };
        let others = (0..self.active).any(|i| pending(&self.slots[i]) == 1);
        let most =
            if others { self.options.prefill_tokens / BUSY_DIVISOR } else { self.options.prefill_tokens };
        // The next one's turn comes before this one's next.
        self.slots[index].used = self.turn;
        self.advance(&[Part { index, most, draft: Vec::new() }]);
    }

    /// Runs the last token of each generation whose prompt is done, as many at once as may share a step.
    fn decode(&mut self) {
        let ready = |index: &usize| {
            let slot = &self.slots[*index];
            slot.generation.as_ref().is_some_and(|g| g.context.len() - slot.tokens.len() == 1)
        };
        let ready: Vec<usize> = (0..self.active).filter(ready).collect();
        let groups: Vec<Vec<usize>> = match self.session.sharing() {
            _ if ready.is_empty() => return,
            Sharing::Any => vec![ready],
            Sharing::Neighbours => ready.chunk_by(|a, b| a + 1 == *b).map(<[usize]>::to_vec).collect(),
            Sharing::Alone => ready.into_iter().map(|index| vec![index]).collect(),
        };
        // From the last one, for a slot that ends changes places with the last active one.
        for group in groups.into_iter().rev() {
            let alone = group.len() == 1;
            let drafted = alone || self.session.sharing() == Sharing::Any;
            let draft = |&index: &usize| if drafted { self.draft(index, alone) } else { Vec::new() };
            let drafts = group.iter().map(draft);
            let parts = group.iter().zip(drafts).map(|(&index, draft)| Part { index, most: 1, draft });
            self.advance(&parts.collect::<Vec<_>>());
        }
    }

    fn draft(&self, index: usize, alone: bool) -> Vec<u32> {
        let slot = &self.slots[index];
        let held = slot.tokens.len();
        let Some(generation) = slot.generation.as_ref().filter(|g| g.speculation) else { return Vec::new() };
        let room = (self.options.context_tokens - held).min(generation.left()).saturating_sub(1);
        draft(&generation.context, room, alone).to_vec()
    }

    /// Runs up to a number of each slot's pending tokens and, behind the last one, drafted ones, in one step.
    fn advance(&mut self, parts: &[Part]) {
        let (mut runs, mut ids, mut rows) =
            (Vec::with_capacity(parts.len()), Vec::<i64>::new(), Vec::<i64>::new());
        let mut asked = Vec::with_capacity(parts.len());
        for part in parts {
            let slot = &self.slots[part.index];
            let Some(generation) = slot.generation.as_ref() else { return };
            let held = slot.tokens.len();
            let end = generation.context.len().min(held + part.most);
            let first = ids.len();
            let tokens = generation.context[held..end].iter().chain(&part.draft);
            ids.extend(tokens.map(|&id| i64::from(id)));
            let last = first + end - held - 1;
            let before = rows.len();
            rows.extend(last as i64..ids.len() as i64);
            runs.push(Run { slot: part.index, past: held, tokens: ids.len() - first });
            asked.push((end, before..rows.len()));
        }
        let mut results = Vec::with_capacity(parts.len());
        match self.session.run(&Step { runs: &runs, ids: &ids, rows: &rows }) {
            Ok(logits) => {
                let width = logits.len() / rows.len();
                for (part, (end, rows)) in parts.iter().zip(asked) {
                    let slot = &mut self.slots[part.index];
                    let Some(generation) = slot.generation.as_mut() else { continue };
                    slot.tokens.extend_from_slice(&generation.context[slot.tokens.len()..end]);
                    self.queue.meter.drafted.increment(part.draft.len() as u64);
                    if end < generation.context.len() {
                        Self::progress(slot, &self.queue.meter);
                        continue;
                    }
                    let rows = logits[rows.start * width..rows.end * width].chunks_exact(width);
                    let (tokenizer, end_ids) = (&self.tokenizer, &self.options.end_ids);
                    let result = generation.verify(rows, &part.draft, &mut slot.tokens, tokenizer, end_ids);
                    results.push((part.index, result));
                }
            }
            Err(error) => {
                for part in parts.iter().rev() {
                    self.fail(part.index..part.index + 1, &error);
                }
            }
        }
        for (index, result) in results.into_iter().rev() {
            self.settle(index, result);
        }
    }

    /// Counts what was run of a slot since the last time.
    fn progress(slot: &mut Slot, meter: &Meter) {
        let Some(generation) = slot.generation.as_mut() else { return };
        let prefilled = slot.tokens.len().min(generation.prompt_tokens);
        meter.prefill.increment(prefilled.saturating_sub(generation.prefilled) as u64);
        generation.prefilled = generation.prefilled.max(prefilled);
        let written = generation.written();
        if generation.counted == 0 && written > 0 {
            meter.time_to_first_token.record(generation.since.elapsed());
            generation.phase = debug_span!(parent: &generation.parent, "generator.decode", tokens = Empty);
        }
        meter.decode.increment((written - generation.counted) as u64);
        generation.counted = written;
    }

    /// Ends a generation that is done or has failed.
    fn settle(&mut self, index: usize, result: Result<Option<FinishReason>>) {
        Self::progress(&mut self.slots[index], &self.queue.meter);
        match result {
            Ok(None) => {}
            Ok(Some(reason)) => {
                if let Some(generation) = self.slots[index].generation.take() {
                    generation.finish(reason, &self.queue.meter);
                }
                self.release(index);
            }
            Err(error) => self.fail(index..index + 1, &error),
        }
    }

    /// Tells the callers of slots, whose caches are then as good as empty. Their turn to be released comes at the start
    /// of the next one.
    fn fail(&mut self, run: Range<usize>, error: &Error) {
        for slot in &mut self.slots[run] {
            slot.tokens.clear();
            if let Some(generation) = slot.generation.take() {
                self.queue.meter.failed.increment(1);
                let error = Error::new(error.kind, error.reason, error.message.clone());
                // The caller may have left meanwhile.
                let _ = generation.events.send(Err(error));
            }
        }
    }
}

impl Generation {
    fn new(job: Job, cached: usize, started: Instant, vocabulary: usize) -> Self {
        let Job { prompt, sampling, events, since, parent, waiting, party: _ } = job;
        drop(waiting);
        // Traces know signed numbers only; others become texts.
        let (tokens, held) = ((prompt.len() - cached) as i64, cached as i64);
        let phase = debug_span!(parent: &parent, "generator.prefill", tokens, cached = held);
        Self {
            sampler: Sampler::new(&sampling, vocabulary, &prompt),
            prompt_tokens: prompt.len(),
            context: prompt,
            cached,
            max_tokens: sampling.max_tokens as usize,
            speculation: sampling.speculation,
            accepted: 0,
            text: TextStream::new(sampling.stop),
            events,
            queue: started - since,
            started,
            since,
            parent,
            phase,
            prefilled: cached,
            counted: 0,
        }
    }

    /// Tokens so far.
    fn written(&self) -> usize {
        self.context.len() - self.prompt_tokens
    }

    /// Tokens that may still come.
    fn left(&self) -> usize {
        self.max_tokens.saturating_sub(self.written())
    }

    /// Goes on as long as the drafted tokens are those that are chosen from the rows of logits, and notes which of them
    /// the cache holds for good.
    fn verify<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a [f32]>,
        draft: &[u32],
        held: &mut Vec<u32>,
        tokenizer: &ChatTokenizer,
        end_ids: &[u32],
    ) -> Result<Option<FinishReason>> {
        let mut right = 0;
        for row in rows {
            let end = self.accept(row, tokenizer, end_ids)?;
            let drafted = draft.get(right).copied();
            let as_drafted = drafted.is_some() && self.context.last().copied() == drafted;
            if as_drafted {
                right += 1;
                self.accepted += 1;
            }
            if end.is_some() {
                return Ok(end);
            }
            let (true, Some(id)) = (as_drafted, drafted) else { break };
            held.push(id);
        }
        Ok(None)
    }

    /// Chooses the next token and sends its text.
    fn accept(
        &mut self,
        logits: &[f32],
        tokenizer: &ChatTokenizer,
        end_ids: &[u32],
    ) -> Result<Option<FinishReason>> {
        let id = self.sampler.next(logits).ok_or_else(|| {
            Error::internal("INFERENCE_FAILED", "the model gave logits that are not numbers")
        })?;
        self.context.push(id);
        if end_ids.contains(&id) {
            self.flush();
            return Ok(Some(FinishReason::Stop));
        }
        match self.text.push(tokenizer, id)? {
            Piece::Text(text) => self.send(text),
            Piece::Stopped(text) => {
                self.send(text);
                return Ok(Some(FinishReason::Stop));
            }
        }
        if self.left() > 0 {
            return Ok(None);
        }
        self.flush();
        Ok(Some(FinishReason::Length))
    }

    fn flush(&mut self) {
        let rest = self.text.finish();
        self.send(rest);
    }

    fn send(&self, text: String) {
        if !text.is_empty() {
            // The caller may have left; the next turn frees the slot.
            let _ = self.events.send(Ok(Event::Delta(text)));
        }
    }

    fn finish(self, reason: FinishReason, meter: &Meter) {
        let written = self.written();
        self.phase.record("tokens", written as i64);
        meter.finished(reason).increment(1);
        meter.duration.record(self.started.elapsed());
        meter.accepted.increment(self.accepted.into());
        let finish = Finish {
            reason,
            prompt_tokens: self.prompt_tokens as u32,
            completion_tokens: written as u32,
            accepted_draft_tokens: self.accepted,
            cached_prompt_tokens: self.cached as u32,
            queue: self.queue,
            inference: self.started.elapsed(),
        };
        // The caller may have left meanwhile.
        let _ = self.events.send(Ok(Event::Done(finish)));
    }
}
