//! Hours of everything at once: `cargo bench --bench traffic -- --minutes 60`.
//!
//! Writers replace and delete documents of a collection that stays as large as it is; others search it in every mode,
//! read it, ask it, embed texts, leave in the middle of answers, come back over new connections; somebody compacts it
//! and makes snapshots. What has to hold is that nothing fails, that memory and disk do not grow, and that after
//! SIGKILL and a new start every document is as its last acknowledged write left it.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use common::corpus::{self, Record};
use common::report::{Report, milliseconds};
use common::{Common, Outcome, client, process, server};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::admin_service_client::AdminServiceClient;
use trove::proto::answer_service_client::AnswerServiceClient;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::document_service_client::DocumentServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::search_service_client::SearchServiceClient;

const NAME: &str = "traffic";
/// Words of a document.
const WORDS: usize = 300;
/// Calls of a caller on one connection.
const CALLS_OF_A_CONNECTION: u64 = 200;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// How long.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Documents of the collection.
    #[arg(long, default_value_t = 2000)]
    documents: usize,
    /// Milliseconds that each caller waits between its calls.
    #[arg(long, default_value_t = 100)]
    pause: u64,
    /// Rows of the table.
    #[arg(long, default_value_t = 12)]
    rows: u32,
}

/// What is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Write,
    Search,
    Read,
    Answer,
    Leave,
    Embed,
    Keep,
}

/// Callers of each kind.
const CALLERS: [(Kind, u64); 7] = [
    (Kind::Write, 2),
    (Kind::Search, 3),
    (Kind::Read, 1),
    (Kind::Answer, 1),
    (Kind::Leave, 1),
    (Kind::Embed, 1),
    (Kind::Keep, 1),
];

/// What came of the calls since the last row.
#[derive(Default)]
struct Tally {
    times: BTreeMap<Kind, Vec<Duration>>,
    failures: Vec<String>,
}

struct Traffic {
    texts: Vec<String>,
    /// The title that each document has by its last acknowledged write; `None` where it is deleted.
    written: Mutex<BTreeMap<String, Option<String>>>,
    tally: Mutex<Tally>,
    documents: u64,
    writers: u64,
    writes: AtomicU64,
    pause: Duration,
    end: Instant,
    has_generator: bool,
}

fn main() -> Outcome {
    let args = Args::parse();
    let Some(models) = args.common.models() else { return Ok(()) };
    tokio::runtime::Runtime::new()?.block_on(run(&args, &models))
}

async fn run(args: &Args, models: &Path) -> Outcome {
    let data = tempfile::tempdir()?;
    server::borrow_models(models, data.path())?;
    let mut server = server::Server::start(data.path()).await?;
    let channel = server.channel().await?;
    let texts = corpus::pieces(WORDS)?;
    common::client::collection(&channel, NAME).await?;
    let first: Vec<Record> = (0..args.documents)
        .map(|n| Record { id: id(n as u64), title: "0".to_owned(), text: texts[n % texts.len()].clone() })
        .collect();
    let written = first.iter().map(|record| (record.id.clone(), Some(record.title.clone()))).collect();
    common::client::ingest(&channel, NAME, first).await.map_err(|error| error.to_string())?;
    let info = proto::GetServerInfoRequest::default();
    let info = AdminServiceClient::new(channel.clone()).get_server_info(info).await?.into_inner();
    let has_generator = info.models.iter().any(|model| model.kind() == proto::ModelKind::Generator);

    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let traffic = Arc::new(Traffic {
        texts,
        written: Mutex::new(written),
        tally: Mutex::default(),
        documents: args.documents as u64,
        writers: CALLERS.iter().filter(|(kind, _)| *kind == Kind::Write).map(|(_, count)| count).sum(),
        writes: AtomicU64::new(1),
        pause: Duration::from_millis(args.pause),
        end: Instant::now() + time,
        has_generator,
    });
    let mut callers = tokio::task::JoinSet::new();
    for (kind, count) in CALLERS {
        for number in 0..count {
            let (traffic, url) = (traffic.clone(), server.url().to_owned());
            callers.spawn(async move { traffic.call(kind, number, &url).await });
        }
    }
    let title = format!("{} documents, {:.0} minutes of mixed calls", args.documents, args.minutes);
    let columns = [
        "minute",
        "calls",
        "failed",
        "search p99 ms",
        "write p99 ms",
        "resident MiB",
        "without files MiB",
        "disk MiB",
        "CPU s",
    ];
    let mut report = Report::new(title, &columns);
    let mut all_failures = Vec::new();
    let mut calls = BTreeMap::<Kind, usize>::new();
    for row in 1..=args.rows {
        let busy = process::cpu_seconds(server.pid());
        tokio::time::sleep(time / args.rows).await;
        let tally = std::mem::take(&mut *traffic.tally.lock());
        let p99 = |kind| milliseconds(tally.times.get(&kind).map_or(&[][..], |times| times), 0.99);
        let mebibytes = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
        tally.times.iter().for_each(|(kind, times)| *calls.entry(*kind).or_default() += times.len());
        report.row(vec![
            format!("{:.1}", args.minutes * f64::from(row) / f64::from(args.rows)),
            tally.times.values().map(Vec::len).sum::<usize>().to_string(),
            tally.failures.len().to_string(),
            p99(Kind::Search),
            p99(Kind::Write),
            mebibytes(process::resident_bytes(server.pid())),
            mebibytes(process::anonymous_bytes(server.pid())),
            mebibytes(process::disk_bytes(data.path())),
            format!("{:.0}", process::cpu_seconds(server.pid()) - busy),
        ]);
        all_failures.extend(tally.failures);
    }
    callers.join_all().await;
    all_failures.extend(std::mem::take(&mut *traffic.tally.lock()).failures);
    report.print(args.common.json);
    println!("\ncalls: {calls:?}");
    all_failures.iter().take(10).for_each(|failure| println!("failed: {failure}"));

    server.kill()?;
    let server = server::Server::start(data.path()).await?;
    let wrong = traffic.differing(&server.channel().await?).await?;
    println!(
        "after SIGKILL: an answer after {:.1} s, {} of {} documents differ from their last acknowledged write",
        server.opened.as_secs_f64(),
        wrong,
        args.documents
    );
    server.stop().await?;
    match all_failures.len() + wrong {
        0 => Ok(()),
        _ => Err("calls failed, or documents are wrong".into()),
    }
}

