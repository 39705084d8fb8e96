//! The folder of the snapshots: names, what is in it, and what goes.

use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Cancelled;
use super::format::{self, End, Header, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::private;
use crate::store::live::{from_io, sync_dir};
use crate::store::{Store, now_ns};

/// What the names of finished snapshot files end in.
const SUFFIX: &str = ".snapshot";
/// What the names of those that are being written end in.
const UNFINISHED: &str = ".snapshot.tmp";
/// Bytes of a file that are read at once.
const BUFFER: usize = 1 << 20;

/// A snapshot's name: 1 to 100 letters, digits, `-` and `_`, so that it is always a file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// `INVALID_SNAPSHOT_NAME`.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
            let got: String = name.chars().take(120).collect();
            return Err(Error::invalid(
                "INVALID_SNAPSHOT_NAME",
                format!("expected a snapshot name of 1 to 100 letters, digits, '-' and '_', got {got:?}"),
            ));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of a snapshot without reading all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotName,
    /// Names of the collections in it.
    pub collections: Vec<String>,
    /// Length of its file.
    pub size_bytes: u64,
    /// BLAKE3 of its content, as it stands in the file.
    pub blake3: [u8; 32],
    /// When it was made, in nanoseconds since 1970.
    pub create_time_ns: i64,
    /// Rises with every snapshot of the folder, whatever the clock said; zero where an older program made it.
    pub number: u64,
    /// Whether the schedule made it.
    pub is_scheduled: bool,
    /// Documents in it.
    pub documents: u64,
    /// Their passages.
    pub passages: u64,
    /// Documents that could not be read when it was made, and are not in it.
    pub left_out: u64,
    /// Names of collections whose records were damaged when it was made, and that are not in it.
    pub damaged_collections: Vec<String>,
    /// Why the file cannot be read, where that shows already; everything else is then unknown.
    pub problem: Option<String>,
}

impl SnapshotInfo {
    pub(super) fn new(name: &SnapshotName, size_bytes: u64, header: &Header, end: End) -> Self {
        Self {
            name: name.clone(),
            collections: header.collections.iter().map(|c| c.name.clone()).collect(),
            size_bytes,
            blake3: end.blake3,
            create_time_ns: header.create_time_ns,
            number: header.number,
            is_scheduled: header.is_scheduled,
            documents: end.documents,
            passages: end.passages,
            left_out: end.left_out,
            damaged_collections: header.damaged_collections.clone(),
            problem: None,
        }
    }
}

/// The folder.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens it, and deletes what a crash left unfinished.
    pub fn open(path: PathBuf) -> Result<Self> {
        private::create_dir_all(&path).map_err(from_io)?;
        for entry in fs::read_dir(&path).map_err(from_io)? {
            let entry = entry.map_err(from_io)?;
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(from_io)?;
            }
        }
        // A program that was killed may have left a name that is not on the disk.
        sync_dir(&path)?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &SnapshotName) -> PathBuf {
        self.path.join(format!("{}{SUFFIX}", name.as_str()))
    }

    pub fn unfinished(&self, name: &SnapshotName) -> PathBuf {
        self.path.join(format!("{}{UNFINISHED}", name.as_str()))
    }

    /// A snapshot's file, opened for reading, and its length.
    pub fn open_file(&self, name: &SnapshotName) -> Result<(File, u64)> {
        let opened = File::open(self.file(name));
        let file = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unknown(name),
            _ => from_io(error),
        })?;
        let size = file.metadata().map_err(from_io)?.len();
        Ok((file, size))
    }

    fn names(&self) -> Result<Vec<SnapshotName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(from_io)? {
            let file = entry.map_err(from_io)?.file_name();
            // Whatever else somebody keeps here is left alone.
            let name = file.to_str().and_then(|file| file.strip_suffix(SUFFIX));
            names.extend(name.and_then(|name| SnapshotName::new(name).ok()));
        }
        Ok(names)
    }

    /// What the two ends of a file tell.
    fn info(&self, name: &SnapshotName) -> Result<SnapshotInfo> {
        let (mut file, size) = self.open_file(name)?;
        let reader = Reader::new(BufReader::new(&file))?;
        let header = reader.header().clone();
        let mut bytes = [0; format::END_BYTES as usize];
        file.seek(SeekFrom::End(-(format::END_BYTES as i64))).map_err(from_io)?;
        file.read_exact(&mut bytes).map_err(from_io)?;
        Ok(SnapshotInfo::new(name, size, &header, format::end_in(&bytes)))
    }

    /// The number of the next snapshot.
    pub fn next_number(&self) -> Result<u64> {
        Ok(self.list()?.iter().map(|info| info.number).max().unwrap_or(0).saturating_add(1))
    }

    fn list(&self) -> Result<Vec<SnapshotInfo>> {
        let mut all = Vec::new();
        for name in self.names()? {
            match self.info(&name) {
                Ok(info) => all.push(info),
                // Deleted meanwhile.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => all.push(SnapshotInfo {
                    problem: Some(error.message),
                    ..SnapshotInfo::new(
                        &name,
                        self.open_file(&name).map_or(0, |f| f.1),
                        &Header::default(),
                        End::default(),
                    )
                }),
            }
        }
        all.sort_by(|a, b| b.create_time_ns.cmp(&a.create_time_ns).then_with(|| b.name.cmp(&a.name)));
        Ok(all)
    }
}

