//! A collection that grows: searches over gRPC (latency, rate, recall against an exact scan, while documents come in),
//! what the ingest costs, bytes, time to open, and time to be back after SIGKILL in the middle of an ingest.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use common::report::{Report, median, milliseconds};
use common::{Common, Outcome, client, corpus, process, server};
use tonic::transport::Channel;
use trove::encoder::{Encoder, EncoderOptions};
use trove::model::Runtime;
use trove::proto;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::search_service_client::SearchServiceClient;

const COLLECTION: &str = "bench";
/// Takes what comes in while searches are timed.
const OTHER: &str = "bench-incoming";
/// Hits that recall is measured on.
const TOP: usize = 10;
/// Scores this close are the same.
const TIE: f32 = 1e-6;
/// Records kept out of the collection: the queries are their sentences, and they come in during searches.
const HELD_OUT: usize = 2000;
/// How long a killed server may take until it has its keywords back.
const RECOVERY: Duration = Duration::from_secs(600);

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Documents that the collection has when it is measured, ascending: it grows from one to the next.
    #[arg(long, value_delimiter = ',', default_value = "2000")]
    sizes: Vec<usize>,
    /// Where the collection is kept, to go on with; without it it is made anew.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Writes the vectors of the passages, once the collection has its last size, for the bench of the index.
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,
    /// Queries.
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// Times that every case is run.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds that a case runs in a round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Model directory under models/.
    #[arg(long, default_value = "all-MiniLM-L6-v2")]
    model: String,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Queries as texts and as vectors.
struct Queries {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

/// One way to search.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    clients: usize,
    by_vector: bool,
    mode: proto::SearchMode,
    while_ingesting: bool,
}

#[derive(Default)]
struct Sample {
    rate: f64,
    latencies: Vec<Duration>,
}

fn main() -> Outcome {
    let args = Args::parse();
    let Some(models) = args.common.models() else { return Ok(()) };
    Runtime::init(&models.join("runtime"))?;
    let most = args.sizes.iter().copied().max().unwrap_or(0) + HELD_OUT;
    let corpus = {
        // Only its tokenizer is needed; the sessions go before anything is timed.
        let encoder = Encoder::load(&models.join("models").join(&args.model), EncoderOptions::default())?;
        corpus::read(&args.common, &encoder, most)?
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(&args, &models, corpus)).map_err(|e| e.to_string().into())
}