fn id(number: u64) -> String {
    format!("document-{number:05}")
}

impl Traffic {
    /// Calls until the time is over.
    async fn call(self: Arc<Self>, kind: Kind, caller: u64, url: &str) {
        let mut number = 0;
        while Instant::now() < self.end {
            let channel = match server::connect(url).await {
                Ok(channel) => channel,
                Err(error) => {
                    self.tally.lock().failures.push(format!("{kind:?}: {error}"));
                    tokio::time::sleep(self.pause).await;
                    continue;
                }
            };
            for _ in 0..CALLS_OF_A_CONNECTION {
                if Instant::now() >= self.end {
                    return;
                }
                let began = Instant::now();
                let done = self.one(kind, caller, number, &channel).await;
                {
                    let mut tally = self.tally.lock();
                    match done {
                        Ok(()) => tally.times.entry(kind).or_default().push(began.elapsed()),
                        Err(status) => tally.failures.push(format!(
                            "{kind:?}: {:?}: {}",
                            status.code(),
                            status.message()
                        )),
                    }
                }
                number += 1;
                // Keeping house is dear: now and then is enough.
                let pause = if kind == Kind::Keep { self.pause * 100 } else { self.pause };
                tokio::time::sleep(pause.min(self.end.saturating_duration_since(Instant::now()))).await;
            }
        }
    }

