use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::options::{EncoderInfo, EncoderOptions};
use super::queue::Queue;
use super::tokens::TextTokenizer;
use super::{Encoder, verify};
use crate::error::{Error, Result};
use crate::model::{Device, EncoderSession, ModelDir, Precision, SessionOptions, build_graph};

/// Most sessions where the number is not given.
const MAX_AUTO_SESSIONS: usize = 4;

impl Encoder {
    /// Loads a model directory; [`crate::model::Runtime::init`] must have been called.
    pub fn load(model_dir: &Path, options: EncoderOptions) -> Result<Arc<Self>> {
        let model = ModelDir::open(model_dir)?;
        let tokenizer = TextTokenizer::load(&model.path.join("tokenizer.json"))?;
        let graph = build_graph(&model)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if options.sessions == 0 { cores.min(MAX_AUTO_SESSIONS) } else { options.sessions };
        let threads = if options.threads == 0 { (cores / count).max(1) } else { options.threads };
        let wanted = SessionOptions { device: options.device, precision: options.precision, threads };
        let (first, resolved) = checked_session(&graph, &model, &tokenizer, wanted)?;
        let mut sessions = vec![first];
        for _ in 1..count {
            sessions.push(EncoderSession::load(&graph, model.dimensions(), resolved)?);
        }

        let queue = Arc::new(Queue::new(options.queue_capacity, options.max_batch_tokens));
        let info = EncoderInfo {
            id: model.id.clone(),
            revision: model.revision.clone(),
            dimensions: model.dimensions() as u32,
            max_tokens: model.max_tokens as u32,
            execution_provider: resolved.provider(),
            precision: resolved.precision.as_str(),
            pooling: model.pooling,
            normalize: model.normalize,
        };
        let width = model.dimensions();
        let bulk_room = u32::try_from(options.queue_capacity / 2).unwrap_or(u32::MAX).max(1);
        let bulk = Semaphore::new(bulk_room as usize);
        let workers = Vec::with_capacity(count);
        let mut encoder = Self { info, model, tokenizer, queue, bulk, bulk_room, workers };
        for (number, session) in sessions.into_iter().enumerate() {
            let queue = Arc::clone(&encoder.queue);
            let worker = std::thread::Builder::new()
                .name(format!("encoder-{number}"))
                .spawn(move || queue.work(session, width))
                .map_err(|e| {
                    Error::internal("THREAD_FAILED", "cannot start a session's thread").with_source(e)
                })?;
            encoder.workers.push(worker);
        }
        Ok(Arc::new(encoder))
    }
}

/// A session that agrees with fp32; where everything is left to the program, fp32 on the CPU takes its place.
fn checked_session(
    graph: &[u8],
    model: &ModelDir,
    tokenizer: &TextTokenizer,
    wanted: SessionOptions,
) -> Result<(EncoderSession, SessionOptions)> {
    let plain =
        SessionOptions { device: Device::Cpu, precision: Precision::Fp32, threads: wanted.threads.max(1) };
    let width = model.dimensions();
    let resolved = wanted.resolve()?;
    if resolved == plain {
        return Ok((EncoderSession::load(graph, width, plain)?, plain));
    }
    let mut reference = EncoderSession::load(graph, width, plain)?;
    let tried = EncoderSession::load(graph, width, resolved).and_then(|mut session| {
        let cosine = verify::verify(tokenizer, width, &mut reference, &mut session)?;
        tracing::info!(
            provider = resolved.provider(),
            precision = resolved.precision.as_str(),
            cosine,
            "encoder checked"
        );
        Ok(session)
    });
    match tried {
        Ok(session) => Ok((session, resolved)),
        Err(error) if wanted.device == Device::Auto && wanted.precision == Precision::Auto => {
            tracing::warn!(%error, provider = resolved.provider(), "falling back to fp32 on the CPU");
            Ok((reference, plain))
        }
        Err(error) => Err(error),
    }
}
