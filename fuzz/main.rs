//! Feeds every parser of foreign bytes with broken input: no panic, no abort, no endless loop, no memory out of
//! proportion. `cargo test` runs the corpus and a few changes of it; `make fuzz` goes on for long, guided by coverage.
//! docs/RELIABILITY.md has the figures.

mod coverage;
mod engine;
mod memory;
mod mutate;
mod targets;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use engine::{Limits, Places};
use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// What `cargo test` spends on a target, at most.
const QUICK: Duration = Duration::from_millis(500);
const QUICK_EXECUTIONS: u64 = 2000;
/// Inputs of a target that `--minimize` keeps.
const KEPT: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // The child that reads documents is this program too.
        ["extract-worker", media_type, bytes] => {
            let bytes = bytes.parse().unwrap_or_default();
            ExitCode::from(trove::extract::worker_main(media_type, bytes) as u8)
        }
        ["--run", name, seconds, executions, seed] => child(name, seconds, executions, seed),
        ["--minimize"] => each(minimize),
        rest => {
            let wanted = rest.iter().find(|argument| !argument.starts_with('-')).copied();
            all(wanted)
        }
    }
}

/// Where the inputs of a target are, if a process of this number started it.
fn places(target: &Target, parent: u32) -> Places {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Places {
        corpus: root.join("fuzz/corpus").join(target.name),
        found: root.join("target/fuzz").join(target.name),
        current: targets::temporary().join(format!("trove-fuzz-{parent}-{}", target.name)),
    }
}

/// Runs all targets whose name holds a text, each in a process of its own, since a fault may end it.
fn all(wanted: Option<&str>) -> ExitCode {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seed = std::env::var("FUZZ_SEED").unwrap_or_else(|_| "1".to_owned());
    let is_name = wanted.is_some_and(|wanted| TARGETS.iter().any(|target| target.name == wanted));
    let is_wanted =
        |name: &str| wanted.is_none_or(|wanted| if is_name { name == wanted } else { name.contains(wanted) });
    let chosen = TARGETS.iter().filter(|target| is_wanted(target.name));
    let mut failed = 0;
    for target in chosen {
        let (seconds, executions) = match &seconds {
            Some(seconds) => (seconds.clone(), u64::MAX),
            None => (QUICK.as_secs_f64().to_string(), QUICK_EXECUTIONS),
        };
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        let child = Command::new(program)
            .args(["--run", target.name, &seconds, &executions.to_string(), &seed])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .spawn()
            .and_then(|mut child| Ok((child.id(), child.wait()?)));
        let ended = match child {
            Ok((_, status)) if status.code() == Some(0) => continue,
            Ok((_, status)) if status.code() == Some(1) => "findings".to_owned(),
            Ok((_, status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        failed += 1;
        let places = places(target, std::process::id());
        if ended != "findings" {
            let kept = last_input(&places.current).map(|input| engine::keep(&places.corpus, &input));
            println!("{}: FOUND the process ended: {ended}; input kept as {kept:?}", target.name);
        }
        let _ = std::fs::remove_file(&places.current);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The input at which a process has died.
fn last_input(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?).map(<[u8]>::to_vec)
}

fn child(name: &str, seconds: &str, executions: &str, seed: &str) -> ExitCode {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("expected one of the targets, got {name:?}");
        return ExitCode::from(2);
    };
    let limits = Limits {
        time: Duration::from_secs_f64(seconds.parse().unwrap_or(1.0)),
        executions: executions.parse().unwrap_or(0),
        seed: seed.parse().unwrap_or(1),
    };
    let places = places(target, std::os::unix::process::parent_id());
    let outcome = match engine::run(target, &places, &limits) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(2);
        }
    };
    let _ = std::fs::remove_file(&places.current);
    let edges = outcome.edges.map_or_else(|| "no coverage".to_owned(), |edges| format!("{edges} edges"));
    let (executions, inputs, found) = (outcome.executions, outcome.inputs, outcome.findings.len());
    println!("{name}: {executions} executions, {inputs} inputs, {edges}, {found} findings");
    outcome.findings.iter().for_each(|finding| println!("{name}: FOUND {finding}"));
    if outcome.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn each(work: fn(&Target) -> std::io::Result<()>) -> ExitCode {
    for target in TARGETS {
        if let Err(error) = work(target) {
            eprintln!("{}: {error}", target.name);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn minimize(target: &Target) -> std::io::Result<()> {
    let kept = engine::minimize(target, &places(target, std::process::id()), KEPT)?;
    println!("{}: {kept} inputs kept", target.name);
    Ok(())
}