impl Store {
    /// A name made of the time, after a beginning, that no snapshot has.
    pub fn free_snapshot_name(&self, beginning: &str) -> Result<SnapshotName> {
        let seconds = now_ns().div_euclid(1_000_000_000);
        let time: String = prost_types::Timestamp { seconds, nanos: 0 }
            .to_string()
            .chars()
            .filter_map(|c| match c {
                'T' => Some('-'),
                c => c.is_ascii_digit().then_some(c),
            })
            .collect();
        let mut name = SnapshotName::new(format!("{beginning}{time}"))?;
        let mut more = 1;
        while self.inner.snapshots.file(&name).exists() {
            more += 1;
            name = SnapshotName::new(format!("{beginning}{time}-{more}"))?;
        }
        Ok(name)
    }

    /// All snapshots, the newest first. Files that cannot be read stand there with their problem.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.inner.snapshots.list()
    }

    /// Reads a snapshot and checks everything in it.
    ///
    /// # Errors
    /// `UNKNOWN_SNAPSHOT`, `SNAPSHOT_TOO_NEW`, `SNAPSHOT_DAMAGED` with what is wrong, or that the caller left.
    pub fn verify_snapshot(&self, name: &SnapshotName, is_cancelled: Cancelled<'_>) -> Result<SnapshotInfo> {
        super::counted("verify", || {
            let (file, size) = self.inner.snapshots.open_file(name)?;
            let (header, end) = super::restore::read_all(file, is_cancelled, |_, _| Ok(()))?;
            Ok(SnapshotInfo::new(name, size, &header, end))
        })
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// `UNKNOWN_SNAPSHOT`.
    pub fn delete_snapshot(&self, name: &SnapshotName) -> Result<()> {
        let folder = &self.inner.snapshots;
        let removed = fs::remove_file(folder.file(name)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unknown(name),
            _ => from_io(error),
        });
        // Also where there is none: the call that deleted it may have failed before that was on the disk.
        sync_dir(folder.path())?;
        removed
    }
}

/// A reader of a whole file.
pub fn reader(file: File) -> Result<Reader<BufReader<File>>> {
    Reader::new(BufReader::with_capacity(BUFFER, file))
}

fn unknown(name: &SnapshotName) -> Error {
    let message = format!("there is no snapshot {:?}", name.as_str());
    Error::not_found("UNKNOWN_SNAPSHOT", message).about("snapshot", name.as_str())
}

#[cfg(test)]
mod name_tests {
    use super::SnapshotName;

    #[test]
    fn names_stay_in_the_folder() {
        assert!(SnapshotName::new("before-upgrade_2").is_ok());
        for bad in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a.b", "a\0b", "é", &"x".repeat(101)]
        {
            assert_eq!(SnapshotName::new(bad).unwrap_err().reason, "INVALID_SNAPSHOT_NAME", "{bad:?}");
        }
    }
}
