use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge, histogram};
use rlimit::Resource;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tracing::{Instrument, debug_span};

use super::charset::with_charset;
use super::kind::{self, MARKDOWN, PLAIN, essence};
use trove_core::domain::Extracted;
use trove_core::error::{Error, Result};
use trove_core::fair::Fair;
use trove_core::{metrics, task};

/// Environment variable that tells a worker how many bytes of address space it may use. A worker gets no other but
/// [`PDFIUM_VARIABLE`].
pub const MEMORY_VARIABLE: &str = "TROVE_EXTRACT_MEMORY_BYTES";

/// Environment variable that tells a worker for PDF files, and for mail that may hold some, where the PDFium
/// library is.
pub const PDFIUM_VARIABLE: &str = "TROVE_EXTRACT_PDFIUM";

/// Most bytes of a document's text: a shelf of books.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// Bytes of address space of a worker that nobody told.
const DEFAULT_MEMORY_BYTES: u64 = 2 << 30;
/// Most seconds of processor time of a worker, in case its parent is not there to end it.
const MAX_CPU_SECONDS: u64 = 600;
/// Most files that a worker may have open; it opens none but those that the program's start needs.
const MAX_OPEN_FILES: u64 = 16;
/// Exit code of a worker that was not given a whole file, or whose parent is gone.
const EXIT_UNREAD: i32 = 4;
/// Stack of the thread that waits for the end of the parent.
const WATCH_STACK_BYTES: usize = 64 << 10;
/// Most bytes of Markdown that is parsed without a worker.
const MAX_OWN_MARKDOWN: usize = 1 << 20;
/// Room in an answer for sections and for what JSON escapes, beside the text.
const ANSWER_SLACK: usize = 4;

/// Reasons that a worker may answer with.
const REASONS: [&str; 10] = [
    "BROKEN_DOCUMENT",
    "DOCUMENT_TOO_LARGE",
    "EMPTY_DOCUMENT",
    "ENCRYPTED_DOCUMENT",
    "NOT_TEXT",
    "PDFIUM_NOT_FOUND",
    "PDFIUM_UNUSABLE",
    "SCANNED_DOCUMENT",
    "UNMAPPED_TEXT",
    "UNSUPPORTED_FORMAT",
];

/// A worker's answer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(Extracted),
    Error { reason: String, message: String },
}

/// Extracts the text of files, each of a risky format in a child process of its own.
#[derive(Debug, Clone)]
pub struct Extractor {
    worker: PathBuf,
    /// The PDFium library or the directory that holds it.
    pdfium: Option<PathBuf>,
    timeout: Duration,
    memory_bytes: u64,
    max_text_bytes: usize,
    /// Children at a time.
    workers: Fair,
    /// Files that are parsed in this process at a time.
    own: Fair,
}

impl Extractor {
    /// Makes an extractor that runs `worker extract-worker MEDIA_TYPE BYTES`, at most `workers` at a time, for which
    /// parties take turns.
    pub fn new(worker: PathBuf, timeout: Duration, memory_bytes: u64, workers: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (workers, own) = (Fair::new(workers), Fair::new(cores));
        Self { worker, pdfium: None, timeout, memory_bytes, max_text_bytes: MAX_TEXT_BYTES, workers, own }
    }

    /// Reads PDF files with this PDFium library, or the one in this directory; without, they are refused.
    #[must_use]
    pub fn with_pdfium(mut self, pdfium: PathBuf) -> Self {
        self.pdfium = Some(pdfium);
        self
    }

    /// Refuses documents of more text than this; the default is [`MAX_TEXT_BYTES`].
    #[must_use]
    pub fn with_max_text_bytes(mut self, max_text_bytes: usize) -> Self {
        self.max_text_bytes = max_text_bytes;
        self
    }

