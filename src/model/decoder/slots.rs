#![allow(unsafe_code, reason = "its buffers are bound through pointers")]

use std::sync::Arc;

use ort::session::Session;

use super::binding::Binding;
use super::graph::{INPUT_IDS, LOGIT_ROWS, LOGITS};
use super::operators::KvCache;
use super::rewrite::{POSITIONS, SLOTS};
use super::session::{CacheShape, Run, Step};
use crate::error::Result;

/// A decoder whose caches belong to its operators: a step may hold tokens of any slots.
pub(super) struct SlotCache {
    // Dropped first, for it points into the buffers.
    binding: Binding,
    session: Session,
    cache: Arc<KvCache>,
    /// Where the cache of each slot is: slots change places without their caches.
    places: Vec<usize>,
    vocabulary: usize,
    ids: Vec<i64>,
    slots: Vec<i32>,
    positions: Vec<i32>,
    rows: Vec<i64>,
    logits: Vec<f32>,
    /// Tokens and rows that are bound.
    bound: Option<(usize, usize)>,
    /// Tokens that a slot has room for.
    capacity: usize,
    /// Whether a token that is alone in its step gets another one beside it.
    is_padded: bool,
}

impl SlotCache {
    pub fn new(session: Session, cache: Arc<KvCache>, shape: CacheShape, vocabulary: usize) -> Result<Self> {
        let mut decoder = Self {
            binding: Binding::new(&session)?,
            session,
            cache,
            places: (0..shape.slots).collect(),
            vocabulary,
            ids: Vec::new(),
            slots: Vec::new(),
            positions: Vec::new(),
            rows: Vec::new(),
            logits: Vec::new(),
            bound: None,
            capacity: shape.capacity,
            is_padded: false,
        };
        decoder.is_padded = decoder.differs_alone()?;
        Ok(decoder)
    }

    /// Whether a token alone in its step gets other logits than beside another one. Where a processor has AVX2 and no
    /// AVX-512, ONNX Runtime multiplies one row by quantized weights in another order than several; an answer must not
    /// depend on who shares its steps.
    fn differs_alone(&mut self) -> Result<bool> {
        if self.capacity < 2 {
            return Ok(false);
        }
        let known = self.vocabulary as i64 - 1;
        for id in [known / 2, known] {
            let alone = self.run_step(&Step { runs: &[first(1)], ids: &[id], rows: &[0] })?.to_vec();
            let beside = self.run_step(&Step { runs: &[first(2)], ids: &[id, id], rows: &[0] })?;
            if alone != beside {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The step has been checked.
    pub fn run(&mut self, step: &Step<'_>) -> Result<&[f32]> {
        match (step.runs, step.ids) {
            // What is written behind the token is written over by the next one, as that of a wrong draft is.
            (&[run], &[id]) if self.is_padded && run.past + 2 <= self.capacity => {
                let runs = [Run { tokens: 2, ..run }];
                self.run_step(&Step { runs: &runs, ids: &[id, id], rows: step.rows })
            }
            _ => self.run_step(step),
        }
    }

    fn run_step(&mut self, step: &Step<'_>) -> Result<&[f32]> {
        let wanted = (step.ids.len(), step.rows.len());
        let rebind = self.bound != Some(wanted);
        if rebind {
            // Growing a buffer may move it.
            self.bound = None;
        }
        for buffer in [&mut self.slots, &mut self.positions] {
            buffer.clear();
        }
        for run in step.runs {
            let places = std::iter::repeat_n(self.places[run.slot] as i32, run.tokens);
            self.slots.extend(places);
            self.positions.extend((run.past..run.past + run.tokens).map(|at| at as i32));
        }
        replace(&mut self.ids, step.ids);
        replace(&mut self.rows, step.rows);
        self.logits.resize(self.vocabulary * step.rows.len(), 0.0);
        if rebind {
            self.bind(step)?;
            self.bound = Some(wanted);
        }
        self.binding.run(&mut self.session)?;
        Ok(&self.logits)
    }

    fn bind(&mut self, step: &Step<'_>) -> Result<()> {
        let [tokens, rows] = [step.ids.len(), step.rows.len()].map(|n| n as i64);
        // SAFETY: the buffers belong to `self`, are as long as the shapes say, and move only where their lengths change,
        // after which `run` binds again before the next run.
        unsafe {
            self.binding.input(INPUT_IDS, self.ids.as_mut_ptr(), &[1, tokens])?;
            self.binding.input(SLOTS, self.slots.as_mut_ptr(), &[tokens])?;
            self.binding.input(POSITIONS, self.positions.as_mut_ptr(), &[tokens])?;
            self.binding.input(LOGIT_ROWS, self.rows.as_mut_ptr(), &[rows])?;
            self.binding.output(LOGITS, self.logits.as_mut_ptr(), &[rows, self.vocabulary as i64])
        }
    }

    /// Copies the first tokens of a slot's cache to another slot.
    pub fn copy(&mut self, from: usize, to: usize, tokens: usize) {
        self.cache.copy(self.places[from], self.places[to], tokens);
    }

    /// Exchanges two slots' caches.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.places.swap(a, b);
    }
}

/// The first tokens of the first slot.
fn first(tokens: usize) -> Run {
    Run { slot: 0, past: 0, tokens }
}

fn replace(buffer: &mut Vec<i64>, by: &[i64]) {
    buffer.clear();
    buffer.extend_from_slice(by);
}
