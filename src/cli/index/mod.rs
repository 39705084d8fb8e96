//! `trove index`.

mod ids;
mod known;
mod left_out;
mod missing;
mod numbers;
mod progress;
mod read;
mod send;
pub mod stdin;
mod walk;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use indicatif::{BinaryBytes, HumanCount};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::Client;
use super::failure::{Usage, describe};
use super::failures::{self, Told};
use super::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, documents, output};
use crate::proto::{GetServerInfoRequest, Limits, Warning};
use crate::records::{Options, Template};
use missing::Scope;
use progress::{Progress, Tally};
use read::{ReadLimits, ReadOptions};
use send::SendOptions;
use stdin::StdinArgs;
use walk::{Choice, Found, FoundFile, Root};
use watch::Watch;

/// Arguments of `index`.
#[derive(Debug, Clone, Args)]
pub struct IndexArgs {
    /// Files and folders; `-` alone is one document from standard input.
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
    /// Extract and encode again what another version of the server extracted (see status).
    #[arg(long)]
    pub refresh: bool,
    /// Go on after that: index what changes until interrupted. Deleted files are deleted with --delete-missing.
    #[arg(long, conflicts_with = "dry_run")]
    pub watch: bool,
    /// Only list the files that would be indexed.
    #[arg(long)]
    pub dry_run: bool,
    /// Also name the files that are left out, and what is missing of those that were not read whole.
    #[arg(long, short)]
    pub verbose: bool,
    /// Of tables and JSON: the field with a record's id; left out, id, _id, key, uuid or guid, else a number.
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,
    /// Of tables and JSON: what the text is made of, such as "{name} costs {price}"; left out, a field text, content or
    /// body, else all fields.
    #[arg(long, value_name = "TEMPLATE")]
    pub text_template: Option<Template>,
    /// What standard input holds.
    #[command(flatten)]
    pub stdin: StdinArgs,
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
/// A file that was changed less than this before it was read may change again unseen: its time may stay the same.
const FRESH: Duration = Duration::from_secs(2);
/// Pause of a watch before what failed as a whole is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Files that were not read whole that are named.
const WARNED_SHOWN: usize = 5;

/// Indexes files and folders; exit code 1 if anything failed.
pub async fn run(client: &Client, server: &str, json: bool, args: IndexArgs) -> Result<i32> {
    let is_stdin = args.paths.iter().any(|path| path == Path::new("-"));
    if is_stdin && (args.paths.len() > 1 || args.watch || args.dry_run) {
        return Err(Usage("-: expected it as the only path, without --watch and --dry-run".to_owned()).into());
    }
    if is_stdin {
        return stdin::add(client, json, &args.collection, args.stdin).await;
    }
    if args.stdin.is_given() {
        return Err(
            Usage("--id, --title and --media-type: expected the path -, got others".to_owned()).into()
        );
    }
    let roots = roots(&args)?;
    // Before anything is made on the server.
    let is_missing = |root: &Root| std::fs::symlink_metadata(&root.path).is_err();
    if roots.iter().all(is_missing) {
        let paths: Vec<_> = roots.iter().map(|root| root.path.display().to_string()).collect();
        return Err(anyhow!("expected a file or folder, got nothing at {}", paths.join(", ")));
    }
    let choice = Choice {
        extensions: args.extensions.clone(),
        all_text: args.all_text,
        hidden: args.hidden,
        no_ignore: args.no_ignore,
        follow_links: args.follow_links,
    };
    if args.dry_run {
        return dry_run(json, args.verbose, &find(roots, choice).await?);
    }
    // What changes while the rest is read is told, and read again.
    let watch = args.watch.then(|| Watch::start(&args.paths)).transpose()?;
    let info = client.admin().get_server_info(GetServerInfoRequest {}).await?.into_inner();
    let version = match info.extraction_version {
        0 if args.refresh => {
            return Err(Usage(
                "--refresh: expected a server that tells its version of the extraction".to_owned(),
            )
            .into());
        }
        version => args.refresh.then_some(version),
    };
    client.ensure_collection(&args.collection, "").await?;
    let limits = info.limits.unwrap_or_default();
    let session = Session { client, server, json, args: &args, roots, choice, limits, version };
    match watch {
        None => Ok(session.pass(None).await?.code()),
        Some(watch) => session.follow(watch).await,
    }
}

/// What all passes over the paths share.
struct Session<'a> {
    client: &'a Client,
    server: &'a str,
    json: bool,
    args: &'a IndexArgs,
    roots: Vec<Root>,
    choice: Choice,
    limits: Limits,
    /// With --refresh, the server's version of the extraction.
    version: Option<u32>,
}

/// How a pass ended.
struct Done {
    is_interrupted: bool,
    has_failures: bool,
}

impl Done {
    fn code(&self) -> i32 {
        match (self.is_interrupted, self.has_failures) {
            (true, _) => EXIT_INTERRUPTED,
            (false, true) => EXIT_FAILED,
            (false, false) => EXIT_OK,
        }
    }
}

