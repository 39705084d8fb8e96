//! What becomes of calls when more come than the server can serve: `cargo bench --bench overload`.
//!
//! First as many callers as calls may run at once call without a pause, which gives the capacity. Then calls come at
//! fixed rates, multiples of it, whether earlier ones have ended or not, as from many users who do not wait for each
//! other. The server, its model and gRPC are the real ones; the callers run on the same machine and take a part of it.

#[path = "common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use common::report::{Report, milliseconds};
use common::{Common, Outcome, corpus, process, server};
use parking_lot::Mutex;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use trove::proto;
use trove::proto::embedding_service_client::EmbeddingServiceClient;

/// Connections of the callers.
const CONNECTIONS: usize = 16;
/// How often calls are started.
const TICK: Duration = Duration::from_millis(5);
/// Words of one text.
const WORDS: usize = 40;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Rates, as multiples of the capacity.
    #[arg(long, value_delimiter = ',', default_value = "0.5,1,2,5,10")]
    rates: Vec<f64>,
    /// Calls that the server may run at once (limits.max_concurrent_requests).
    #[arg(long, default_value_t = 64)]
    limit: usize,
}

/// What came of the calls of one rate.
#[derive(Default)]
struct Tally {
    offered: usize,
    accepted: Vec<Duration>,
    refused: Vec<Duration>,
    failed: usize,
    health: Vec<Duration>,
    resident: u64,
}

fn main() -> Outcome {
    let args = Args::parse();
    let Some(models) = args.common.models() else { return Ok(()) };
    tokio::runtime::Runtime::new()?.block_on(run(&args, &models))
}

async fn run(args: &Args, models: &std::path::Path) -> Outcome {
    let data = tempfile::tempdir()?;
    server::borrow_models(models, data.path())?;
    let limit = args.limit.to_string();
    let settings =
        [("TROVE__LIMITS__MAX_CONCURRENT_REQUESTS", limit.as_str()), ("TROVE__GENERATOR__MODELS", "none")];
    let server = server::Server::start_with(data.path(), &settings).await?;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(server.channel().await?);
    }
    let texts = Arc::new(corpus::pieces(WORDS)?);

    let time = Duration::from_secs(args.seconds);
    let capacity = closed(&channels, &texts, args.limit, time).await;
    let title = format!(
        "Embed, texts of {WORDS} words, at most {} calls at once; capacity {capacity:.0} calls/s",
        args.limit
    );
    let columns = [
        "load",
        "offered/s",
        "accepted/s",
        "refused/s",
        "failed",
        "p50 ms",
        "p99 ms",
        "refusal p99 ms",
        "health p99 ms",
        "resident MiB",
    ];
    let mut report = Report::new(title, &columns);
    for &rate in &args.rates {
        let tally = open(&channels, &texts, capacity * rate, time, server.pid()).await;
        report.row(row(&format!("{rate} x"), &tally, time));
    }
    // Nothing is left over from before.
    let tally = open(&channels, &texts, capacity * 0.5, time / 2, server.pid()).await;
    report.row(row("0.5 x, after", &tally, time / 2));
    report.print(args.common.json);
    server.stop().await
}

fn row(name: &str, tally: &Tally, time: Duration) -> Vec<String> {
    let rate = |count: usize| format!("{:.0}", count as f64 / time.as_secs_f64());
    vec![
        name.to_owned(),
        rate(tally.offered),
        rate(tally.accepted.len()),
        rate(tally.refused.len()),
        tally.failed.to_string(),
        milliseconds(&tally.accepted, 0.5),
        milliseconds(&tally.accepted, 0.99),
        milliseconds(&tally.refused, 0.99),
        milliseconds(&tally.health, 0.99),
        format!("{:.0}", tally.resident as f64 / f64::from(1 << 20)),
    ]
}

async fn embed(channel: Channel, text: String) -> Result<(), tonic::Status> {
    let overflow = proto::Overflow::TruncateRight.into();
    let options = Some(proto::EmbedOptions { overflow, ..Default::default() });
    let request = proto::EmbedRequest { inputs: vec![text], options };
    EmbeddingServiceClient::new(channel).embed(request).await.map(drop)
}

/// Calls a second of so many callers that do not pause. The first second is not counted.
async fn closed(channels: &[Channel], texts: &Arc<Vec<String>>, callers: usize, time: Duration) -> f64 {
    let warm = Instant::now() + Duration::from_secs(1);
    let end = warm + time;
    let callers = (0..callers).map(|caller| {
        let (channel, texts) = (channels[caller % channels.len()].clone(), texts.clone());
        tokio::spawn(async move {
            let mut counted = 0_u32;
            for number in 0.. {
                let text = texts[(caller * 31 + number) % texts.len()].clone();
                let done = embed(channel.clone(), text).await;
                let now = Instant::now();
                if now >= end {
                    break;
                }
                counted += u32::from(done.is_ok() && now >= warm);
            }
            counted
        })
    });
    let counts = futures::future::join_all(callers).await;
    counts.into_iter().flatten().map(f64::from).sum::<f64>() / time.as_secs_f64()
}

/// Starts calls at a rate, whether earlier ones have ended or not.
async fn open(channels: &[Channel], texts: &Arc<Vec<String>>, rate: f64, time: Duration, pid: u32) -> Tally {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let started = Instant::now();
    let (mut calls, mut offered) = (tokio::task::JoinSet::new(), 0_usize);
    let health = tokio::spawn(watch_health(channels[0].clone(), tally.clone(), started + time, pid));
    let mut ticks = tokio::time::interval(TICK);
    while started.elapsed() < time {
        ticks.tick().await;
        let due = (started.elapsed().min(time).as_secs_f64() * rate) as usize;
        for number in offered..due {
            let channel = channels[number % channels.len()].clone();
            let (text, tally) = (texts[number % texts.len()].clone(), tally.clone());
            calls.spawn(async move {
                let began = Instant::now();
                let done = embed(channel, text).await;
                let mut tally = tally.lock();
                match done {
                    Ok(()) => tally.accepted.push(began.elapsed()),
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        tally.refused.push(began.elapsed())
                    }
                    Err(_) => tally.failed += 1,
                }
            });
        }
        offered = due.max(offered);
        while calls.try_join_next().is_some() {}
    }
    calls.join_all().await;
    // A task that failed has nothing to tell.
    let _ = health.await;
    let mut tally = std::mem::take(&mut *tally.lock());
    tally.offered = offered;
    tally
}

async fn watch_health(channel: Channel, tally: Arc<Mutex<Tally>>, end: Instant, pid: u32) {
    let mut client = HealthClient::new(channel);
    while Instant::now() < end {
        let began = Instant::now();
        let healthy = client.check(HealthCheckRequest::default()).await.is_ok();
        let resident = process::resident_bytes(pid);
        {
            let mut tally = tally.lock();
            tally.failed += usize::from(!healthy);
            tally.health.push(began.elapsed());
            tally.resident = tally.resident.max(resident);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