    /// Extracts the text of a file. Plain text waits for nobody, Markdown that is small for other such files alone, all
    /// else for a child's turn. Dropping the future leaves the line and ends the child.
    ///
    /// # Errors
    /// What is wrong with the file; `EXTRACTION_TIMEOUT` and `EXTRACTION_CRASHED` where it took too much time
    /// or memory; `DOCUMENT_TOO_LARGE` where there is too much text.
    pub async fn extract(&self, bytes: Vec<u8>, media_type: &str) -> Result<Extracted> {
        let media_type = with_charset(media_type);
        let job = Job::begin(&essence(&media_type));
        let work = self.extract_any(bytes, media_type);
        let extracted = work.instrument(debug_span!("extract", media_type = job.media_type)).await;
        let extracted = extracted.and_then(|extracted| match extracted.text.len() {
            length if length > self.max_text_bytes => Err(too_large(self.max_text_bytes, length)),
            _ => Ok(Extracted { warnings: super::warnings::bounded(extracted.warnings), ..extracted }),
        });
        job.end(&extracted);
        extracted
    }

    async fn extract_any(&self, bytes: Vec<u8>, media_type: String) -> Result<Extracted> {
        let named = essence(&media_type);
        // Before it becomes an argument of the child.
        let Some(found) = kind::resolve(&named, &bytes) else {
            return Err(super::unsupported(&named, &bytes));
        };
        let media_type = format!("{found}{}", &media_type[named.len()..]);
        // Small Markdown without HTML is parsed here, in linear time and, since the headings of a path are few and short,
        // at most 200 times its size in memory. HTML can make more of less.
        let is_small_markdown =
            found == MARKDOWN && bytes.len() <= MAX_OWN_MARKDOWN && !bytes.contains(&b'<');
        if found == PLAIN || is_small_markdown {
            // Its memory is what has to be shared; plain text takes little.
            let _turn = if is_small_markdown { Some(self.own.take(1).await) } else { None };
            let extracted = task::blocking("PANICKED", move || super::extract(&bytes, &media_type)).await;
            return extracted.map_err(|e| match e.reason {
                "PANICKED" => crashed("the extraction panicked").with_source(e),
                _ => e,
            });
        }
        let _turn = self.workers.take(1).await;
        match tokio::time::timeout(self.timeout, self.run(&bytes, &media_type)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::invalid(
                "EXTRACTION_TIMEOUT",
                format!("expected a document that is extracted within {:?}, it took longer", self.timeout),
            )),
        }
    }

    async fn run(&self, bytes: &[u8], media_type: &str) -> Result<Extracted> {
        let mut child = Command::new(&self.worker)
            .args(["extract-worker", media_type, &bytes.len().to_string()])
            .env_clear()
            .env(MEMORY_VARIABLE, self.memory_bytes.to_string())
            .envs(
                self.pdfium
                    .iter()
                    .filter(|_| kind::may_hold_pdf(media_type))
                    .map(|path| (PDFIUM_VARIABLE, path)),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                Error::internal("EXTRACTION_CRASHED", "the extraction worker cannot start").with_source(e)
            })?;
        let mut stdin = child.stdin.take();
        let write = async {
            if let Some(stdin) = &mut stdin {
                // A worker that ends early closes the pipe; its answer tells why.
                let _ = stdin.write_all(bytes).await;
            }
        };
        let most = self.max_text_bytes.saturating_mul(ANSWER_SLACK).saturating_add(1 << 20);
        let stdout = child.stdout.take();
        let read = async move {
            let mut output = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(most as u64 + 1).read_to_end(&mut output).await?;
            }
            std::io::Result::Ok(output)
        };
        // Both at once, or a full pipe on either side would stop both processes.
        let ((), output) = tokio::join!(write, read);
        let unreadable = |e| crashed("the extraction worker cannot be read").with_source(e);
        let output = output.map_err(unreadable)?;
        if output.len() > most {
            // Dropping the child ends it.
            return Err(too_large(self.max_text_bytes, output.len()));
        }
        // It is open until here, or the worker would take this process for dead.
        drop(stdin);
        let status = child.wait().await.map_err(unreadable)?;
        if !status.success() {
            return Err(crashed(format!("the extraction worker ended with {status}")));
        }
        answer(&output)
    }
}

/// An extraction that is counted; one whose caller leaves is dropped.
struct Job {
    media_type: &'static str,
    started: Instant,
}

impl Job {
    fn begin(media_type: &str) -> Self {
        gauge!(metrics::EXTRACTIONS_IN_FLIGHT).increment(1.0);
        Self { media_type: kind::known(media_type).unwrap_or("other"), started: Instant::now() }
    }