async fn run(args: &Args, models: &Path, corpus: corpus::Corpus) -> Result<(), Failure> {
    let at = corpus.records.len().saturating_sub(HELD_OUT.min(corpus.records.len() / 2));
    let (records, held_out) = corpus.records.split_at(at);
    let mut texts = corpus::short(held_out);
    texts.truncate(args.queries);
    let empty = tempfile::tempdir()?;
    server::borrow_models(models, empty.path())?;
    let (base, vectors) = {
        let server = start(empty.path()).await?;
        let vectors = embed(&server.channel().await?, &texts).await?;
        let base = (server.opened, process::resident_bytes(server.pid()));
        server.stop().await.map_err(|e| e.to_string())?;
        (base, vectors)
    };
    let queries = Arc::new(Queries { texts, vectors });
    let title = format!(
        "A collection of {}; open and memory beyond an empty server's {:.2} s and {} MB",
        corpus.name,
        base.0.as_secs_f64(),
        base.1 >> 20
    );
    let columns =
        ["documents", "passages", "open s", "RSS bytes a passage", "disk bytes a passage", "recall@10"];
    let mut state = Report::new(title, &columns);
    let columns = ["documents", "search by", "clients", "searches/s", "p50 ms", "p99 ms"];
    let mut speed = Report::new("Searches over gRPC, 10 hits", &columns);
    let columns =
        ["documents", "answers after s", "vector search after s", "hybrid search after s", "at rest after s"];
    let mut recovery =
        Report::new("After SIGKILL in the middle of an ingest, from the start of the process", &columns);
    let columns = ["documents", "stage", "CPU s", "% of the CPU time"];
    let mut cost = Report::new("Processor time of the ingest", &columns);
    let columns = ["documents", "added", "passages/s", "settled after s"];
    let mut rate = Report::new("Ingest, from the first document to the last acknowledgement", &columns);
    let temporary = tempfile::tempdir()?;
    let data = args.data_dir.as_deref().unwrap_or_else(|| temporary.path());
    server::borrow_models(models, data)?;
    for &wanted in &args.sizes {
        let size = wanted.min(records.len());
        if let Some(growth) = grow(data, &records[..size]).await? {
            growth.report(size, &mut rate, &mut cost);
        }
        let server = start(data).await?;
        let channel = server.channel().await?;
        let (documents, passages) = client::collection(&channel, COLLECTION).await?;
        let recall = recall(&channel, &queries).await?;
        let per_passage = |bytes: u64| format!("{:.0}", bytes as f64 / passages.max(1) as f64);
        state.row(vec![
            documents.to_string(),
            passages.to_string(),
            format!("{:.2}", server.opened.as_secs_f64() - base.0.as_secs_f64()),
            per_passage(process::resident_bytes(server.pid()).saturating_sub(base.1)),
            per_passage(["store", "keywords"].map(|part| process::disk_bytes(&data.join(part))).iter().sum()),
            format!("{recall:.4}"),
        ]);
        for (case, samples) in measure(args, &channel, &queries, held_out).await? {
            let rates: Vec<f64> = samples.iter().map(|sample| sample.rate).collect();
            let latencies: Vec<Duration> = samples.into_iter().flat_map(|sample| sample.latencies).collect();
            speed.row(vec![
                documents.to_string(),
                case.name.to_owned(),
                case.clients.to_string(),
                format!("{:.0}", median(&rates)),
                milliseconds(&latencies, 0.5),
                milliseconds(&latencies, 0.99),
            ]);
        }
        if let Some(path) = args.vectors.as_deref().filter(|_| args.sizes.last() == Some(&wanted)) {
            let count = client::write_vectors(&channel, COLLECTION, path).await?;
            eprintln!("wrote {count} vectors to {}", path.display());
        }
        let times = recover(server, data, &queries, held_out).await?;
        let times = times.iter().map(|time| format!("{:.2}", time.as_secs_f64()));
        recovery.row(std::iter::once(documents.to_string()).chain(times).collect());
    }
    [rate, cost, state, speed, recovery].iter().for_each(|report| report.print(args.common.json));
    Ok(())
}

async fn start(data: &Path) -> Result<server::Server, Failure> {
    server::Server::start(data).await.map_err(|e| e.to_string().into())
}

/// What it took to add documents.
struct Growth {
    added: usize,
    passages: u64,
    /// To the last acknowledgement.
    ingest: Duration,
    /// From then until nothing was left to build.
    settle: Duration,
    stages: BTreeMap<&'static str, f64>,
    cpu_seconds: f64,
}

impl Growth {
    fn report(&self, size: usize, rate: &mut Report, cost: &mut Report) {
        rate.row(vec![
            size.to_string(),
            self.added.to_string(),
            format!("{:.0}", self.passages as f64 / self.ingest.as_secs_f64()),
            format!("{:.0}", self.settle.as_secs_f64()),
        ]);
        for (stage, seconds) in &self.stages {
            let part = 100.0 * seconds / self.cpu_seconds.max(f64::EPSILON);
            cost.row(vec![
                size.to_string(),
                (*stage).to_owned(),
                format!("{seconds:.1}"),
                format!("{part:.1}"),
            ]);
        }
    }
}

