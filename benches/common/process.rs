//! Processor time and memory of processes, from /proc.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Clock ticks of a second, which Linux fixes at 100 for what it shows to programs.
const TICKS: f64 = 100.0;

/// Seconds of processor time that a process has used, with those of its children that have ended.
pub fn cpu_seconds(pid: u32) -> f64 {
    let (own, children) = stat(&PathBuf::from(format!("/proc/{pid}/stat")));
    own + children
}

/// Seconds of processor time of children that have ended.
pub fn child_cpu_seconds(pid: u32) -> f64 {
    stat(&PathBuf::from(format!("/proc/{pid}/stat"))).1
}

/// Seconds of processor time by the names of a process's threads, numbers at their ends dropped.
pub fn cpu_by_thread(pid: u32) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return all };
    for task in tasks.flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
        *all.entry(name).or_insert(0.0) += nanoseconds(&task.path().join("schedstat")) / 1e9;
    }
    all
}

/// Processor time that a server has used until a moment.
pub struct Usage {
    threads: BTreeMap<String, f64>,
    children: f64,
    total: f64,
}

impl Usage {
    /// Until now.
    pub fn of(pid: u32) -> Self {
        Self { threads: cpu_by_thread(pid), children: child_cpu_seconds(pid), total: cpu_seconds(pid) }
    }

    /// Seconds by stage since an earlier moment, and in all.
    pub fn since(&self, earlier: &Self) -> (BTreeMap<&'static str, f64>, f64) {
        let since = |(name, seconds): (&String, &f64)| {
            (name.clone(), (seconds - earlier.threads.get(name).copied().unwrap_or(0.0)).max(0.0))
        };
        let mut stages = by_stage(&self.threads.iter().map(since).collect());
        stages.insert("extract (children)", self.children - earlier.children);
        let total = self.total - earlier.total;
        let known: f64 = stages.values().sum();
        stages.insert("threads that ended", (total - known).max(0.0));
        (stages, total)
    }
}

/// Sums the threads of a server up by what they do.
pub fn by_stage(threads: &BTreeMap<String, f64>) -> BTreeMap<&'static str, f64> {
    let stage = |name: &str| match name {
        "store-commit" => "store",
        "index-maintenan" | "index-build" => "index",
        "keyword-index" | "segment_updater" => "keywords",
        _ if name.starts_with("thrd-tantivy") || name.starts_with("merge_thread") => "keywords",
        _ if name.starts_with("rayon") => "index",
        _ if name.starts_with("encoder") => "encode",
        _ if name.starts_with("sled") || name.contains("flusher") => "store",
        _ if name.starts_with("tokio") || name == "trove" => "serve, split, tokenize",
        _ => "other threads",
    };
    let mut stages = BTreeMap::new();
    threads.iter().for_each(|(name, seconds)| *stages.entry(stage(name)).or_insert(0.0) += seconds);
    stages
}

/// Seconds of processor time of the calling thread.
pub fn thread_cpu_seconds() -> f64 {
    nanoseconds(Path::new("/proc/thread-self/schedstat")) / 1e9
}

/// Resident bytes of a process.
pub fn resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// Resident bytes of a process that are not pages of files, which the system takes back when it needs them.
pub fn anonymous_bytes(pid: u32) -> u64 {
    status_bytes(pid, "RssAnon:")
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes that the files under a directory take.
pub fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| disk_bytes(&entry.path())).sum()
}

/// User and system seconds of a process and of its ended children.
fn stat(path: &Path) -> (f64, f64) {
    let line = std::fs::read_to_string(path).unwrap_or_default();
    // The name, in parentheses, may hold spaces; field 14 is the 12th after it.
    let fields: Vec<f64> = line
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse().ok())
        .collect();
    match fields[..] {
        [user, system, child_user, child_system] => {
            ((user + system) / TICKS, (child_user + child_system) / TICKS)
        }
        _ => (0.0, 0.0),
    }
}

/// The first field of a schedstat file: nanoseconds on a processor.
fn nanoseconds(path: &Path) -> f64 {
    let line = std::fs::read_to_string(path).unwrap_or_default();
    line.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0.0)
}
