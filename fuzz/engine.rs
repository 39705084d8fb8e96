//! Runs one target: what it has in its corpus, then inputs that are made of it by chance.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

use crate::coverage::Seen;
use crate::memory;
use crate::mutate::Mutator;
use crate::targets::Target;

/// Processor time within which any input must be done with.
/// A sheet of as many cells as may be takes half of that in a program that is not optimized.
const SLOW: Duration = Duration::from_secs(3);
/// How much longer it may be where comparisons are counted: a loop of them was seen to take most of its time for that.
const COUNTING: u32 = 4;
/// Time after which an input counts as one that never ends. Generous: other work may hold the processors.
const ENDLESS: Duration = Duration::from_secs(60);

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// How far to go.
pub struct Limits {
    /// Stop after so long.
    pub time: Duration,
    /// Stop after so many inputs that were made.
    pub executions: u64,
    pub seed: u64,
}

/// Where inputs are kept.
pub struct Places {
    /// What is kept for good: an input for each thing that was found, and some that reach far.
    pub corpus: PathBuf,
    /// What reaches further than all before it, of this machine.
    pub found: PathBuf,
    /// The input of the moment, for whoever watches.
    pub current: PathBuf,
}

/// What came of it.
pub struct Outcome {
    pub executions: u64,
    pub inputs: usize,
    pub edges: Option<usize>,
    /// What went wrong, one sentence each.
    pub findings: Vec<String>,
}

struct Runner<'a> {
    target: &'a Target,
    places: &'a Places,
    seen: Seen,
    inputs: Vec<Vec<u8>>,
    known: BTreeSet<String>,
    current: fs::File,
    outcome: Outcome,
}

/// When the input of the moment began, in milliseconds since `Instant` of the start; zero between inputs.
static BEGAN: AtomicU64 = AtomicU64::new(0);

pub fn run(target: &Target, places: &Places, limits: &Limits) -> std::io::Result<Outcome> {
    let started = Instant::now();
    watch(started);
    panic::set_hook(Box::new(|info| {
        PANIC.with_borrow_mut(|message| *message = info.to_string().replace('\n', ": "));
    }));
    let current = fs::File::options().create(true).truncate(true).write(true).open(&places.current)?;
    let outcome = Outcome { executions: 0, inputs: 0, edges: None, findings: Vec::new() };
    let mut runner = Runner {
        target,
        places,
        seen: Seen::new(),
        inputs: Vec::new(),
        known: BTreeSet::new(),
        current,
        outcome,
    };
    let mut first: Vec<Vec<u8>> = (target.seeds)();
    for dir in [&places.corpus, &places.found] {
        first.extend(read_all(dir)?);
    }
    // What was counted on the way here is nobody's.
    runner.seen.forget();
    for input in first {
        runner.execute(started, &input)?;
        runner.inputs.push(input);
    }
    let mut mutator = Mutator::new(limits.seed, target.most_bytes, target.words);
    let mut made = 0;
    while made < limits.executions && started.elapsed() < limits.time && !runner.inputs.is_empty() {
        made += 1;
        let count = runner.inputs.len();
        // What came last is the most promising, half of the time.
        let recent = count.min(16);
        let at = if mutator.below(2) == 0 { count - 1 - mutator.below(recent) } else { mutator.below(count) };
        let (input, other) = (&runner.inputs[at], &runner.inputs[mutator.below(count)]);
        let changed = mutator.change(input, other);
        if runner.execute(started, &changed)? {
            fs::create_dir_all(&places.found)?;
            fs::write(places.found.join(name(&changed)), &changed)?;
            runner.inputs.push(changed);
        }
    }
    runner.outcome.inputs = runner.inputs.len();
    runner.outcome.edges = runner.seen.is_there().then_some(runner.seen.edges);
    Ok(runner.outcome)
}

impl Runner<'_> {
    /// Runs an input; whether it reached something new.
    fn execute(&mut self, started: Instant, input: &[u8]) -> std::io::Result<bool> {
        use std::os::unix::fs::FileExt;
        // A process that dies leaves it behind.
        self.current.write_all_at(&[&(input.len() as u64).to_le_bytes(), input].concat(), 0)?;
        self.outcome.executions += 1;
        BEGAN.store(started.elapsed().as_millis() as u64 + 1, Relaxed);
        let begin = ThreadTime::now();
        let check = self.target.check;
        let (done, peak) = memory::peak(|| panic::catch_unwind(AssertUnwindSafe(|| check(input))));
        let took = begin.elapsed();
        BEGAN.store(0, Relaxed);
        let most = self.target.memory(input.len());
        let slow = if self.seen.is_there() { SLOW * COUNTING } else { SLOW };
        if let Err(payload) = done {
            let message = PANIC.take();
            self.find(input, message.split(": ").next().unwrap_or_default(), &message);
            drop::<Box<dyn Any + Send>>(payload);
        } else if peak > most {
            self.find(input, "memory", &format!("took {peak} bytes, expected at most {most}"));
        } else if took > slow {
            self.find(input, "time", &format!("took {took:?} of processor time"));
        }
        Ok(self.seen.is_new())
    }

    /// Reports each kind of fault once, and keeps its input.
    fn find(&mut self, input: &[u8], kind: &str, message: &str) {
        if self.known.insert(kind.to_owned()) {
            let file = keep(&self.places.corpus, input);
            self.outcome.findings.push(format!("{message} ({} bytes, kept as {file})", input.len()));
        }
    }
}

/// Keeps an input of a fault; gives its path.
pub fn keep(corpus: &Path, input: &[u8]) -> String {
    let path = corpus.join(format!("found-{}", name(input)));
    match fs::create_dir_all(corpus).and_then(|()| fs::write(&path, input)) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("nothing, since {} cannot be written: {error}", path.display()),
    }
}

/// Ends the process where an input takes for ever.
fn watch(started: Instant) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let began = BEGAN.load(Relaxed);
            let now = started.elapsed().as_millis() as u64;
            if began != 0 && now.saturating_sub(began) > ENDLESS.as_millis() as u64 {
                eprintln!("an input takes longer than {ENDLESS:?}");
                std::process::abort();
            }
        }
    });
}

/// Keeps of all inputs the fewest small ones that reach all that they reach together; gives their number.
pub fn minimize(target: &Target, places: &Places, most: usize) -> std::io::Result<usize> {
    let mut inputs = read_all(&places.found)?;
    inputs.extend(read_all(&places.corpus)?.into_iter().filter(|input| input.len() <= 4096));
    inputs.sort_by_key(Vec::len);
    let mut seen = Seen::new();
    let seeds = (target.seeds)();
    seen.forget();
    for seed in seeds {
        (target.check)(&seed);
        seen.is_new();
    }
    let mut kept = 0;
    for input in inputs {
        let edges = seen.edges;
        let _ = panic::catch_unwind(|| (target.check)(&input));
        seen.is_new();
        if seen.edges > edges && kept < most {
            fs::create_dir_all(&places.corpus)?;
            fs::write(places.corpus.join(name(&input)), &input)?;
            kept += 1;
        }
    }
    Ok(kept)
}

fn name(input: &[u8]) -> String {
    blake3::hash(input).to_hex().as_str().chars().take(16).collect()
}

fn read_all(dir: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths.into_iter().map(fs::read).collect()
}
