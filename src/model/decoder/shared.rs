use half::f16;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::Tensor;

use super::binding::{Binding, failed};
use super::graph::{INPUT_IDS, IR_VERSION, LOGIT_ROWS, LOGITS, OPSET, SEQUENCE_LENGTHS, TOTAL_LENGTH};
use super::session::{CacheShape, Step};
use crate::error::{Error, Result};
use crate::model::CudaOptions;
use crate::model::onnx::{Axis, FLOAT16, Graph, Model, Node, OperatorSet, ValueInfo};

/// Where the caches are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memory {
    /// In the machine's memory.
    Host,
    /// In a CUDA device's.
    Cuda(CudaOptions),
}

impl Memory {
    fn info(self) -> Result<MemoryInfo<'static>> {
        match self {
            Memory::Host => Ok(MemoryInfo::default()),
            Memory::Cuda(options) => {
                let (device, id) = (AllocationDevice::CUDA, options.device_id as i32);
                MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default).map_err(failed)
            }
        }
    }
}

/// A decoder whose KV caches are allocated once, on its device: the same memory is past and present.
///
/// Each layer has a buffer for keys and one for values, `[slots, heads, capacity, width]` in 16-bit floats, so that
/// neighbouring slots are a batch.
pub(super) struct SharedCache {
    // Dropped first, for they point into the buffers.
    binding: Binding,
    copy_binding: Binding,
    session: Session,
    copier: Session,
    shape: CacheShape,
    vocabulary: usize,
    memory: MemoryInfo<'static>,
    caches: Vec<Layer>,
    /// As large as a slot, for exchanges.
    spare: Tensor<f16>,
    ids: Vec<i64>,
    lengths: Vec<i32>,
    total: Box<[i32; 1]>,
    rows: Vec<i64>,
    logits: Vec<f32>,
    /// First slot and number of those that are bound.
    bound: Option<(usize, usize)>,
}

struct Layer {
    inputs: [String; 2],
    outputs: [String; 2],
    buffers: [Tensor<f16>; 2],
}

impl SharedCache {
    pub fn new(
        session: Session,
        copier: Session,
        layers: usize,
        shape: CacheShape,
        vocabulary: usize,
        memory: Memory,
    ) -> Result<Self> {
        let allocator = Allocator::new(&session, memory.info()?).map_err(failed)?;
        let tensor = |elements: usize| Tensor::<f16>::new(&allocator, [elements]).map_err(failed);
        let layer = |layer: usize| -> Result<Layer> {
            let names = |way: &str| ["key", "value"].map(|part| format!("{way}.{layer}.{part}"));
            let buffer = || tensor(shape.slots * shape.of_slot());
            Ok(Layer {
                inputs: names("past_key_values"),
                outputs: names("present"),
                buffers: [buffer()?, buffer()?],
            })
        };
        let caches = (0..layers).map(layer).collect::<Result<_>>()?;
        let spare = tensor(shape.of_slot())?;
        Ok(Self {
            binding: Binding::new(&session)?,
            copy_binding: Binding::new(&copier)?,
            session,
            copier,
            shape,
            vocabulary,
            memory: memory.info()?,
            caches,
            spare,
            ids: Vec::new(),
            lengths: Vec::new(),
            total: Box::new([0]),
            rows: Vec::new(),
            logits: Vec::new(),
            bound: None,
        })
    }

    /// The step has been checked: one slot, or neighbours with a token each.
    pub fn run(&mut self, step: &Step<'_>) -> Result<&[f32]> {
        let Some(first) = step.runs.first() else {
            return Err(Error::internal("INFERENCE_FAILED", "expected a step of at least one slot"));
        };
        let lengths = step.runs.iter().map(|run| (run.past + run.tokens) as i32 - 1);
        self.lengths.clear();
        self.lengths.extend(lengths);
        self.total[0] = self.lengths.iter().max().map_or(0, |length| length + 1);
        self.ids.clear();
        self.ids.extend_from_slice(step.ids);
        self.rows.clear();
        self.rows.extend_from_slice(step.rows);
        self.logits.resize(self.vocabulary * step.rows.len(), 0.0);
        let [batch, rows, vocabulary] = [step.runs.len(), step.rows.len(), self.vocabulary].map(|n| n as i64);
        // SAFETY: the buffers belong to `self`, are as long as the shapes say, and are bound again before every run.
        unsafe {
            // A device gets its copy of them here, not when it runs.
            self.binding.input(INPUT_IDS, self.ids.as_mut_ptr(), &[batch, first.tokens as i64])?;
            self.binding.input(SEQUENCE_LENGTHS, self.lengths.as_mut_ptr(), &[batch])?;
            self.binding.input(TOTAL_LENGTH, self.total.as_mut_ptr(), &[])?;
            self.binding.input(LOGIT_ROWS, self.rows.as_mut_ptr(), &[rows])?;
            self.binding.output(LOGITS, self.logits.as_mut_ptr(), &[rows, vocabulary])?;
        }
        let wanted = (first.slot, step.runs.len());
        if self.bound != Some(wanted) {
            self.bound = None;
            self.bind_caches(first.slot, batch)?;
            self.bound = Some(wanted);
        }
        self.binding.run(&mut self.session)?;
        Ok(&self.logits)
    }

