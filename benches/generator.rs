//! Time to first token and tokens a second of the generator, beside llama.cpp on the same GGUF file where a peer is
//! given, all in one run and in turns.
//!
//! ```text
//! cargo bench --bench generator -- --peer "python scripts/bench_generator_peer.py" --questions DIR
//! ```

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures::StreamExt;
use serde_json::{Value, json};
use trove::generator::{Event, Finish, Generator, GeneratorOptions, Message, Prompt, Role, Sampling};
use trove::model::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// Data directory with the runtime library and the models.
    #[arg(long, default_value = ".trove")]
    data_dir: PathBuf,
    /// Name of the generator.
    #[arg(long, default_value = "SmolLM2-135M-Instruct")]
    model: String,
    /// Text that prompts are cut from.
    #[arg(long, default_value = "demo/text/gittutorial.txt")]
    text: PathBuf,
    /// Tokens of the prompts.
    #[arg(long, value_delimiter = ',', default_value = "128,512,1500")]
    prompts: Vec<usize>,
    /// Tokens to write.
    #[arg(long, default_value_t = 64)]
    tokens: u32,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of the session; zero for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Tokens of prompt and answer together; zero for the default.
    #[arg(long, default_value_t = 0)]
    context: usize,
    /// Let waiting threads sleep.
    #[arg(long)]
    no_spinning: bool,
    /// Command of the peer; the GGUF file and the number of threads are put behind it.
    #[arg(long)]
    peer: Option<String>,
    /// Directory with `corpus.jsonl` and `queries.jsonl` of a question answering set, for speculation.
    #[arg(long)]
    questions: Option<PathBuf>,
    /// How many questions.
    #[arg(long, default_value_t = 40)]
    question_count: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One generation as its caller saw it.
