//! What the operating system tells of this process, by the names that Prometheus' own clients use.

use ::metrics::gauge;

use crate::metrics;

/// Records it; where the system does not tell, nothing.
#[cfg(target_os = "linux")]
pub fn record() {
    let Ok(process) = procfs::process::Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        gauge!(metrics::PROCESS_CPU).set((stat.utime + stat.stime) as f64 / ticks);
        gauge!(metrics::PROCESS_RESIDENT_MEMORY).set((stat.rss * procfs::page_size()) as f64);
        gauge!(metrics::PROCESS_VIRTUAL_MEMORY).set(stat.vsize as f64);
        gauge!(metrics::PROCESS_THREADS).set(stat.num_threads as f64);
        if let Ok(boot) = procfs::boot_time_secs() {
            gauge!(metrics::PROCESS_START_TIME).set(boot as f64 + stat.starttime as f64 / ticks);
        }
    }
    if let Ok(count) = process.fd_count() {
        gauge!(metrics::PROCESS_OPEN_FDS).set(count as f64);
    }
    if let Ok((soft, _)) = rlimit::Resource::NOFILE.get() {
        gauge!(metrics::PROCESS_MAX_FDS).set(soft as f64);
    }
}

/// Elsewhere these metrics are not there.
#[cfg(not(target_os = "linux"))]
pub fn record() {}
