//! The processor, the memory and the limits of the process.

use indicatif::BinaryBytes;

use super::Report;
use crate::config::Config;
use crate::server::check_open_files;

/// Memory that the default models and a small store need.
const LITTLE_MEMORY: u64 = 1 << 30;

/// Checks them.
pub fn check(report: &mut Report) {
    processor(report);
    memory(report);
}

fn processor(report: &mut Report) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = features();
    let message = format!("{}, {cores} cores, {}", std::env::consts::ARCH, found.join(" "));
    if cfg!(target_arch = "x86_64") && !found.contains(&"avx2") {
        let remedy =
            "use a processor (or a type of virtual machine) with AVX2: without it, encoding is very slow";
        return report.warning("processor", message, remedy);
    }
    report.ok("processor", message);
}

/// What speeds up encoding (bf16, with OpenVINO), generating and searching (VNNI).
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let known: [(&str, bool); 0] = [];
    known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(target_os = "linux")]
fn memory(report: &mut Report) {
    use procfs::Current;
    let Ok(memory) = procfs::Meminfo::current() else { return };
    let available = memory.mem_available.unwrap_or(memory.mem_free);
    let message = format!("{} available of {}", BinaryBytes(available), BinaryBytes(memory.mem_total));
    if available < LITTLE_MEMORY {
        let remedy = "stop other programs, or set encoder.sessions and generator.slots to 1";
        return report.warning("memory", message, remedy);
    }
    report.ok("memory", message);
}

#[cfg(not(target_os = "linux"))]
fn memory(_: &mut Report) {}

/// Whether the process may have the files open that the settings need. A server raises its limit itself.
pub fn open_files(report: &mut Report, config: &Config) {
    let name = "open files";
    match check_open_files(config) {
        Ok((needed, most)) => report.ok(name, format!("{most} may be open, the settings need {needed}")),
        Err(error) => report.problem(
            name,
            format!("{}: {}", error.reason, error.message),
            "`ulimit -n`, LimitNOFILE= in a systemd unit, or lower limits.max_connections",
        ),
    }
}
