//! The data directory: its disk, its file system, its store.

use std::path::Path;

use indicatif::BinaryBytes;
use rustix::fs::StatVfsMountFlags;

use super::Report;
use super::network::Peer;
use crate::config::Config;
use crate::private;
use crate::store::{SCHEMA_VERSION, StoreState, inspect};

/// With less than this free, a bulk load may fill the disk.
const LITTLE_DISK: u64 = 1 << 30;

/// Checks it. `server` is who answers at the address of the configuration.
pub fn check(report: &mut Report, config: &Config, server: Peer) {
    let data = &config.data_dir;
    if !is_usable(report, data) {
        return;
    }
    privacy(report, data);
    disk(report, data, config.store.min_free_bytes);
    store(report, data, server);
}

/// Whether the directory is there and can be written.
fn is_usable(report: &mut Report, data: &Path) -> bool {
    let name = "data directory";
    let shown = data.display();
    let remedy = "set data_dir (--data-dir) to a directory that the server's user may write";
    let metadata = match std::fs::metadata(data) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let remedy = "`trove setup` makes it, with the runtime and the models; or set data_dir";
            report.problem(name, format!("{shown} does not exist"), remedy);
            return false;
        }
        Err(error) => {
            report.problem(name, format!("{shown} cannot be read: {error}"), remedy);
            return false;
        }
    };
    if !metadata.is_dir() {
        report.problem(name, format!("{shown} is no directory"), remedy);
        return false;
    }
    // It is gone again when it is closed.
    if let Err(error) = tempfile_in(data) {
        report.problem(name, format!("{shown} cannot be written: {error}"), remedy);
        return false;
    }
    report.ok(name, format!("{shown} can be written"));
    true
}

/// Makes a file and removes it.
fn tempfile_in(dir: &Path) -> std::io::Result<()> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    std::fs::File::create_new(&path)?;
    std::fs::remove_file(&path)
}

/// Whether others of the machine may read what is stored.
fn privacy(report: &mut Report, data: &Path) {
    let name = "file modes";
    let remedy = "the next start of the server takes them from others; or `chmod -R go= PATH`";
    match private::exposed(data) {
        Ok(exposed) => match exposed.first() {
            None => report.ok(name, "what is stored is its owner's alone"),
            Some(first) => {
                let (count, first) = (exposed.len(), first.display());
                let message = format!("others of this machine have rights on {count} files, such as {first}");
                report.warning(name, message, remedy);
            }
        },
        Err(error) => report.warning(name, format!("what is stored cannot be looked at: {error}"), remedy),
    }
}

/// `least` is the room that is never used up.
fn disk(report: &mut Report, data: &Path, least: u64) {
    let name = "disk";
    let Ok(disk) = rustix::fs::statvfs(data) else { return };
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        report.problem(name, "the file system is mounted read-only", "mount it for writing");
    }
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let message = format!("{} free", BinaryBytes(free));
    if free < least {
        let message = format!("{message}: below {} all documents are refused", BinaryBytes(least));
        report.problem(name, message, "make room, or move the data directory to a larger disk");
    } else if free < LITTLE_DISK {
        report.warning(
            name,
            message,
            "make room before a bulk load: compaction needs as much as the store has",
        );
    } else {
        report.ok(name, message);
    }
    file_system(report, data);
}

#[cfg(target_os = "linux")]
fn file_system(report: &mut Report, data: &Path) {
    let name = "file system";
    let Ok(stat) = rustix::fs::statfs(data) else { return };
    let (system, remedy) = match stat.f_type as u32 {
        0xef53 => ("ext", None),
        0x5846_5342 => ("xfs", None),
        0x9123_683e => ("btrfs", None),
        0x2fc1_2fc1 => ("zfs", None),
        0xf2f5_2010 => ("f2fs", None),
        0x794c_7630 => (
            "overlay",
            Some("in a container, put the data directory on a volume: it is gone with the container"),
        ),
        0x0102_1994 => ("tmpfs", Some("it is in memory and gone after a restart: use a disk")),
        0x6969 => ("nfs", Some(REMOTE)),
        0xff53_4d42 | 0xfe53_4d42 => ("smb", Some(REMOTE)),
        0x0102_1997 => ("9p", Some(REMOTE)),
        0x6573_5546 => ("fuse", Some(REMOTE)),
        _ => ("of another kind", None),
    };
    match remedy {
        None => report.ok(name, system),
        Some(remedy) => report.warning(name, system, remedy),
    }
}

#[cfg(target_os = "linux")]
const REMOTE: &str = "locks and fsync may not hold there, on which durability rests: use a local disk";

#[cfg(not(target_os = "linux"))]
fn file_system(_: &mut Report, _: &Path) {}

fn store(report: &mut Report, data: &Path, server: Peer) {
    let name = "store";
    match inspect(data) {
        Ok(StoreState::Missing) => report.ok(name, "none yet; the first start makes one"),
        Ok(StoreState::InUse) if server == Peer::Trove => report.ok(name, "in use by the server that runs"),
        Ok(StoreState::InUse) => report.problem(
            name,
            format!("{} is in use by another process", data.display()),
            "stop it, or take another data_dir: one process at a time",
        ),
        Ok(StoreState::Present { schema_version, bytes }) => {
            let message = format!("schema version {schema_version}, {}", BinaryBytes(bytes));
            let newest = u64::from(SCHEMA_VERSION);
            if schema_version > newest {
                let remedy = format!("use the program that wrote it: this one knows versions up to {newest}");
                report.problem(name, message, remedy);
            } else if schema_version < newest {
                let remedy =
                    format!("none needed: the next start brings it to version {newest}; keep a copy");
                report.warning(name, message, remedy);
            } else {
                report.ok(name, message);
            }
        }
        Err(error) => report.problem(
            name,
            format!("{}: {}", error.reason, error.message),
            "restore it from a copy, or move it away and index again",
        ),
    }
}
