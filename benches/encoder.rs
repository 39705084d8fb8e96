//! Tokens a second of the bare session, of the encoder in this process, and of the service over gRPC.
//!
//! All of it in one run and in turns, so that the ratios hold on a machine whose speed changes. The bare session runs
//! what the encoder runs, in as many sessions with as many threads, on batches of one length that were made before:
//! no tokenizing, no padding, no pooling. Beside it stand others (`--beside`) on the same batches in as many sessions,
//! first of all what ONNX Runtime does when nothing is chosen: its CPU provider in fp32.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use common::report::{Report, median, milliseconds};
use common::{Common, Outcome, corpus, process, server};
use futures::StreamExt;
use futures::future::BoxFuture;
use tonic::transport::{Channel, Endpoint};
use trove::encoder::{EmbedOptions, Encoder, EncoderOptions, Overflow};
use trove::model::{
    CudaOptions, Device, EncoderSession, LoadedModel, ModelDir, Precision, Rows, Runtime, SessionOptions,
};
use trove::proto;
use trove::proto::embedding_service_client::EmbeddingServiceClient;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Texts of one call where a call has several.
const BATCH: usize = 64;
/// Messages of a stream that are sent ahead of their answers.
const AHEAD: usize = 4;
/// Largest message that a client takes.
const MESSAGE_BYTES: usize = 64 << 20;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Times that every case is run.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that a case runs in a round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Records of the corpus to use.
    #[arg(long, default_value_t = 2000)]
    records: usize,
    /// Kinds of texts to use.
    #[arg(long, value_delimiter = ',', default_value = "short,mixed,passages")]
    texts: Vec<String>,
    /// Model directory under models/.
    #[arg(long, default_value = "all-MiniLM-L6-v2")]
    model: String,
    /// Other devices and precisions to run the bare session on, such as cpu:fp32,openvino:fp32.
    #[arg(long, value_delimiter = ',', value_parser = placed, default_value = "cpu:fp32")]
    beside: Vec<Placed>,
    /// Also drive a server that speaks text-embeddings-inference's tei.v1, such as http://127.0.0.1:8080.
    #[arg(long)]
    tei: Option<String>,
    /// Run the bare session over batch sizes and lengths instead.
    #[arg(long)]
    sweep: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A device and a precision.
type Placed = (Device, Precision);

fn placed(text: &str) -> Result<Placed, String> {
    let parts = text
        .split_once(':')
        .and_then(|(device, precision)| Some((Device::parse(device)?, Precision::parse(precision)?)));
    parts.ok_or_else(|| format!("expected DEVICE:PRECISION, such as cpu:fp32, got {text}"))
}

/// A padded batch, ready to run.
struct Batch {
    ids: Vec<i64>,
    mask: Vec<i64>,
    rows: usize,
    length: usize,
}

impl Batch {
    fn of_zeros(rows: usize, length: usize) -> Self {
        Self { ids: vec![1000; rows * length], mask: vec![1; rows * length], rows, length }
    }
}

/// Texts of one kind.
struct Workload {
    name: &'static str,
    texts: Vec<String>,
    /// Tokens of each text, special ones included.
    tokens: Vec<usize>,
    /// The same sequences in batches of one length.
    batches: Vec<Batch>,
    /// The text that comes next.
    next: AtomicUsize,
}

impl Workload {
    fn new(
        name: &'static str,
        texts: Vec<String>,
        encoder: &Encoder,
        budget: usize,
    ) -> Result<Self, Failure> {
        let most = encoder.info().max_tokens as usize;
        let mut sequences = Vec::with_capacity(texts.len());
        for text in &texts {
            let tokens = encoder.tokenize(text, true)?;
            sequences.push(tokens.iter().take(most).map(|token| i64::from(token.id)).collect::<Vec<_>>());
        }
        let tokens = sequences.iter().map(Vec::len).collect();
        sequences.sort_by_key(Vec::len);
        let mut batches = Vec::new();
        let mut rest = sequences.as_slice();
        while let Some(shortest) = rest.first() {
            let length = shortest.len();
            let (batch, after) = rest.split_at((budget / length).clamp(1, rest.len()));
            let ids: Vec<i64> = batch.iter().flat_map(|sequence| &sequence[..length]).copied().collect();
            batches.push(Batch { mask: vec![1; ids.len()], ids, rows: batch.len(), length });
            rest = after;
        }
        Ok(Self { name, texts, tokens, batches, next: AtomicUsize::new(0) })
    }