/// Files that were read and stored as they are, with their sizes and times.
#[derive(Default)]
struct Settled {
    files: HashMap<PathBuf, (u64, SystemTime)>,
    /// Whether there was a pass.
    is_begun: bool,
}

impl Settled {
    fn has(&self, file: &FoundFile) -> bool {
        file.modified.is_some_and(|time| self.files.get(&file.path) == Some(&(file.size, time)))
    }

    fn take_over(&mut self, files: &[FoundFile], started: SystemTime, failures: &[(String, String)]) {
        let failed: HashSet<&str> = failures.iter().map(|(id, _)| id.as_str()).collect();
        let has_failed = |file: &FoundFile| {
            failed.contains(file.id.as_str())
                || failed.iter().any(|id| id.strip_prefix(&file.id).is_some_and(|rest| rest.starts_with('#')))
        };
        for file in files {
            let Some(time) = file.modified else { continue };
            let is_old = started.duration_since(time).is_ok_and(|age| age >= FRESH);
            if is_old && !has_failed(file) {
                self.files.insert(file.path.clone(), (file.size, time));
            } else {
                self.files.remove(&file.path);
            }
        }
    }
}

impl Session<'_> {
    /// Passes over the paths again and again as they change.
    async fn follow(&self, mut watch: Watch) -> Result<i32> {
        let mut settled = Settled::default();
        let done = self.pass(Some(&mut settled)).await?;
        if done.is_interrupted {
            return Ok(done.code());
        }
        output::note("watching for changes; interrupt to end");
        let mut again_at = None;
        while watch.changed(again_at.take()).await {
            match self.pass(Some(&mut settled)).await {
                Ok(done) if done.is_interrupted => return Ok(done.code()),
                Ok(_) => {}
                Err(error) => {
                    output::note(format!("{}; trying again in {} s", describe(&error), RETRY.as_secs()));
                    again_at = Some(Instant::now() + RETRY);
                }
            }
        }
        Ok(EXIT_OK)
    }

    /// Reads the paths once and brings the collection up to date. Files that are settled are not read.
    async fn pass(&self, mut settled: Option<&mut Settled>) -> Result<Done> {
        let args = self.args;
        let started = SystemTime::now();
        let mut found = find(self.roots.clone(), self.choice.clone()).await?;
        let known = Arc::new(known::load(self.client, &args.collection, &self.roots).await?);
        let scope = Scope::new(&self.roots, &found.files, self.choice.clone());
        let mut tally = Tally { verbose: args.verbose && !self.json, ..Tally::default() };
        let is_first = settled.as_ref().is_none_or(|settled| !settled.is_begun);
        let mut files = std::mem::take(&mut found.files);
        let kinds = kinds(&files);
        if let Some(settled) = &settled {
            files.retain(|file| {
                let is_settled = settled.has(file);
                if is_settled {
                    tally.seen.insert(file.id.clone());
                    tally.unchanged += 1;
                }
                !is_settled
            });
        }
        let message_bytes = self.limits.max_message_bytes;
        let read_limits = ReadLimits {
            message_bytes: message_bytes - MESSAGE_SLACK.min(message_bytes / 2),
            file_bytes: self.limits.max_document_bytes,
        };
        let mut progress = Progress::new(files.iter().map(|file| file.size).sum())?;
        for (place, reason) in &found.problems {
            progress.fail(&mut tally, place, reason);
        }
        let force = args.force && is_first;
        let options = SendOptions {
            collection: args.collection.clone(),
            window: args.window as usize,
            patience: Duration::from_secs(args.patience),
            force: force || self.version.is_some(),
            piece_bytes: usize::try_from(read_limits.message_bytes).unwrap_or(usize::MAX).clamp(1, PIECE),
        };
        let read_options = ReadOptions {
            force,
            version: self.version,
            records: Options { id_field: args.id_field.clone(), text_template: args.text_template.clone() },
        };
        let items = read::start(files.clone(), known.clone(), read_limits, read_options);
        let sent = send::send(self.client, &options, items, &mut progress, &mut tally).await;
        progress.finish();
        let mut result = sent;
        let is_complete = result.is_ok() && found.problems.is_empty() && !tally.interrupted;
        if is_complete {
            let missing = scope.missing(&known, &tally.seen);
            if args.delete_missing {
                match delete(self.client, &args.collection, missing).await {
                    Ok(deleted) => tally.deleted = deleted,
                    Err(error) => result = Err(error),
                }
            } else {
                tally.missing = missing.len();
            }
        } else if args.delete_missing && result.is_ok() {
            output::note("nothing was deleted, because not every file was seen");
        }
        self.keep_failures(&tally, is_complete);
        let has_news = tally.done() > tally.unchanged || tally.deleted > 0;
        if is_first || has_news {
            report(self, &tally, progress.elapsed(), &kinds, &found)?;
        }
        if let Some(told) = warned_text(&tally.warned).filter(|_| !self.json && !args.verbose) {
            output::note(told);
        }
        if result.is_err() || tally.interrupted {
            output::note("run the same command again to go on where it stopped");
        }
        result?;
        if let Some(settled) = &mut settled {
            settled.is_begun = true;
            if !tally.interrupted {
                settled.take_over(&files, started, &tally.failures);
            }
        }
        Ok(Done { is_interrupted: tally.interrupted, has_failures: !tally.failures.is_empty() })
    }

    /// Keeps what failed for `trove status`.
    fn keep_failures(&self, tally: &Tally, is_complete: bool) {
        let is_all = is_complete && self.choice.extensions.is_empty();
        let complete = self.roots.iter().filter(|_| is_all).map(|root| root.name.as_str()).collect();
        let told = Told { failed: &tally.failures, empty: &tally.empty, seen: &tally.seen, complete };
        if let Err(error) = failures::save(self.server, &self.args.collection, &told) {
            output::note(format!("what failed cannot be kept for trove status: {error}"));
        }
    }
}

