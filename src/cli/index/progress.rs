//! Counts of a run and how they are shown while it goes on.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{BinaryBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use crate::cli::output;
use crate::proto::Warning;

/// Time between two lines where standard error is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(15);

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Documents stored.
    pub indexed: u64,
    /// Passages of those.
    pub passages: u64,
    /// Documents of which only title, source or metadata were stored anew.
    pub updated: u64,
    /// Documents that were stored already.
    pub unchanged: u64,
    /// Documents without text, by their ids.
    pub empty: Vec<String>,
    /// What failed, and why.
    pub failures: Vec<(String, String)>,
    /// Documents that were not read whole, and what is missing.
    pub warned: Vec<(String, Vec<Warning>)>,
    /// Whether what is missing is told at once.
    pub verbose: bool,
    /// Documents deleted.
    pub deleted: i64,
    /// Stored documents whose files or records are gone, and that were not deleted.
    pub missing: usize,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// Ids that were met; those of empty documents are not among them.
    pub seen: HashSet<String>,
}

impl Tally {
    /// Documents that are settled.
    pub fn done(&self) -> u64 {
        self.indexed + self.updated + self.unchanged + (self.empty.len() + self.failures.len()) as u64
    }
}

/// A bar on a terminal, else a line now and then.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Starts, with the bytes of all files.
    pub fn new(bytes: u64) -> Result<Self> {
        let template = "{bar:24} {percent:>3}%  {msg}  {binary_bytes_per_sec}  ETA {eta}";
        let bar = ProgressBar::new(bytes).with_style(ProgressStyle::with_template(template)?);
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(Self { bar, started: Instant::now(), last_line: Instant::now() })
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts bytes as done and shows the counts.
    pub fn advance(&mut self, bytes: u64, tally: &Tally) {
        self.bar.inc(bytes);
        self.bar.set_message(counts(tally, self.elapsed()));
        if self.bar.is_hidden() && self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let shown = counts(tally, self.elapsed());
            output::note(format!(
                "{} of {}  {shown}  ETA {}",
                BinaryBytes(done.min(all)),
                BinaryBytes(all),
                HumanDuration(self.bar.eta())
            ));
        }
    }

    /// Writes a line without breaking the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| output::note(text));
    }

    /// Tells of a failure and counts it.
    pub fn fail(&self, tally: &mut Tally, place: &str, reason: &str) {
        tally.failures.push((place.to_owned(), reason.to_owned()));
        self.note(&format!("failed: {place}: {reason}"));
    }

    /// Counts a document that was not read whole, and tells what is missing if that is wanted.
    pub fn warn(&self, tally: &mut Tally, id: &str, warnings: Vec<Warning>) {
        if warnings.is_empty() {
            return;
        }
        if tally.verbose {
            warnings.iter().for_each(|w| self.note(&format!("warning: {id}: {}: {}", w.reason, w.message)));
        }
        tally.warned.push((id.to_owned(), warnings));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn counts(tally: &Tally, elapsed: Duration) -> String {
    format!(
        "{} documents, {} passages ({})",
        HumanCount(tally.done()),
        HumanCount(tally.passages),
        rate(tally.passages, elapsed)
    )
}

/// Passages a second.
pub fn rate(passages: u64, elapsed: Duration) -> String {
    format!("{:.1}/s", passages as f64 / elapsed.as_secs_f64().max(0.001))
}