    /// The next texts, and how many tokens they have.
    fn take(&self, count: usize) -> (Vec<String>, usize) {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        let places = (first..first + count).map(|i| i % self.texts.len());
        places.fold((Vec::with_capacity(count), 0), |(mut texts, tokens), i| {
            texts.push(self.texts[i].clone());
            (texts, tokens + self.tokens[i])
        })
    }
}

/// How texts get to the model.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Bare,
    /// The bare session on the device of this place among those beside it.
    Beside(usize),
    InProcess,
    Embed,
    Stream,
    Tei,
}

/// One line of the report.
struct Case {
    workload: Arc<Workload>,
    way: Way,
    clients: usize,
    /// Texts of a call.
    batch: usize,
}

/// What a case did in a round.
#[derive(Default)]
struct Sample {
    tokens: usize,
    seconds: f64,
    cpu_seconds: f64,
    latencies: Vec<Duration>,
}

/// What the cases run against.
struct Setup {
    encoder: Arc<Encoder>,
    sessions: Vec<EncoderSession>,
    /// Those of the devices beside it.
    beside: Vec<Vec<EncoderSession>>,
    server: server::Server,
    tei: Option<String>,
}

fn main() -> Outcome {
    let args = Args::parse();
    let Some(models) = args.common.models() else { return Ok(()) };
    Runtime::init(&models.join("runtime"))?;
    let directory = models.join("models").join(&args.model);
    let encoder = Encoder::load(&directory, EncoderOptions::default())?;
    let sessions = bare_sessions(&directory, chosen(&encoder))?;
    let runtime = tokio::runtime::Runtime::new()?;
    if args.sweep {
        return sweep(&args, sessions);
    }
    let corpus = corpus::read(&args.common, &encoder, args.records)?;
    let data = tempfile::tempdir()?;
    server::borrow_models(&models, data.path())?;
    let server = runtime.block_on(server::Server::start(data.path()))?;
    let info = encoder.info();
    let title = format!(
        "Encoder: {} on {} in {}, {} sessions, {}",
        info.id,
        info.execution_provider,
        info.precision,
        sessions.len(),
        corpus.name
    );
    let budget = EncoderOptions::default().max_batch_tokens;
    let passages = corpus.records.iter().map(|record| record.text.clone()).collect();
    let workloads = [
        ("short", corpus::short(&corpus.records)),
        ("mixed", corpus::mixed(&corpus.records)),
        ("passages", passages),
    ];
    let mut cases = Vec::new();
    for (name, texts) in workloads.into_iter().filter(|(name, _)| args.texts.iter().any(|text| text == name))
    {
        let workload = Workload::new(name, texts, &encoder, budget).map_err(|e| e.to_string())?;
        cases.extend(cases_of(Arc::new(workload), &args));
    }
    let beside = args.beside.iter().map(|&placed| bare_sessions(&directory, placed));
    let beside = beside.collect::<Result<Vec<_>, _>>()?;
    let mut setup = Setup { encoder, sessions, beside, server, tei: args.tei.clone() };
    let samples = rounds(&args, &runtime, &mut setup, &cases).map_err(|e| e.to_string())?;
    report(&title, &args.beside, &cases, &samples).print(args.common.json);
    Ok(())
}

fn cases_of(workload: Arc<Workload>, args: &Args) -> Vec<Case> {
    let case = |way, clients, batch| Case { workload: workload.clone(), way, clients, batch };
    let mut cases = vec![case(Way::Bare, 1, 0)];
    cases.extend((0..args.beside.len()).map(|at| case(Way::Beside(at), 1, 0)));
    cases.push(case(Way::InProcess, 2, 4 * BATCH));
    for clients in [1, 8, 32] {
        cases.push(case(Way::Embed, clients, 1));
    }
    for clients in [1, 8] {
        cases.push(case(Way::Embed, clients, BATCH));
    }
    cases.push(case(Way::Stream, 1, BATCH));
    if args.tei.is_some() {
        cases.extend([1, 8, 32].map(|clients| case(Way::Tei, clients, 1)));
    }
    cases
}