/// Adds the documents that the collection does not have yet and lets the index settle.
async fn grow(data: &Path, records: &[corpus::Record]) -> Result<Option<Growth>, Failure> {
    let server = start(data).await?;
    let channel = server.channel().await?;
    client::collection(&channel, COLLECTION).await?;
    // An ingest that broke off leaves gaps.
    let mut others = client::titles(&channel, COLLECTION).await?;
    let missing: Vec<_> = records.iter().filter(|r| others.remove(&r.id).is_none()).cloned().collect();
    if let Some(other) = others.keys().next() {
        let (wanted, here) = (records.len(), data.display());
        return Err(format!("{here} has documents beyond the {wanted} wanted, such as {other}").into());
    }
    let before = process::Usage::of(server.pid());
    let began = Instant::now();
    let (added, mut passages) = (missing.len(), 0);
    if added > 0 {
        eprintln!("adding {added} documents in {}", data.display());
        passages = client::ingest(&channel, COLLECTION, missing).await?;
    }
    let ingest = began.elapsed();
    let settle = client::settle(server.pid()).await;
    let (stages, cpu_seconds) = process::Usage::of(server.pid()).since(&before);
    server.stop().await.map_err(|e| e.to_string())?;
    Ok((added > 0).then_some(Growth { added, passages, ingest, settle, stages, cpu_seconds }))
}