#[derive(Debug, Clone)]
struct Seen {
    first: f64,
    /// Tokens a second behind the first one.
    rate: f64,
    text: String,
    finish: Option<Finish>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dir = args.data_dir.join("models").join(&args.model);
    if !dir.is_dir() {
        println!("skipped: no generator at {}; run scripts/fetch.py", dir.display());
        return Ok(());
    }
    Runtime::init(&args.data_dir.join("runtime"))?;
    let options = GeneratorOptions {
        threads: args.threads,
        spinning: !args.no_spinning,
        context_tokens: args.context,
        ..GeneratorOptions::default()
    };
    let started = Instant::now();
    let generator = Generator::load(&dir, options)?;
    let loaded = started.elapsed().as_secs_f64();
    let threads = if args.threads == 0 {
        std::thread::available_parallelism().map_or(1, usize::from)
    } else {
        args.threads
    };
    let mut peer = match &args.peer {
        Some(command) => Some(Peer::start(command, &gguf_of(&dir)?, threads)?),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut report = vec![json!({ "load_seconds": loaded, "resident_mb": resident_mb() })];
    runtime.block_on(async {
        lengths(&args, &generator, peer.as_mut(), &mut report).await?;
        if let Some(dir) = &args.questions {
            questions(&args, dir, &generator, peer.as_mut(), &mut report).await?;
        }
        anyhow::Ok(())
    })?;
    report.push(json!({ "resident_mb": resident_mb(), "threads": threads }));
    for line in &report {
        if args.json {
            println!("{line}");
        } else {
            println!("{}", flat(line));
        }
    }
    Ok(())
}

/// Prompts of several lengths, with one caller and with four.
async fn lengths(
    args: &Args,
    generator: &Arc<Generator>,
    mut peer: Option<&mut Peer>,
    report: &mut Vec<Value>,
) -> Result<()> {
    let text = std::fs::read_to_string(&args.text).with_context(|| args.text.display().to_string())?;
    let ids = generator.tokenize(&text)?;
    let mut offset = 0;
    let mut next = |length: usize| -> Result<String> {
        // A beginning that was there before would be found in the cache.
        offset = (offset + 37) % ids.len().saturating_sub(length).max(1);
        let end = ids.len().min(offset + length);
        Ok(generator.detokenize(&ids[offset..end])?)
    };
    for &length in &args.prompts {
        for callers in [1, 4] {
            let mut rows: [Vec<[f64; 2]>; 3] = Default::default();
            for _ in 0..args.rounds {
                let prompts = (0..callers).map(|_| next(length)).collect::<Result<Vec<_>>>()?;
                for (speculation, rows) in [false, true].into_iter().zip(&mut rows) {
                    // The other one has left its beginning in the cache; a new first word makes it useless.
                    let word = if speculation { "So" } else { "Now" };
                    let prompts = prompts.iter().map(|p| Prompt::Text(format!("{word} {p}")));
                    let sampling = Sampling { max_tokens: args.tokens, speculation, ..Sampling::default() };
                    let started = Instant::now();
                    let all = prompts.map(|prompt| run(generator, prompt, sampling.clone()));
                    let seen = futures::future::try_join_all(all).await?;
                    rows.push(summary(&seen, started));
                }
                if let Some(peer) = peer.as_deref_mut() {
                    let started = Instant::now();
                    let mut seen = Vec::new();
                    for prompt in &prompts {
                        seen.push(peer.run(&generator.tokenize(&format!("Now {prompt}"))?, args.tokens)?);
                    }
                    rows[2].push(summary(&seen, started));
                }
            }
            for (name, rows) in ["trove", "trove, speculation", "llama.cpp"].into_iter().zip(&rows) {
                if rows.is_empty() {
                    continue;
                }
                let median = |of: fn(&[f64; 2]) -> f64| median(rows.iter().map(of).collect());
                report.push(json!({
                    "prompt_tokens": length,
                    "callers": callers,
                    "system": name,
                    "first_token_ms": rounded(1e3 * median(|row| row[0])),
                    "tokens_per_second": rounded(median(|row| row[1])),
                }));
            }
        }
    }
    Ok(())
}

/// Mean time to the first token; with one caller the rate behind it, with several all tokens over all time.
fn summary(seen: &[Seen], started: Instant) -> [f64; 2] {
    let first = seen.iter().map(|s| s.first).sum::<f64>() / seen.len() as f64;
    let rate = match seen {
        [one] => one.rate,
        many => {
            let tokens = |s: &Seen| s.finish.as_ref().map_or(0.0, |f| f64::from(f.completion_tokens));
            many.iter().map(tokens).sum::<f64>() / started.elapsed().as_secs_f64()
        }
    };
    [first, rate]
}

/// What answers of one system took.
#[derive(Debug, Default, Clone, Copy)]
struct Answers {
    /// Tokens behind the first of each answer.
    tokens: u32,
    /// Seconds that these took.
    decoding: f64,
    /// Seconds from question to end.
    whole: f64,
}

impl Answers {
    fn add(&mut self, seen: &Seen, whole: f64) {
        let Some(finish) = &seen.finish else { return };
        let behind = finish.completion_tokens.saturating_sub(1);
        self.tokens += behind;
        if behind > 0 {
            self.decoding += f64::from(behind) / seen.rate;
        }
        self.whole += whole;
    }
}

/// Answers from a passage, with and without speculation, in turns; the peer writes as many tokens on the same prompt.
async fn questions(
    args: &Args,
    dir: &Path,
    generator: &Generator,
    mut peer: Option<&mut Peer>,
    report: &mut Vec<Value>,
) -> Result<()> {
    let passages = lines(&dir.join("corpus.jsonl"))?;
    let passages: std::collections::HashMap<String, String> =
        passages.into_iter().map(|p| (string(&p, "id"), string(&p, "text"))).collect();
    let queries = lines(&dir.join("queries.jsonl"))?;
    let step = (queries.len() / args.question_count.max(1)).max(1);
    let mut systems = [Answers::default(); 3];
    let (mut accepted, mut differ, mut count) = (0_u32, 0, 0);
    for query in queries.iter().step_by(step).take(args.question_count) {
        let Some(passage) = passages.get(&string(query, "context_id")) else { continue };
        let context = format!("Context:\n{passage}\n\nQuestion: {}", string(query, "text"));
        let messages = vec![
            Message::new(Role::System, "Answer the question from the context in one short sentence."),
            Message::new(Role::User, context),
        ];
        let mut texts = Vec::new();
        let (mut written, mut first) = (0, None);
        for speculation in [count % 2 == 0, count % 2 != 0] {
            let sampling = Sampling { max_tokens: 64, speculation, ..Sampling::default() };
            let started = Instant::now();
            let seen = run(generator, Prompt::Messages(messages.clone()), sampling).await?;
            // The second finds the prompt in the cache: it is given the time to the first token of the other one.
            let first = *first.get_or_insert(seen.first);
            let whole = started.elapsed().as_secs_f64() - seen.first + first;
            systems[usize::from(speculation)].add(&seen, whole);
            let Some(finish) = seen.finish else { bail!("no end") };
            if speculation {
                accepted += finish.accepted_draft_tokens;
            } else {
                written = finish.completion_tokens;
            }
            texts.push(seen.text);
        }
        if let Some(peer) = peer.as_deref_mut() {
            let ids = generator.tokenize(&generator.render(&messages)?)?;
            let started = Instant::now();
            let seen = peer.run(&ids, written)?;
            systems[2].add(&seen, started.elapsed().as_secs_f64());
        }
        if texts[0] != texts[1] {
            eprintln!("{}: {:?} and {:?}", string(query, "id"), texts[0], texts[1]);
            differ += 1;
        }
        count += 1;
    }
    report.push(json!({
        "questions": count,
        "answers_that_differ": differ,
        "accepted_draft_tokens": accepted,
    }));
    for (system, answers) in ["trove", "trove, speculation", "llama.cpp"].into_iter().zip(systems) {
        if answers.tokens > 0 {
            report.push(json!({
                "system": system,
                "answer_tokens": answers.tokens,
                "tokens_per_second": rounded(f64::from(answers.tokens) / answers.decoding),
                "answer_ms": rounded(1e3 * answers.whole / f64::from(count)),
            }));
        }
    }
    Ok(())
}

async fn run(generator: &Generator, prompt: Prompt, sampling: Sampling) -> Result<Seen> {
    let started = Instant::now();
    let mut stream = generator.generate(prompt, sampling).await?;
    let mut seen = Seen { first: 0.0, rate: 0.0, text: String::new(), finish: None };
    while let Some(event) = stream.next().await {
        match event? {
            Event::Delta(text) => {
                if seen.text.is_empty() {
                    seen.first = started.elapsed().as_secs_f64();
                }
                seen.text.push_str(&text);
            }
            Event::Done(finish) => {
                let seconds = started.elapsed().as_secs_f64() - seen.first;
                seen.rate = f64::from(finish.completion_tokens - 1) / seconds;
                seen.finish = Some(finish);
            }
        }
    }
    Ok(seen)
}

/// A process that answers each line of JSON with one.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(command: &str, gguf: &Path, threads: usize) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("expected a command")?;
        let mut child = Command::new(program)
            .args(words)
            .arg(gguf)
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| command.to_owned())?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, input, output })
    }

    fn run(&mut self, ids: &[u32], tokens: u32) -> Result<Seen> {
        writeln!(self.input, "{}", json!({ "ids": ids, "tokens": tokens }))?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("the peer's answer")?;
        let number = |key: &str| answer[key].as_f64().context("the peer's answer");
        let count = number("tokens")?;
        let finish = Finish {
            reason: trove::generator::FinishReason::Length,
            prompt_tokens: ids.len() as u32,
            completion_tokens: count as u32,
            accepted_draft_tokens: 0,
            cached_prompt_tokens: 0,
            queue: std::time::Duration::ZERO,
            inference: std::time::Duration::ZERO,
        };
        let rate = (count - 1.0) / number("decode_seconds")?;
        Ok(Seen { first: number("first_seconds")?, rate, text: String::new(), finish: Some(finish) })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gguf_of(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path());
    let mut files = entries.filter(|path| path.extension().is_some_and(|e| e == "gguf"));
    files.next().with_context(|| format!("expected a GGUF file in {}", dir.display()))
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Memory of this process in MB; zero where the system does not say.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

fn flat(line: &Value) -> String {
    let fields = line.as_object().into_iter().flatten();
    fields.map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}