    fn bind_caches(&mut self, slot: usize, batch: i64) -> Result<()> {
        let CacheShape { heads, capacity, width, .. } = self.shape;
        let shape = [batch, heads as i64, capacity as i64, width as i64];
        let offset = slot * self.shape.of_slot();
        for layer in &mut self.caches {
            let parts = layer.inputs.iter().zip(&layer.outputs).zip(&mut layer.buffers);
            for ((input, output), buffer) in parts {
                // SAFETY: the slots are within the buffer, which stays in place as long as `self` lives. Past and present
                // may be the same memory: GroupQueryAttention only appends then.
                unsafe {
                    let data = buffer.data_ptr_mut().cast::<f16>().add(offset);
                    self.binding.input_in(&self.memory, input, data, &shape)?;
                    self.binding.output_in(&self.memory, output, data, &shape)?;
                }
            }
        }
        Ok(())
    }

    /// Copies a slot's cache to another slot.
    pub fn copy(&mut self, from: usize, to: usize) -> Result<()> {
        for index in 0..2 * self.caches.len() {
            let (from, to) = (self.slot(index, from)?, self.slot(index, to)?);
            self.copy_within_device(from, to)?;
        }
        Ok(())
    }

    /// Exchanges two slots' caches.
    pub fn swap(&mut self, a: usize, b: usize) -> Result<()> {
        if a == b {
            return Ok(());
        }
        let spare = self.spare.data_ptr_mut().cast::<f16>();
        for index in 0..2 * self.caches.len() {
            let (a, b) = (self.slot(index, a)?, self.slot(index, b)?);
            for (from, to) in [(a, spare), (b, a), (spare, b)] {
                self.copy_within_device(from, to)?;
            }
        }
        Ok(())
    }

    /// Where a slot's part of a buffer starts: keys and values of the layers in turn.
    fn slot(&mut self, index: usize, slot: usize) -> Result<*mut f16> {
        let Some(layer) = self.caches.get_mut(index / 2).filter(|_| slot < self.shape.slots) else {
            return Err(Error::internal(
                "INFERENCE_FAILED",
                format!("no slot {slot} of layer {}", index / 2),
            ));
        };
        // SAFETY: the slot is within the buffer.
        Ok(unsafe { layer.buffers[index % 2].data_ptr_mut().cast::<f16>().add(slot * self.shape.of_slot()) })
    }

    /// Copies as much as a slot holds. ONNX Runtime copies within a device only by running a graph.
    fn copy_within_device(&mut self, from: *mut f16, to: *mut f16) -> Result<()> {
        let shape = [self.shape.of_slot() as i64];
        // SAFETY: both come from `slot` or `spare`, hold a slot each, and stay in place as long as `self` lives.
        unsafe {
            self.copy_binding.input_in(&self.memory, COPY_FROM, from, &shape)?;
            self.copy_binding.output_in(&self.memory, COPY_TO, to, &shape)?;
        }
        self.copy_binding.run(&mut self.copier)
    }
}

const COPY_FROM: &str = "from";
const COPY_TO: &str = "to";

/// A graph that copies 16-bit floats.
pub(super) fn copy_graph() -> Model {
    let value = |name: &str| ValueInfo::tensor(name, FLOAT16, vec![Axis::Free("elements")]);
    let graph = Graph {
        name: "copy".to_owned(),
        node: vec![Node::new("Identity", "", &[COPY_FROM], COPY_TO)],
        input: vec![value(COPY_FROM)],
        output: vec![value(COPY_TO)],
        ..Graph::default()
    };
    Model {
        ir_version: IR_VERSION,
        producer_name: "trove".to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
    }
}