/// Kills the server while documents come in and starts it again: until it answers a call, a search by vectors and a
/// hybrid search in the large collection, and until its index is at rest.
async fn recover(
    mut server: server::Server,
    data: &Path,
    queries: &Queries,
    held_out: &[corpus::Record],
) -> Result<[Duration; 4], Failure> {
    let (stop, task) = incoming(&server.channel().await?, held_out);
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.kill()?;
    stop.store(true, Ordering::Relaxed);
    // It ends with the connection.
    let _ = task.await;
    let began = Instant::now();
    let server = start(data).await?;
    let channel = server.channel().await?;
    let mut client = SearchServiceClient::new(channel.clone());
    let query = proto::search_query::Query::Text(queries.texts[0].clone());
    client.search(request(query.clone(), proto::SearchMode::Vector, false)).await?;
    let by_vector = began.elapsed();
    // While its keywords are being rebuilt, a hybrid search goes by vectors alone.
    let hybrid = || request(query.clone(), proto::SearchMode::Hybrid, false);
    while client.search(hybrid()).await?.into_inner().mode() != proto::SearchMode::Hybrid {
        if began.elapsed() > RECOVERY {
            return Err("the keyword index did not come back in time".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let hybrid = began.elapsed();
    let at_rest = hybrid + client::settle(server.pid()).await;
    forget(&channel).await?;
    let opened = server.opened;
    server.stop().await.map_err(|e| e.to_string())?;
    Ok([opened, by_vector, hybrid, at_rest])
}

async fn embed(channel: &Channel, texts: &[String]) -> Result<Vec<Vec<f32>>, tonic::Status> {
    let mut client = EmbeddingServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    let overflow = proto::Overflow::TruncateRight as i32;
    let options = Some(proto::EmbedOptions { overflow, ..Default::default() });
    let response = client.embed(proto::EmbedRequest { inputs: texts.to_vec(), options }).await?.into_inner();
    let first = |result: proto::EmbedResult| result.embeddings.into_iter().next().and_then(|e| e.vector);
    Ok(response.results.into_iter().filter_map(first).map(|vector| vector.values).collect())
}

fn request(query: proto::search_query::Query, mode: proto::SearchMode, exact: bool) -> proto::SearchRequest {
    proto::SearchRequest {
        collection: COLLECTION.to_owned(),
        query: Some(proto::SearchQuery { query: Some(query) }),
        limit: TOP as u32,
        mode: mode.into(),
        exact,
        ..Default::default()
    }
}

fn vector(values: &[f32]) -> proto::search_query::Query {
    proto::search_query::Query::Vector(proto::DenseVector { values: values.to_vec() })
}

/// The part of the exactly nearest passages that a search with the default settings finds.
async fn recall(channel: &Channel, queries: &Queries) -> Result<f64, tonic::Status> {
    let mut client = SearchServiceClient::new(channel.clone());
    let (mut found, mut wanted) = (0, 0);
    for values in &queries.vectors {
        let mut scores = [Vec::new(), Vec::new()];
        for (exact, scores) in [false, true].into_iter().zip(&mut scores) {
            let request = request(vector(values), proto::SearchMode::Vector, exact);
            let hits = client.search(request).await?.into_inner().hits;
            scores.extend(hits.into_iter().map(|hit| hit.score));
        }
        // Of equal passages any may be found.
        let [got, exact] = scores;
        let bound = exact.iter().copied().fold(f32::INFINITY, f32::min) - TIE;
        wanted += exact.len();
        found += got.into_iter().filter(|&score| score >= bound).count();
    }
    Ok(found as f64 / wanted.max(1) as f64)
}

/// Every case once a round.
async fn measure(
    args: &Args,
    channel: &Channel,
    queries: &Arc<Queries>,
    held_out: &[corpus::Record],
) -> Result<Vec<(Case, Vec<Sample>)>, Failure> {
    use proto::SearchMode::{Hybrid, Vector};
    let mut cases = Vec::new();
    for clients in [1, 4, 16] {
        for (name, by_vector, mode) in
            [("vector", true, Vector), ("text", false, Vector), ("text, hybrid", false, Hybrid)]
        {
            cases.push((Case { name, clients, by_vector, mode, while_ingesting: false }, Vec::new()));
        }
    }
    for clients in [1, 4] {
        let name = "text, while documents come in";
        let case = Case { name, clients, by_vector: false, mode: Vector, while_ingesting: true };
        cases.push((case, Vec::new()));
    }
    for round in 0..args.rounds {
        for (case, samples) in &mut cases {
            let time = Duration::from_secs_f64(args.seconds);
            let incoming = case.while_ingesting.then(|| incoming(channel, held_out));
            if incoming.is_some() {
                // Time enough for the sessions to be busy.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            samples.push(search(channel, queries, case, time).await?);
            if let Some((stop, task)) = incoming {
                stop.store(true, Ordering::Relaxed);
                task.await??;
                forget(channel).await?;
            }
        }
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    Ok(cases)
}

async fn search(
    channel: &Channel,
    queries: &Arc<Queries>,
    case: &Case,
    time: Duration,
) -> Result<Sample, Failure> {
    let started = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..case.clients {
        let mut client = SearchServiceClient::new(channel.clone());
        let (queries, next, case) = (queries.clone(), next.clone(), *case);
        clients.spawn(async move {
            let mut latencies = Vec::new();
            while started.elapsed() < time {
                let at = next.fetch_add(1, Ordering::Relaxed) % queries.texts.len();
                let query = match case.by_vector {
                    true => vector(&queries.vectors[at]),
                    false => proto::search_query::Query::Text(queries.texts[at].clone()),
                };
                let called = Instant::now();
                client.search(request(query, case.mode, false)).await?;
                latencies.push(called.elapsed());
            }
            Ok::<_, tonic::Status>(latencies)
        });
    }
    let mut sample = Sample::default();
    while let Some(joined) = clients.join_next().await {
        sample.latencies.extend(joined??);
    }
    sample.rate = sample.latencies.len() as f64 / started.elapsed().as_secs_f64();
    Ok(sample)
}

type Incoming = (Arc<AtomicBool>, tokio::task::JoinHandle<Result<(), Failure>>);

/// Ingests the records that were held out, again and again under new ids, until told to stop.
fn incoming(channel: &Channel, held_out: &[corpus::Record]) -> Incoming {
    let stop = Arc::new(AtomicBool::new(false));
    let (channel, records, stopped) = (channel.clone(), held_out.to_vec(), stop.clone());
    let task = tokio::spawn(async move {
        client::collection(&channel, OTHER).await?;
        let parts = records.len().div_ceil(256).max(1);
        for turn in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let (number, from) = (turn / parts, turn % parts * 256);
            let part = records[from..]
                .iter()
                .take(256)
                .map(|record| corpus::Record { id: format!("{}-{number}", record.id), ..record.clone() });
            let part = part.collect();
            client::ingest(&channel, OTHER, part).await?;
        }
        Ok(())
    });
    (stop, task)
}

/// Deletes what came in.
async fn forget(channel: &Channel) -> Result<(), tonic::Status> {
    let request =
        proto::DeleteCollectionRequest { name: OTHER.to_owned(), force: true, ..Default::default() };
    let mut client = proto::collection_service_client::CollectionServiceClient::new(channel.clone());
    client.delete_collection(request).await.map(drop)
}