/// Files by their extensions.
fn kinds(files: &[FoundFile]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    files.iter().for_each(|file| *kinds.entry(file.extension.clone()).or_default() += 1);
    kinds
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

fn dry_run(json: bool, verbose: bool, found: &Found) -> Result<i32> {
    let code = if found.problems.is_empty() { EXIT_OK } else { EXIT_FAILED };
    if json {
        let files = found.files.iter().map(|file| json!({"id": file.id, "bytes": file.size}));
        output::print_json(
            &json!({"files": files.collect::<Value>(), "failures": failures_json(&found.problems),
            "skipped": found.skipped, "ignored": found.ignored.len(), "links": found.links}),
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
    tell_left_out(verbose, found);
    Ok(code)
}

fn tell_left_out(verbose: bool, found: &Found) {
    if verbose {
        left_out::names(found).into_iter().for_each(output::note);
    }
    if let Some(text) = left_out::text(found) {
        output::note(text);
    }
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

fn failures_json(failures: &[(String, String)]) -> Value {
    failures.iter().map(|(id, reason)| json!({"id": id, "reason": reason})).collect()
}

/// What could not be read, in full.
fn warnings(warned: &[(String, Vec<Warning>)]) -> Value {
    let page = |warning: &Warning| (warning.page_number > 0).then_some(warning.page_number);
    let all = warned.iter().flat_map(|(id, warnings)| warnings.iter().map(move |warning| (id, warning)));
    all.map(|(id, w)| json!({"id": id, "page_number": page(w), "reason": w.reason, "message": w.message}))
        .collect()
}

/// Which files were not read whole, for people.
fn warned_text(warned: &[(String, Vec<Warning>)]) -> Option<String> {
    let mut named: Vec<&str> = warned.iter().take(WARNED_SHOWN).map(|(id, _)| id.as_str()).collect();
    if warned.len() > named.len() {
        named.push("…");
    }
    let (was, them) = if warned.len() == 1 { ("file was", "it") } else { ("files were", "them") };
    let count = HumanCount(warned.len() as u64);
    let told = format!(
        "{count} {was} read with warnings, since parts of {them} cannot be read ({})",
        named.join(", ")
    );
    (!warned.is_empty()).then(|| format!("{told}; --verbose tells which"))
}

fn report(
    session: &Session<'_>,
    tally: &Tally,
    elapsed: Duration,
    kinds: &BTreeMap<String, u64>,
    found: &Found,
) -> Result<()> {
    let collection = &session.args.collection;
    if session.json {
        return output::print_json(&json!({"collection": collection, "indexed": tally.indexed,
            "passages": tally.passages, "updated": tally.updated, "unchanged": tally.unchanged,
            "empty": tally.empty.len(), "failed": tally.failures.len(), "failures": failures_json(&tally.failures),
            "warnings": warnings(&tally.warned),
            "deleted": tally.deleted, "missing": tally.missing, "interrupted": tally.interrupted, "read": kinds,
            "skipped": found.skipped, "ignored": found.ignored.len(), "links": found.links,
            "seconds": elapsed.as_secs_f64()}));
    }
    let mut parts = vec![format!("{} indexed ({} passages)", tally.indexed, HumanCount(tally.passages))];
    for (count, what) in [
        (tally.updated, "updated"),
        (tally.unchanged, "unchanged"),
        (tally.empty.len() as u64, "empty"),
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
    let named = kinds.iter().map(|(extension, count)| match extension.as_str() {
        "" => format!("no extension {count}"),
        extension => format!(".{extension} {count}"),
    });
    output::note(format!(
        "files: {} ({})",
        kinds.values().sum::<u64>(),
        named.collect::<Vec<_>>().join(", ")
    ));
    tell_left_out(session.args.verbose, found);
    if tally.missing > 0 {
        let documents = if tally.missing == 1 {
            "1 stored document has"
        } else {
            &format!("{} stored documents have", tally.missing)
        };
        output::note(format!("{documents} no file any more; --delete-missing removes them"));
    }
    Ok(())
}