    fn one<'a>(
        &'a self,
        kind: Kind,
        caller: u64,
        number: u64,
        channel: &'a Channel,
    ) -> BoxFuture<'a, Result<(), Status>> {
        match kind {
            Kind::Write => Box::pin(self.write(caller, number, channel)),
            Kind::Search => Box::pin(self.search(caller, number, channel)),
            Kind::Read => Box::pin(self.read(number, channel)),
            Kind::Answer => Box::pin(self.answer(number, channel, false)),
            Kind::Leave => Box::pin(self.answer(number, channel, true)),
            Kind::Embed => Box::pin(self.embed(number, channel)),
            Kind::Keep => Box::pin(keep_house(number, channel)),
        }
    }

    fn text(&self, number: u64) -> &str {
        &self.texts[(number as usize).wrapping_mul(7919) % self.texts.len()]
    }

    /// The first words of a text.
    fn question(&self, number: u64) -> String {
        self.text(number).split_whitespace().take(8).collect::<Vec<_>>().join(" ")
    }

    /// Replaces a document of this writer, another title alone, or deletes it.
    async fn write(&self, writer: u64, number: u64, channel: &Channel) -> Result<(), Status> {
        let serial = self.writes.fetch_add(1, Ordering::Relaxed);
        let mine = self.documents / self.writers;
        let id = id(serial.wrapping_mul(2_654_435_761) % mine * self.writers + writer);
        let mut client = DocumentServiceClient::new(channel.clone());
        if number % 10 == 9 {
            let ids = proto::StringList { values: vec![id.clone()] };
            let filter = Some(proto::Filter { node: Some(proto::filter::Node::DocumentIds(ids)) });
            let request = proto::DeleteDocumentsRequest { collection: NAME.to_owned(), filter };
            client.delete_documents(request).await?;
            self.written.lock().insert(id, None);
            return Ok(());
        }
        let parity = proto::MetadataValue {
            kind: Some(proto::metadata_value::Kind::StringValue((serial % 2).to_string())),
        };
        let document = proto::Document {
            id: id.clone(),
            title: serial.to_string(),
            metadata: [("parity".to_owned(), parity)].into(),
            content: Some(proto::document::Content::Text(self.text(serial / 4).to_owned())),
            ..Default::default()
        };
        let request = proto::UpsertDocumentsRequest {
            collection: NAME.to_owned(),
            documents: vec![document],
            ..Default::default()
        };
        let results = client.upsert_documents(request).await?.into_inner().results;
        if let Some(failed) = results.iter().find(|result| result.error_code != 0) {
            return Err(Status::unknown(format!("{}: {}", failed.error_reason, failed.error_message)));
        }
        self.written.lock().insert(id, Some(serial.to_string()));
        Ok(())
    }

    async fn search(&self, caller: u64, number: u64, channel: &Channel) -> Result<(), Status> {
        use proto::SearchMode::{Hybrid, Keyword, Vector};
        let filter = (number % 4 == 3).then(|| {
            let parity =
                proto::MetadataValue { kind: Some(proto::metadata_value::Kind::StringValue("1".to_owned())) };
            let test = Some(proto::field_condition::Test::Equals(parity));
            let condition = proto::FieldCondition { key: "parity".to_owned(), test };
            proto::Filter { node: Some(proto::filter::Node::Field(condition)) }
        });
        let text = self.question(number * 3 + caller);
        let request = proto::SearchRequest {
            collection: NAME.to_owned(),
            query: Some(proto::SearchQuery { query: Some(proto::search_query::Query::Text(text)) }),
            mode: [Hybrid, Vector, Keyword][(number % 3) as usize].into(),
            include_highlights: number.is_multiple_of(2),
            filter,
            ..Default::default()
        };
        let response = SearchServiceClient::new(channel.clone()).search(request).await?.into_inner();
        if response.damaged_hits > 0 {
            return Err(Status::data_loss("hits are damaged"));
        }
        Ok(())
    }

    async fn read(&self, number: u64, channel: &Channel) -> Result<(), Status> {
        let mut client = DocumentServiceClient::new(channel.clone());
        let collection = NAME.to_owned();
        if number.is_multiple_of(4) {
            let request = proto::ListDocumentsRequest { collection, page_size: 50, ..Default::default() };
            return client.list_documents(request).await.map(drop);
        }
        let document_id = id(number.wrapping_mul(2_654_435_761) % self.documents);
        let request = proto::GetDocumentRequest { collection, document_id, ..Default::default() };
        match client.get_document(request).await {
            Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    /// Asks; one who leaves reads the first events alone.
    async fn answer(&self, number: u64, channel: &Channel, leaves: bool) -> Result<(), Status> {
        let mode = match self.has_generator && (leaves || number.is_multiple_of(8)) {
            true => proto::AnswerMode::Generative,
            false => proto::AnswerMode::Extractive,
        };
        let request = proto::AnswerRequest {
            search: Some(proto::SearchRequest { collection: NAME.to_owned(), ..Default::default() }),
            question: format!("What about {}?", self.question(number)),
            mode: mode.into(),
            sampling: Some(proto::SamplingOptions { max_tokens: 32, ..Default::default() }),
            ..Default::default()
        };
        let mut events = AnswerServiceClient::new(channel.clone()).answer(request).await?.into_inner();
        let mut read = 0;
        while events.message().await?.is_some() {
            read += 1;
            if leaves && read == 2 {
                break;
            }
        }
        Ok(())
    }

    async fn embed(&self, number: u64, channel: &Channel) -> Result<(), Status> {
        let inputs = (0..4).map(|n| self.question(number * 5 + n)).collect();
        let request = proto::EmbedRequest { inputs, options: None };
        EmbeddingServiceClient::new(channel.clone()).embed(request).await.map(drop)
    }

    /// How many documents are not as their last acknowledged write left them.
    async fn differing(&self, channel: &Channel) -> Result<usize, Status> {
        let stored = client::titles(channel, NAME).await?;
        let written = self.written.lock();
        let is_wrong = |(id, title): &(&String, &Option<String>)| stored.get(*id) != title.as_ref();
        let strangers = stored.keys().filter(|id| !written.contains_key(*id)).count();
        Ok(written.iter().filter(is_wrong).count() + strangers)
    }
}

/// In turns: a snapshot, its check, the deletion of all but the newest, a compaction.
async fn keep_house(number: u64, channel: &Channel) -> Result<(), Status> {
    let mut admin = AdminServiceClient::new(channel.clone());
    let list = proto::ListSnapshotsRequest { page_size: 1000, ..Default::default() };
    match number % 4 {
        0 => admin.create_snapshot(proto::CreateSnapshotRequest::default()).await.map(drop),
        1 => {
            for snapshot in admin.list_snapshots(list).await?.into_inner().snapshots {
                admin.verify_snapshot(proto::VerifySnapshotRequest { name: snapshot.name }).await?;
            }
            Ok(())
        }
        2 => {
            for snapshot in admin.list_snapshots(list).await?.into_inner().snapshots.into_iter().skip(1) {
                admin.delete_snapshot(proto::DeleteSnapshotRequest { name: snapshot.name }).await?;
            }
            Ok(())
        }
        _ => {
            let request = proto::CompactCollectionRequest { name: NAME.to_owned() };
            CollectionServiceClient::new(channel.clone()).compact_collection(request).await.map(drop)
        }
    }
}