    fn end(self, extracted: &Result<Extracted>) {
        let media_type = self.media_type;
        histogram!(metrics::EXTRACTION_DURATION, "media_type" => media_type).record(self.started.elapsed());
        if let Err(error) = extracted {
            let labels = [("media_type", media_type), ("reason", error.reason)];
            counter!(metrics::EXTRACTION_FAILURES, &labels).increment(1);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        gauge!(metrics::EXTRACTIONS_IN_FLIGHT).decrement(1.0);
    }
}

pub(super) fn too_large(most: usize, got: usize) -> Error {
    Error::invalid(
        "DOCUMENT_TOO_LARGE",
        format!("expected a document of at most {most} bytes of text, got {got} or more"),
    )
}

fn crashed(message: impl Into<String>) -> Error {
    Error::invalid("EXTRACTION_CRASHED", message)
}

/// Reads the last line, since parsers print warnings of their own before it.
fn answer(stdout: &[u8]) -> Result<Extracted> {
    let line = stdout.trim_ascii_end().rsplit(|b| *b == b'\n').next().unwrap_or_default();
    match serde_json::from_slice(line) {
        Ok(Answer::Ok(extracted)) => Ok(extracted),
        Ok(Answer::Error { reason, message }) => match REASONS.into_iter().find(|r| *r == reason) {
            // What is wrong is not the file.
            Some(reason) if reason.starts_with("PDFIUM_") => Err(Error::precondition(reason, message)),
            Some(reason) => Err(Error::invalid(reason, message)),
            None => Err(crashed(message)),
        },
        Err(e) => Err(crashed("the extraction worker gave no answer").with_source(e)),
    }
}

/// The main function of a worker: reads a file of so many bytes from standard input and writes the answer to standard
/// output. Gives the exit code. The worker ends when its standard input is closed, which says that its parent is gone,
/// however that came about.
///
/// What it may do is told by the environment: [`MEMORY_VARIABLE`], [`PDFIUM_VARIABLE`].
pub fn worker_main(media_type: &str, bytes: u64) -> i32 {
    let memory = std::env::var(MEMORY_VARIABLE).ok().and_then(|bytes| bytes.parse().ok());
    let memory_bytes = memory.unwrap_or(DEFAULT_MEMORY_BYTES);
    close_inherited();
    if let Err(e) = limit(memory_bytes) {
        eprintln!("cannot limit the worker: {e}");
        return 3;
    }
    let mut file = Vec::new();
    let read = std::io::stdin().lock().take(bytes).read_to_end(&mut file);
    if !read.is_ok_and(|read| read as u64 == bytes) {
        eprintln!("standard input: expected a file of {bytes} bytes, got {} of them", file.len());
        return EXIT_UNREAD;
    }
    if let Err(e) = std::thread::Builder::new().stack_size(WATCH_STACK_BYTES).spawn(end_with_parent) {
        eprintln!("cannot watch the parent: {e}");
        return EXIT_UNREAD;
    }
    let loaded = match std::env::var_os(PDFIUM_VARIABLE) {
        Some(library) if media_type == kind::PDF => super::load_pdfium(Path::new(&library)),
        // A mail is read without it too, but for its PDF files.
        Some(library) if kind::may_hold_pdf(media_type) => {
            let _ = super::load_pdfium(Path::new(&library));
            Ok(())
        }
        _ => Ok(()),
    };
    let answer = match loaded.and_then(|()| super::extract(&file, media_type)) {
        Ok(extracted) => Answer::Ok(extracted),
        Err(e) => Answer::Error { reason: e.reason.to_owned(), message: e.message },
    };
    match write_answer(&answer) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("cannot write the answer: {e}");
            5
        }
    }
}

/// Waits until nobody holds the other end of standard input any more, and ends the process.
fn end_with_parent() {
    // Nothing comes after the file. Whatever else this is, the parent is none that waits for an answer.
    let _ = std::io::stdin().lock().read(&mut [0]);
    std::process::exit(EXIT_UNREAD);
}