/// The provider and the precision that the encoder runs in.
fn chosen(encoder: &Encoder) -> Placed {
    let info = encoder.info();
    let device = match info.execution_provider.to_string().as_str() {
        "OpenVINOExecutionProvider" => Device::Openvino,
        "CUDAExecutionProvider" => Device::Cuda,
        _ => Device::Cpu,
    };
    let precision = match info.precision.to_string().as_str() {
        "bf16" => Precision::Bf16,
        "int8" => Precision::Int8,
        _ => Precision::Fp32,
    };
    (device, precision)
}

/// As many sessions as the encoder has, with as many threads.
fn bare_sessions(
    directory: &std::path::Path,
    (device, precision): Placed,
) -> Result<Vec<EncoderSession>, trove::error::Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = cores.min(4);
    let threads = (cores / count).max(1);
    let options = SessionOptions { device, precision, threads, cuda: CudaOptions::default() };
    let options = options.candidates()?.swap_remove(0);
    let LoadedModel { graph, .. } = ModelDir::load(directory)?;
    let prepared = graph.prepare(&options)?;
    let graph = prepared.as_ref().unwrap_or(&graph);
    (0..count).map(|_| EncoderSession::load(graph, 0, options)).collect()
}

/// Every case once a round, after a round that is not counted.
fn rounds(
    args: &Args,
    runtime: &tokio::runtime::Runtime,
    setup: &mut Setup,
    cases: &[Case],
) -> Result<Vec<Vec<Sample>>, Failure> {
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 0..=args.rounds {
        let seconds = if round == 0 { args.seconds.min(0.5) } else { args.seconds };
        for (case, samples) in cases.iter().zip(&mut samples) {
            let sample = run(runtime, setup, case, Duration::from_secs_f64(seconds))?;
            if round > 0 {
                samples.push(sample);
            }
        }
        eprintln!("round {round} of {}", args.rounds);
    }
    Ok(samples)
}

fn run(
    runtime: &tokio::runtime::Runtime,
    setup: &mut Setup,
    case: &Case,
    time: Duration,
) -> Result<Sample, Failure> {
    let pids = [std::process::id(), setup.server.pid()];
    let cpu = || pids.iter().map(|&pid| process::cpu_seconds(pid)).sum::<f64>();
    let (before, started) = (cpu(), Instant::now());
    let mut sample = match case.way {
        Way::Bare => bare(&mut setup.sessions, &case.workload.batches, time)?,
        Way::Beside(at) => bare(&mut setup.beside[at], &case.workload.batches, time)?,
        way => runtime.block_on(drive(setup, case, way, time))?,
    };
    sample.seconds = started.elapsed().as_secs_f64();
    sample.cpu_seconds = cpu() - before;
    Ok(sample)
}

/// Runs the batches in turn, each session on a thread of its own.
fn bare(sessions: &mut [EncoderSession], batches: &[Batch], time: Duration) -> Result<Sample, Failure> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let work = |session: &mut EncoderSession| -> Result<usize, trove::error::Error> {
        let mut tokens = 0;
        while started.elapsed() < time {
            // A step that shares no factor with most counts mixes the lengths.
            let at = next.fetch_add(1, Ordering::Relaxed) * 7919 % batches.len();
            let batch = &batches[at];
            let (ids, mask) = (&batch.ids, &batch.mask);
            let rows = Rows { ids, mask, types: &[], batch: batch.rows, sequence: batch.length };
            session.run_with(&rows, |_| ())?;
            tokens += batch.rows * batch.length;
        }
        Ok(tokens)
    };
    let work = &work;
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = sessions.iter_mut().map(|session| scope.spawn(move || work(session))).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        joined.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Sample { tokens: counts.into_iter().sum(), ..Sample::default() })
}

/// One call of a client with some texts.
type Call = Box<dyn Fn(Vec<String>) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// Lets clients call until the time is over.
async fn drive(setup: &Setup, case: &Case, way: Way, time: Duration) -> Result<Sample, Failure> {
    let mut calls = Vec::with_capacity(case.clients);
    for _ in 0..case.clients {
        calls.push(match way {
            Way::InProcess => in_process(setup.encoder.clone()),
            Way::Tei => tei(Endpoint::from_shared(setup.tei.clone().unwrap_or_default())?.connect().await?),
            Way::Embed | Way::Stream | Way::Bare | Way::Beside(_) => {
                embed(client(setup.server.channel().await?))
            }
        });
    }
    let started = Instant::now();
    if way == Way::Stream {
        return stream(setup.server.channel().await?, &case.workload, case.batch, started, time).await;
    }
    let mut clients = tokio::task::JoinSet::new();
    for call in calls {
        clients.spawn(repeat(case.workload.clone(), case.batch, started, time, call));
    }
    let mut all = Sample::default();
    while let Some(joined) = clients.join_next().await {
        let sample = joined??;
        all.tokens += sample.tokens;
        all.latencies.extend(sample.latencies);
    }
    Ok(all)
}

