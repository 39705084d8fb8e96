//! `trove index`.

mod read;
mod records;
mod walk;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::args::IndexArgs;
use super::client::Client;
use super::failure::{Usage, code_name, describe_status};
use super::{EXIT_FAILED, EXIT_OK, documents, output};
use crate::proto::ingest_documents_response::Event;
use crate::proto::{
    Document, DocumentResult, DocumentStatus, GetServerInfoRequest, IngestDocumentsRequest, IngestStart,
    ingest_documents_request::Part,
};
use read::Item;
use walk::FoundFile;

/// Room left in a message for what is not content.
const MESSAGE_SLACK: u64 = 64 << 10;

/// Counts of one run.
#[derive(Debug, Default)]
struct Tally {
    indexed: u64,
    unchanged: u64,
    failed: u64,
    passages: u64,
    deleted: i64,
    interrupted: bool,
    seen: HashSet<String>,
}

/// Indexes files and folders; exit code 1 if anything failed.
pub async fn run(client: &Client, json: bool, args: IndexArgs) -> Result<i32> {
    refuse_same_names(&args.paths)?;
    let limits = client
        .admin()
        .get_server_info(GetServerInfoRequest {})
        .await?
        .into_inner()
        .limits
        .unwrap_or_default();
    client.ensure_collection(&args.collection, "").await?;
    let max_bytes = match limits.max_message_bytes {
        0 => u64::MAX,
        bytes => bytes.saturating_sub(MESSAGE_SLACK),
    };
    let (files, problems) = find(args.paths.clone(), args.extensions.clone()).await?;
    let bar = progress_bar(files.len() as u64)?;
    let mut tally = Tally::default();
    for (place, reason) in &problems {
        fail(&bar, &mut tally, place, reason);
    }
    let complete_walk = problems.is_empty();
    let items = read::start(files, max_bytes);
    let sent = ingest(client, &args, items, &bar, &mut tally).await;
    bar.finish_and_clear();
    sent?;
    if args.delete_missing {
        if complete_walk && !tally.interrupted {
            tally.deleted = delete_missing(client, &args, &tally.seen).await?;
        } else {
            eprintln!("nothing was deleted, because not every file was seen");
        }
    }
    report(json, &args.collection, &tally)?;
    Ok(if tally.failed > 0 || tally.interrupted { EXIT_FAILED } else { EXIT_OK })
}

/// Two roots of one name would give their files the same ids.
fn refuse_same_names(paths: &[PathBuf]) -> Result<()> {
    let mut names = HashSet::new();
    for path in paths {
        let name = walk::root_name(path);
        if !names.insert(name.clone()) {
            let message = format!(
                "two paths are named {name:?}, so their document ids would collide; index them into separate collections"
            );
            return Err(Usage(message).into());
        }
    }
    Ok(())
}

async fn find(
    paths: Vec<PathBuf>,
    extensions: Vec<String>,
) -> Result<(Vec<FoundFile>, Vec<(String, String)>)> {
    let task = tokio::task::spawn_blocking(move || {
        let mut problems = Vec::new();
        let mut files: Vec<FoundFile> = Vec::new();
        for root in &paths {
            files.extend(walk::walk(root, &extensions, &mut problems));
        }
        (files, problems)
    });
    task.await.context("looking for files")
}

fn progress_bar(length: u64) -> Result<ProgressBar> {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} documents  {per_sec}  ETA {eta}  {wide_msg}")?;
    let bar = ProgressBar::new(length).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

fn fail(bar: &ProgressBar, tally: &mut Tally, place: &str, reason: &str) {
    tally.failed += 1;
    bar.suspend(|| eprintln!("failed: {place}: {reason}"));
}

