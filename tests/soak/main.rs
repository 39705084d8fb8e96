//! Kills the server with SIGKILL at random moments while it is written to, read, restored and compacted from all sides,
//! starts it again, and checks that what was acknowledged is there and that everything agrees.
//!
//! `KILLS` sets how often, `SEED` what happens; `make soak` runs it for long. It prints its figures at the end.

mod archive;
#[path = "../common/mod.rs"]
mod common;
mod export;
mod house;
mod notes;
mod random;
mod round;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use futures::future::BoxFuture;
use notes::{Expected, Log, WRITERS};
use parking_lot::Mutex;
use random::Random;
use round::{Counts, Round};
use tonic::transport::Channel;
use trove::proto;

/// A graph is built of so few points, so that sealing and merging go on all the time.
const HEAD_LIMIT: &str = "48";
/// Threads that build graphs, in turn: locks behave differently with each.
const BUILD_THREADS: [&str; 3] = ["2", "4", "8"];
/// Every so many rounds the tasks end by themselves before the kill, which shows that none of their calls hangs.
const QUIET_ROUNDS: u64 = 4;
/// How long their last calls may take then.
const QUIET_TIME: Duration = Duration::from_secs(120);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

async fn start(data: &std::path::Path, round: u64) -> Server {
    let threads = BUILD_THREADS[round as usize % BUILD_THREADS.len()];
    let settings = [
        ("TROVE__INDEX__HEAD_LIMIT", HEAD_LIMIT),
        ("TROVE__INDEX__BUILD_THREADS", threads),
        ("RAYON_NUM_THREADS", threads),
    ];
    Server::start_with(data, &settings).await
}

/// Makes the collections.
async fn create_collections(channel: &Channel) {
    let chunking = Some(proto::ChunkingConfig { max_tokens: 24, overlap_tokens: 0 });
    let collection = proto::Collection { name: NOTES.to_owned(), chunking, ..Default::default() };
    create_with(channel, collection).await;
    archive::create(channel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_that_was_acknowledged() {
    let Some(models) = models() else { return };
    let (kills, seed) = (number("KILLS", 12), number("SEED", 1));
    let data = data_dir(&models);
    let counts = Arc::new(Counts::default());
    let (mut expected, mut archived) = (Expected::default(), vec![archive::State::B]);
    let (mut writes, mut documents_written, mut unanswered_writes) = (0, 0, 0);
    let mut starts = Vec::new();
    let began = Instant::now();
    for kill in 0..=kills {
        let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(kill));
        let started = Instant::now();
        let mut server = start(data.path(), kill).await;
        starts.push(started.elapsed());
        let channel = server.channel().await;
        if kill == 0 {
            create_collections(&channel).await;
        }
        notes::check(&channel, &mut expected).await;
        archive::check(&channel, &mut archived).await;
        house::check_snapshots(&channel, data.path()).await;
        house::compact_at_once(&channel).await;
        if kill == kills {
            break;
        }
        let moment = Duration::from_millis(100 + random.below(1400));
        let round = Round::default();
        let logs: Vec<_> =
            (0..WRITERS).map(|writer| Arc::new(Mutex::new(Log::new(expected.of_writer(writer))))).collect();
        let restoring = tokio::spawn(archive::restore(
            channel.clone(),
            random.fork(),
            archived.clone(),
            counts.clone(),
            round.clone(),
        ));
        let tasks: Vec<_> =
            tasks(&channel, &mut random, &logs, &counts, &round).into_iter().map(tokio::spawn).collect();
        tokio::time::sleep(moment).await;
        let ended = async {
            for task in tasks {
                task.await.unwrap();
            }
            restoring.await.unwrap()
        };
        if kill % QUIET_ROUNDS == QUIET_ROUNDS - 1 {
            round.end();
            archived = tokio::time::timeout(QUIET_TIME, ended).await.expect("a call hangs");
            server.child.kill().unwrap();
        } else {
            round.kill();
            server.child.kill().unwrap();
            archived = ended.await;
        }
        server.child.wait().unwrap();
        for log in logs {
            let log = Arc::into_inner(log).expect("its tasks have ended").into_inner();
            let (acknowledged, unanswered) = log.end();
            writes += acknowledged.len();
            documents_written += acknowledged.iter().map(Vec::len).sum::<usize>();
            unanswered_writes += usize::from(unanswered.is_some());
            expected.take(acknowledged, unanswered);
        }
    }
    assert!(writes as u64 >= kills, "{writes} writes were acknowledged");
    starts.sort_unstable();
    println!(
        "seed {seed}: {kills} kills in {:.0} s; {writes} acknowledged writes of {documents_written} documents, \
         {unanswered_writes} unanswered; {} compactions, {} snapshots, {} restores, {} exports, {} searches; \
         start to answer: median {:.2} s, longest {:.2} s",
        began.elapsed().as_secs_f64(),
        counts.compactions.get(),
        counts.snapshots.get(),
        counts.restores.get(),
        counts.exports.get(),
        counts.searches.get(),
        starts[starts.len() / 2].as_secs_f64(),
        starts[starts.len() - 1].as_secs_f64(),
    );
}

/// All that goes on in a round, but for the restores.
fn tasks(
    channel: &Channel,
    random: &mut Random,
    logs: &[Arc<Mutex<Log>>],
    counts: &Arc<Counts>,
    round: &Round,
) -> Vec<BoxFuture<'static, ()>> {
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    for (writer, log) in (0..).zip(logs) {
        tasks.push(Box::pin(notes::write(
            channel.clone(),
            writer,
            random.fork(),
            log.clone(),
            round.clone(),
        )));
    }
    let logs = logs.to_vec();
    tasks.push(Box::pin(notes::export_moments(
        channel.clone(),
        random.fork(),
        logs,
        counts.clone(),
        round.clone(),
    )));
    for _ in 0..2 {
        let (channel, counts, round) = (channel.clone(), counts.clone(), round.clone());
        tasks.push(Box::pin(notes::look(channel.clone(), random.fork(), counts.clone(), round.clone())));
        tasks.push(Box::pin(archive::look(channel.clone(), random.fork(), counts.clone(), round.clone())));
        tasks.push(Box::pin(house::compact(channel, random.fork(), counts, round)));
    }
    tasks.push(Box::pin(house::keep_snapshots(
        channel.clone(),
        random.fork(),
        counts.clone(),
        round.clone(),
    )));
    tasks
}