async fn repeat(
    workload: Arc<Workload>,
    batch: usize,
    started: Instant,
    time: Duration,
    call: Call,
) -> Result<Sample, Failure> {
    let mut sample = Sample::default();
    while started.elapsed() < time {
        let (texts, tokens) = workload.take(batch);
        let called = Instant::now();
        call(texts).await?;
        sample.latencies.push(called.elapsed());
        sample.tokens += tokens;
    }
    Ok(sample)
}

fn in_process(encoder: Arc<Encoder>) -> Call {
    Box::new(move |texts| {
        let encoder = encoder.clone();
        Box::pin(async move {
            let options = EmbedOptions { overflow: Overflow::TruncateRight, ..EmbedOptions::document() };
            encoder.embed(texts, &options).await?;
            Ok(())
        })
    })
}

fn embed(client: EmbeddingServiceClient<Channel>) -> Call {
    Box::new(move |texts| {
        let mut client = client.clone();
        Box::pin(async move {
            client.embed(request(texts)).await?;
            Ok(())
        })
    })
}

/// One call of text-embeddings-inference's Embed for each text.
fn tei(channel: Channel) -> Call {
    Box::new(move |texts| {
        let channel = channel.clone();
        Box::pin(async move {
            for inputs in texts {
                let mut grpc = tonic::client::Grpc::new(channel.clone());
                grpc.ready().await?;
                let request = tonic::Request::new(TeiRequest { inputs, truncate: true, normalize: true });
                let path = tonic::codegen::http::uri::PathAndQuery::from_static("/tei.v1.Embed/Embed");
                let codec = tonic_prost::ProstCodec::<TeiRequest, TeiResponse>::default();
                let response = grpc.unary(request, path, codec).await?.into_inner();
                if response.embeddings.is_empty() {
                    return Err("the server gave an empty embedding".into());
                }
            }
            Ok(())
        })
    })
}

fn client(channel: Channel) -> EmbeddingServiceClient<Channel> {
    EmbeddingServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES)
}

fn request(inputs: Vec<String>) -> proto::EmbedRequest {
    let overflow = proto::Overflow::TruncateRight as i32;
    proto::EmbedRequest { inputs, options: Some(proto::EmbedOptions { overflow, ..Default::default() }) }
}

/// One stream of batches; a latency is the time between two answers.
async fn stream(
    channel: Channel,
    workload: &Arc<Workload>,
    batch: usize,
    started: Instant,
    time: Duration,
) -> Result<Sample, Failure> {
    let counts = Arc::new(parking_lot::Mutex::new(std::collections::VecDeque::new()));
    let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
    let sending = {
        let (workload, counts) = (workload.clone(), counts.clone());
        async move {
            while started.elapsed() < time {
                let (texts, tokens) = workload.take(batch);
                counts.lock().push_back(tokens);
                let message = proto::EmbedStreamRequest { request: Some(request(texts)) };
                if sender.send(message).await.is_err() {
                    break;
                }
            }
            Ok::<_, Failure>(())
        }
    };
    let receiving = async {
        let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut responses = client(channel).embed_stream(requests).await?.into_inner();
        let mut sample = Sample::default();
        let mut last = Instant::now();
        while responses.next().await.transpose()?.is_some() {
            sample.latencies.push(last.elapsed());
            last = Instant::now();
            sample.tokens += counts.lock().pop_front().unwrap_or(0);
        }
        Ok(sample)
    };
    tokio::try_join!(sending, receiving).map(|(_, sample)| sample)
}

/// What tei.v1's Embed takes.
#[derive(Clone, PartialEq, prost::Message)]
struct TeiRequest {
    #[prost(string, tag = "1")]
    inputs: String,
    #[prost(bool, tag = "2")]
    truncate: bool,
    #[prost(bool, tag = "3")]
    normalize: bool,
}

/// What tei.v1's Embed gives.
#[derive(Clone, PartialEq, prost::Message)]
struct TeiResponse {
    #[prost(float, repeated, tag = "1")]
    embeddings: Vec<f32>,
}