/// Sends documents with a bounded number not yet acknowledged, until all are answered.
async fn ingest(
    client: &Client,
    args: &IndexArgs,
    mut items: mpsc::Receiver<Item>,
    bar: &ProgressBar,
    tally: &mut Tally,
) -> Result<()> {
    let window = args.window as usize;
    let (sender, receiver) = mpsc::channel::<IngestDocumentsRequest>(window + 1);
    let start = Part::Start(IngestStart { collection: args.collection.clone(), force: false });
    sender.send(IngestDocumentsRequest { part: Some(start) }).await?;
    let mut inbound = client.documents().ingest_documents(ReceiverStream::new(receiver)).await?.into_inner();
    let mut sender = Some(sender);
    let mut sent: Vec<Option<String>> = Vec::new();
    let mut waiting = 0usize;
    // One listener for the whole run, so that no signal falls between two turns of the loop.
    let mut interrupt = Box::pin(tokio::signal::ctrl_c());
    loop {
        if sender.is_none() && waiting == 0 {
            return Ok(());
        }
        let may_send = sender.is_some() && waiting < window;
        tokio::select! {
            message = inbound.message() => match message {
                Ok(Some(response)) => match response.event {
                    Some(Event::Result(result)) => {
                        waiting = waiting.saturating_sub(1);
                        settle(bar, tally, &mut sent, result);
                    }
                    Some(Event::ShuttingDown(_)) => {
                        stop(bar, tally, "the server is stopping");
                        sender = None;
                    }
                    None => {}
                },
                Ok(None) => return end(bar, tally, &sent, "the server ended the stream without an answer"),
                Err(status) => {
                    end(bar, tally, &sent, &describe_status(&status))?;
                    return Err(status.into());
                }
            },
            item = items.recv(), if may_send => match item {
                None => sender = None,
                Some(Item::More(count)) => bar.inc_length(count),
                Some(Item::Failed { id, reason }) => {
                    tally.seen.insert(id.clone());
                    bar.inc(1);
                    fail(bar, tally, &id, &reason);
                }
                Some(Item::Document(document)) => {
                    let document: Document = *document;
                    tally.seen.insert(document.id.clone());
                    sent.push(Some(document.id.clone()));
                    let request = IngestDocumentsRequest { part: Some(Part::Document(document)) };
                    if let Some(sender) = &sender && sender.send(request).await.is_ok() {
                        waiting += 1;
                    }
                }
            },
            _ = &mut interrupt => {
                if tally.interrupted {
                    return end(bar, tally, &sent, "interrupted before it was acknowledged");
                }
                stop(bar, tally, "interrupted");
                sender = None;
                interrupt.set(tokio::signal::ctrl_c());
            }
        }
    }
}

fn stop(bar: &ProgressBar, tally: &mut Tally, why: &str) {
    tally.interrupted = true;
    bar.suspend(|| {
        eprintln!("{why}: waiting for the documents already sent; run the same command again to go on where it stopped");
    });
}

fn end(bar: &ProgressBar, tally: &mut Tally, sent: &[Option<String>], reason: &str) -> Result<()> {
    for id in sent.iter().flatten() {
        fail(bar, tally, id, reason);
    }
    tally.interrupted = true;
    Ok(())
}

fn settle(bar: &ProgressBar, tally: &mut Tally, sent: &mut [Option<String>], result: DocumentResult) {
    bar.inc(1);
    let id = usize::try_from(result.index).ok().and_then(|i| sent.get_mut(i)).and_then(Option::take);
    let id = id.unwrap_or_else(|| result.document_id.clone());
    match result.status() {
        DocumentStatus::Indexed => {
            tally.indexed += 1;
            tally.passages += u64::from(result.passage_count);
        }
        DocumentStatus::Unchanged | DocumentStatus::Updated => tally.unchanged += 1,
        DocumentStatus::Failed | DocumentStatus::Unspecified => {
            let code = code_name(tonic::Code::from(result.error_code));
            fail(bar, tally, &id, &format!("{code} {}: {}", result.error_reason, result.error_message));
        }
    }
}

/// Deletes the documents below the given roots that this run did not see.
async fn delete_missing(client: &Client, args: &IndexArgs, seen: &HashSet<String>) -> Result<i64> {
    let roots: Vec<String> = args.paths.iter().map(|path| walk::root_name(path)).collect();
    let below = |id: &str| {
        roots.iter().any(|root| {
            id.strip_prefix(root.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '#']))
        })
    };
    // A file or a file of records that could not be read keeps what it had.
    let kept =
        |id: &str| seen.contains(id) || id.split_once('#').is_some_and(|(file, _)| seen.contains(file));
    // With --extensions, files of other kinds were not looked at and stay.
    let chosen = |id: &str| {
        let file = id.split_once('#').map_or(id, |(file, _)| file);
        let extension = std::path::Path::new(file).extension().map(|e| e.to_string_lossy().into_owned());
        walk::wanted(&extension.unwrap_or_default(), &args.extensions)
    };
    let stored = documents::list(client, &args.collection, None, 0).await?;
    let gone: Vec<String> =
        stored.into_iter().map(|d| d.id).filter(|id| below(id) && chosen(id) && !kept(id)).collect();
    let mut deleted = 0;
    for chunk in gone.chunks(500) {
        deleted += documents::delete(client, &args.collection, output::ids_filter(chunk.to_vec())).await?;
    }
    Ok(deleted)
}

fn report(json: bool, collection: &str, tally: &Tally) -> Result<()> {
    if json {
        return output::print_json(&json!({"collection": collection, "indexed": tally.indexed,
            "unchanged": tally.unchanged, "failed": tally.failed, "deleted": tally.deleted,
            "passages": tally.passages, "interrupted": tally.interrupted}));
    }
    println!(
        "{collection}: {} indexed ({} passages), {} unchanged, {} failed, {} deleted",
        tally.indexed, tally.passages, tally.unchanged, tally.failed, tally.deleted
    );
    Ok(())
}
