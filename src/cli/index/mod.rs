//! `trove index`.

mod known;
mod missing;
mod progress;
mod read;
mod records;
mod send;
mod walk;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use serde_json::{Value, json};

use super::client::Client;
use super::failure::Usage;
use super::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, documents, output};
use crate::proto::GetServerInfoRequest;
use missing::Scope;
use progress::{Progress, Tally};
use read::ReadLimits;
use send::SendOptions;
use walk::{Choice, Found, Root};

/// Arguments of `index`.
#[derive(Debug, Clone, Args)]
pub struct IndexArgs {
    /// Files and folders.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Collection, created if missing.
    #[arg(long, default_value = "default")]
    pub collection: String,
    /// Delete documents of the given paths whose files or records are gone; a file that is there but left out of
    /// this run keeps its own.
    #[arg(long)]
    pub delete_missing: bool,
    /// Only files with these extensions, separated by commas; ones that are not known are read as plain text.
    #[arg(long, value_delimiter = ',', value_name = "EXTENSION")]
    pub extensions: Vec<String>,
    /// Also every other file that is text: program code, settings, logs.
    #[arg(long, conflicts_with = "extensions")]
    pub all_text: bool,
    /// Also hidden files and folders.
    #[arg(long)]
    pub hidden: bool,
    /// Also what .gitignore and the like leave out.
    #[arg(long)]
    pub no_ignore: bool,
    /// Follow symbolic links.
    #[arg(long)]
    pub follow_links: bool,
    /// What the documents' ids start with, instead of the name of the folder or file; for one path.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Extract and encode again even what is unchanged.
    #[arg(long)]
    pub force: bool,
    /// Only list the files that would be indexed.
    #[arg(long)]
    pub dry_run: bool,
    /// Most documents sent and not yet acknowledged.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub window: u32,
    /// Seconds to go on trying when the server is away, from the last acknowledgement.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub patience: u64,
}

/// Room left in a message for what is not content.
const MESSAGE_SLACK: u64 = 64 << 10;
/// Most bytes of one piece of a file.
const PIECE: usize = 1 << 20;
/// Ids deleted by one call.
const DELETE_BATCH: usize = 500;
/// Kinds of skipped files that are named.
const SKIPPED_SHOWN: usize = 6;

/// Indexes files and folders; exit code 1 if anything failed.
pub async fn run(client: &Client, json: bool, args: IndexArgs) -> Result<i32> {
    let roots = roots(&args)?;
    let choice = Choice {
        extensions: args.extensions.clone(),
        all_text: args.all_text,
        hidden: args.hidden,
        no_ignore: args.no_ignore,
        follow_links: args.follow_links,
    };
    let found = find(roots.clone(), choice.clone()).await?;
    if args.dry_run {
        return dry_run(json, &found);
    }
    let limits = client
        .admin()
        .get_server_info(GetServerInfoRequest {})
        .await?
        .into_inner()
        .limits
        .unwrap_or_default();
    client.ensure_collection(&args.collection, "").await?;
    let known = Arc::new(known::load(client, &args.collection, &roots).await?);
    let read_limits = ReadLimits {
        message_bytes: limits.max_message_bytes - MESSAGE_SLACK.min(limits.max_message_bytes / 2),
        file_bytes: limits.max_document_bytes,
    };
    let mut progress = Progress::new(found.files.iter().map(|file| file.size).sum())?;
    let mut tally = Tally::default();
    for (place, reason) in &found.problems {
        progress.fail(&mut tally, place, reason);
    }
    let options = SendOptions {
        collection: args.collection.clone(),
        window: args.window as usize,
        patience: Duration::from_secs(args.patience),
        force: args.force,
        piece_bytes: usize::try_from(read_limits.message_bytes).unwrap_or(usize::MAX).clamp(1, PIECE),
    };
    let complete_walk = found.problems.is_empty();
    let skipped = skipped_text(&found);
    let scope = args.delete_missing.then(|| Scope::new(&roots, &found.files, choice));
    let items = read::start(found.files, known.clone(), read_limits, args.force);
    let sent = send::send(client, &options, items, &mut progress, &mut tally).await;
    progress.finish();
    let mut result = sent;
    if let Some(scope) = scope
        && result.is_ok()
    {
        if complete_walk && !tally.interrupted {
            match delete(client, &args.collection, scope.missing(&known, &tally.seen)).await {
                Ok(deleted) => tally.deleted = deleted,
                Err(error) => result = Err(error),
            }
        } else {
            output::note("nothing was deleted, because not every file was seen");
        }
    }
    report(json, &args.collection, &tally, progress.elapsed(), skipped)?;
    if result.is_err() || tally.interrupted {
        output::note("run the same command again to go on where it stopped");
    }
    result?;
    Ok(match (tally.interrupted, tally.failures.is_empty()) {
        (true, _) => EXIT_INTERRUPTED,
        (false, false) => EXIT_FAILED,
        (false, true) => EXIT_OK,
    })
}