fn report(title: &str, beside: &[Placed], cases: &[Case], samples: &[Vec<Sample>]) -> Report {
    let columns = [
        "case",
        "clients",
        "texts a call",
        "tokens/s",
        "of bare",
        "tokens/CPU-s",
        "of bare, by CPU",
        "p50 ms",
        "p99 ms",
    ];
    let mut report = Report::new(title, &columns);
    let mut bare: &[Sample] = &[];
    for (case, samples) in cases.iter().zip(samples) {
        if case.way == Way::Bare {
            bare = samples;
        }
        let rate = |sample: &Sample| sample.tokens as f64 / sample.seconds.max(1e-9);
        let cpu_rate = |sample: &Sample| sample.tokens as f64 / sample.cpu_seconds.max(1e-2);
        let middle = |of: &dyn Fn(&Sample) -> f64| median(&samples.iter().map(of).collect::<Vec<_>>());
        let ratio = |of: &dyn Fn(&Sample) -> f64| {
            let ratios: Vec<f64> = samples.iter().zip(bare).map(|(own, bare)| of(own) / of(bare)).collect();
            format!("{:.3}", median(&ratios))
        };
        let latencies: Vec<Duration> = samples.iter().flat_map(|sample| &sample.latencies).copied().collect();
        let latency = |q| if latencies.is_empty() { "–".to_owned() } else { milliseconds(&latencies, q) };
        let way = match case.way {
            Way::Bare => "bare session".to_owned(),
            Way::Beside(at) => {
                let (device, precision) = beside[at];
                format!("bare session, {} {}", device.as_str(), precision.as_str())
            }
            Way::InProcess => "Encoder::embed".to_owned(),
            Way::Embed => "gRPC Embed".to_owned(),
            Way::Stream => "gRPC EmbedStream".to_owned(),
            Way::Tei => "tei.v1 Embed".to_owned(),
        };
        report.row(vec![
            format!("{}: {way}", case.workload.name),
            case.clients.to_string(),
            case.batch.to_string(),
            format!("{:.0}", middle(&rate)),
            ratio(&rate),
            format!("{:.0}", middle(&cpu_rate)),
            ratio(&cpu_rate),
            latency(0.5),
            latency(0.99),
        ]);
    }
    report
}

/// The bare sessions over batch sizes and lengths, and on lengths that change with every batch.
fn sweep(args: &Args, mut sessions: Vec<EncoderSession>) -> Outcome {
    let mut cases = Vec::new();
    for length in [8, 16, 32, 64, 128, 256] {
        for tokens in [0, 128, 256, 512, 1024, 2048, 4096] {
            let rows: usize = (tokens / length).max(1);
            if tokens == 0 || tokens >= length {
                cases.push((format!("{rows} x {length}"), vec![Batch::of_zeros(rows, length)]));
            }
        }
    }
    let changing: Vec<Batch> = (97..=160).map(|length| Batch::of_zeros(8, length)).collect();
    cases.push(("8 x 97 to 160, in turn".to_owned(), changing));
    let fresh: Vec<Batch> = (1..=400).map(|i| Batch::of_zeros(4 + i % 13, 64 + i % 127)).collect();
    cases.push(("4 to 16 x 64 to 190, 400 shapes".to_owned(), fresh));
    let mut rates: Vec<Vec<(f64, f64)>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.rounds {
        for ((_, batches), rates) in cases.iter().zip(&mut rates) {
            let before = process::cpu_seconds(std::process::id());
            let started = Instant::now();
            let time = Duration::from_secs_f64(args.seconds);
            let sample = bare(&mut sessions, batches, time).map_err(|e| e.to_string())?;
            let (wall, cpu) =
                (started.elapsed().as_secs_f64(), process::cpu_seconds(std::process::id()) - before);
            rates.push((sample.tokens as f64 / wall, sample.tokens as f64 / cpu.max(1e-2)));
        }
    }
    let mut report = Report::new(
        format!("Bare session, {} in parallel", sessions.len()),
        &["batch x length", "tokens/s", "tokens/CPU-s"],
    );
    for ((name, _), rates) in cases.into_iter().zip(rates) {
        let (wall, cpu): (Vec<f64>, Vec<f64>) = rates.into_iter().unzip();
        report.row(vec![name, format!("{:.0}", median(&wall)), format!("{:.0}", median(&cpu))]);
    }
    report.print(args.common.json);
    Ok(())
}