fn write_answer(answer: &Answer) -> std::io::Result<()> {
    let json = serde_json::to_vec(answer)?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(b"\n")?;
    stdout.write_all(&json)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Closes every file that the parent left open by mistake, but for the standard streams.
#[allow(unsafe_code, reason = "no safe call closes a range of descriptors")]
fn close_inherited() {
    // SAFETY: the worker has opened no file yet and has one thread, so nobody owns a descriptor above 2.
    // Where the kernel is too old for the call nothing happens, which is as safe.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}

fn limit(memory_bytes: u64) -> std::io::Result<()> {
    for (resource, wanted) in [
        (Resource::AS, memory_bytes),
        (Resource::CPU, MAX_CPU_SECONDS),
        (Resource::CORE, 0),
        (Resource::FSIZE, 0),
        (Resource::NOFILE, MAX_OPEN_FILES),
    ] {
        // A limit that is stricter already stays, since only root may raise it.
        let (_, hard) = resource.get()?;
        let value = wanted.min(hard);
        resource.set(value, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::kind::PDF;

    async fn with_worker(script: &str, bytes: Vec<u8>) -> Result<Extracted> {
        with_worker_and_limit(script, bytes, MAX_TEXT_BYTES).await
    }

    async fn with_worker_and_limit(script: &str, bytes: Vec<u8>, most: usize) -> Result<Extracted> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let extractor = Extractor::new(path, Duration::from_secs(3), 1 << 30, 1).with_max_text_bytes(most);
        extractor.extract(bytes, PDF).await
    }

    #[tokio::test]
    async fn answers_of_workers() {
        let ok = r#"/usr/bin/head -c $3 > /dev/null; echo noise; echo '{"ok":{"title":null,"text":"x","sections":[]}}'"#;
        assert_eq!(with_worker(ok, vec![0; 1 << 20]).await.unwrap().text, "x");
        let error = r#"echo '{"error":{"reason":"ENCRYPTED_DOCUMENT","message":"m"}}'"#;
        assert_eq!(with_worker(error, vec![0; 1 << 20]).await.unwrap_err().reason, "ENCRYPTED_DOCUMENT");
        assert_eq!(with_worker("kill -9 $$", vec![]).await.unwrap_err().reason, "EXTRACTION_CRASHED");
        assert_eq!(with_worker("echo x", vec![]).await.unwrap_err().reason, "EXTRACTION_CRASHED");
        assert_eq!(with_worker("exec /bin/sleep 60", vec![]).await.unwrap_err().reason, "EXTRACTION_TIMEOUT");
    }

    #[tokio::test]
    async fn workers_get_no_environment() {
        let show = r#"echo "{\"ok\":{\"title\":null,\"text\":\"$(/usr/bin/env | /usr/bin/tr '\n' ' ')\",\"sections\":[]}}""#;
        let variables = with_worker(show, vec![]).await.unwrap().text;
        // A shell sets some of its own.
        let own = ["PWD=", "SHLVL=", "_=", "OLDPWD=", MEMORY_VARIABLE];
        assert!(
            variables.split_whitespace().all(|v| own.iter().any(|own| v.starts_with(own))),
            "{variables}"
        );
        assert!(variables.contains(MEMORY_VARIABLE));
    }

    #[tokio::test]
    async fn too_much_text_is_refused() {
        let much = r#"/usr/bin/head -c 9000000 /dev/zero"#;
        let extractor = |most| {
            Extractor::new("/nonexistent".into(), Duration::from_secs(1), 1 << 30, 1)
                .with_max_text_bytes(most)
        };
        let text = b"some text".to_vec();
        assert_eq!(
            extractor(8).extract(text.clone(), "text/plain").await.unwrap_err().reason,
            "DOCUMENT_TOO_LARGE"
        );
        assert_eq!(extractor(9).extract(text, "text/plain").await.unwrap().text, "some text");
        let error = with_worker_and_limit(much, vec![], 1 << 20).await.unwrap_err();
        assert_eq!(error.reason, "DOCUMENT_TOO_LARGE");
    }

    #[tokio::test]
    async fn plain_text_needs_no_worker() {
        let extractor = Extractor::new(PathBuf::from("/nonexistent"), Duration::from_secs(1), 1 << 30, 1);
        assert_eq!(extractor.extract(b"hi".to_vec(), "text/plain").await.unwrap().text, "hi");
        assert_eq!(extractor.extract(b"hi".to_vec(), PDF).await.unwrap_err().reason, "EXTRACTION_CRASHED");
    }
}