/// The paths with their names, which start the ids: two of one name would mix their files up.
fn roots(args: &IndexArgs) -> Result<Vec<Root>> {
    if let Some(name) = &args.name
        && (args.paths.len() > 1 || name.is_empty() || name.contains('/'))
    {
        let message = "--name: expected one path and a name without a slash".to_owned();
        return Err(Usage(message).into());
    }
    let roots: Vec<Root> = args.paths.iter().map(|path| Root::new(path.clone(), args.name.clone())).collect();
    let mut names = HashSet::new();
    for root in &roots {
        if !names.insert(&root.name) {
            let message = format!(
                "two paths are named {:?}, so their document ids would collide; index them one by one with --name",
                root.name
            );
            return Err(Usage(message).into());
        }
    }
    Ok(roots)
}

async fn find(roots: Vec<Root>, choice: Choice) -> Result<Found> {
    tokio::task::spawn_blocking(move || walk::walk(&roots, &choice)).await.context("looking for files")
}

fn dry_run(json: bool, found: &Found) -> Result<i32> {
    let code = if found.problems.is_empty() { EXIT_OK } else { EXIT_FAILED };
    if json {
        let files = found.files.iter().map(|file| json!({"id": file.id, "bytes": file.size}));
        output::print_json(
            &json!({"files": files.collect::<Value>(), "failures": failures(&found.problems),
            "skipped": found.skipped, "links": found.links}),
        )?;
        return Ok(code);
    }
    for file in &found.files {
        output::line(format!("{:>10}  {}", BinaryBytes(file.size).to_string(), file.id))?;
    }
    for (place, reason) in &found.problems {
        output::note(format!("failed: {place}: {reason}"));
    }
    let bytes = found.files.iter().map(|file| file.size).sum();
    output::note(format!("{} files, {}", found.files.len(), BinaryBytes(bytes)));
    if let Some(skipped) = skipped_text(found) {
        output::note(skipped);
    }
    Ok(code)
}

/// What was left out, for people.
fn skipped_text(found: &Found) -> Option<String> {
    let mut parts = Vec::new();
    if !found.skipped.is_empty() {
        let mut kinds: Vec<_> = found.skipped.iter().collect();
        kinds.sort_by_key(|(extension, count)| (std::cmp::Reverse(**count), extension.as_str()));
        let mut named: Vec<String> = kinds
            .iter()
            .take(SKIPPED_SHOWN)
            .map(|(extension, count)| match extension.as_str() {
                "" => format!("no extension {count}"),
                extension => format!(".{extension} {count}"),
            })
            .collect();
        if kinds.len() > SKIPPED_SHOWN {
            named.push("…".to_owned());
        }
        let count: u64 = found.skipped.values().sum();
        parts.push(format!(
            "{count} files of other kinds ({}); --all-text takes every text, --extensions those you name",
            named.join(", ")
        ));
    }
    if found.links > 0 {
        parts.push(format!("{} symbolic links; --follow-links follows them", found.links));
    }
    (!parts.is_empty()).then(|| format!("left out: {}", parts.join("; ")))
}

/// Deletes documents and tells how many.
async fn delete(client: &Client, collection: &str, ids: Vec<String>) -> Result<i64> {
    let mut deleted = 0;
    for chunk in ids.chunks(DELETE_BATCH) {
        deleted +=
            documents::delete(client, collection, output::ids_filter(chunk.to_vec())).await?.deleted_count;
    }
    Ok(deleted)
}

fn failures(failures: &[(String, String)]) -> Value {
    failures.iter().map(|(id, reason)| json!({"id": id, "reason": reason})).collect()
}

fn report(
    json: bool,
    collection: &str,
    tally: &Tally,
    elapsed: Duration,
    skipped: Option<String>,
) -> Result<()> {
    if json {
        return output::print_json(&json!({"collection": collection, "indexed": tally.indexed,
            "passages": tally.passages, "updated": tally.updated, "unchanged": tally.unchanged, "empty": tally.empty,
            "failed": tally.failures.len(), "failures": failures(&tally.failures), "deleted": tally.deleted,
            "interrupted": tally.interrupted, "seconds": elapsed.as_secs_f64()}));
    }
    let mut parts = vec![format!("{} indexed ({} passages)", tally.indexed, HumanCount(tally.passages))];
    for (count, what) in [
        (tally.updated, "updated"),
        (tally.unchanged, "unchanged"),
        (tally.empty, "empty"),
        (tally.failures.len() as u64, "failed"),
        (tally.deleted.unsigned_abs(), "deleted"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", HumanCount(count)));
        }
    }
    let seconds = elapsed.as_secs();
    let time = match seconds {
        0..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    };
    let rate = if tally.passages > 0 {
        format!(", {} passages/s", progress::rate(tally.passages, elapsed).trim_end_matches("/s"))
    } else {
        String::new()
    };
    output::line(format!("{collection}: {} in {time}{rate}", parts.join(", ")))?;
    if let Some(skipped) = skipped {
        output::note(skipped);
    }
    Ok(())
}
