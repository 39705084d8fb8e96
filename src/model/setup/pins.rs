//! What a server needs, and where it comes from: the list that scripts/fetch.py reads too.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::model::dir::is_inside;

/// The list that the program comes with.
const BUILT_IN: &str = include_str!("pins.json");
/// The generator that is fetched where none is named.
pub const DEFAULT_GENERATOR: &str = "small";

/// Everything that can be fetched.
#[derive(Debug, Clone, Deserialize)]
pub struct Pins {
    /// In the order in which it is fetched.
    pub parts: Vec<Part>,
}

/// A folder of the data directory, and what goes into it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// `runtime`, `pdfium`, `encoder` or `generator`.
    pub name: String,
    /// Which of several parts of that name.
    pub choice: Option<String>,
    /// What it is, for people.
    pub about: String,
    /// Below the data directory.
    pub folder: String,
    /// Megabytes to download.
    pub megabytes: u64,
    /// What is taken out of one wheel as it is.
    pub(super) take: Option<Take>,
    /// What is put together of the members of wheels.
    pub(super) join: Option<Join>,
    /// The same on the hub.
    pub(super) hub: Option<OnHub>,
    /// By kind of machine, or `any`.
    pub(super) wheels: BTreeMap<String, Vec<Wheel>>,
}

/// Members with the prefix, under their names without what is stripped.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Take {
    pub prefix: String,
    pub strip: String,
    /// Parts of names that are left out.
    pub skip: Vec<String>,
}

/// One file, whose pieces are the one member of each wheel whose name ends so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    pub member: String,
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnHub {
    pub repository: String,
    pub revision: String,
    /// SHA-256 of each file.
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wheel {
    /// `NAME==VERSION`.
    pub package: String,
    pub sha256: String,
    pub platform: Option<String>,
}

impl Pins {
    /// The list that the program comes with.
    ///
    /// # Errors
    /// `BAD_PINS`.
    pub fn built_in() -> Result<Self> {
        Self::parse(BUILT_IN.as_bytes())
    }

    /// Reads a list.
    ///
    /// # Errors
    /// `BAD_PINS` says what is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let bad = |message: String| Error::invalid("BAD_PINS", message);
        let this: Self =
            serde_json::from_slice(json).map_err(|e| bad(format!("the list of what is fetched: {e}")))?;
        for part in &this.parts {
            let files = part.hub.iter().flat_map(|hub| hub.files.keys());
            let file = part.join.iter().map(|join| &join.file);
            if let Some(name) = files.chain(file).chain([&part.folder]).find(|name| !is_inside(name)) {
                return Err(bad(format!(
                    "{}: expected names inside the data directory, got {name:?}",
                    part.about
                )));
            }
            if part.take.is_some() == part.join.is_some() || part.wheels.values().any(Vec::is_empty) {
                return Err(bad(format!("{}: expected either take or join, and wheels", part.about)));
            }
        }
        Ok(this)
    }

    /// The generators that can be chosen.
    pub fn generators(&self) -> impl Iterator<Item = (&str, &Part)> {
        self.parts.iter().filter_map(|part| Some((part.choice.as_deref()?, part)))
    }
}

impl Part {
    /// The wheels for this machine.
    pub(super) fn wheels(&self) -> Result<&[Wheel]> {
        let found = self.wheels.get("any").or_else(|| {
            let is_linux = cfg!(target_os = "linux");
            self.wheels.get(std::env::consts::ARCH).filter(|_| is_linux)
        });
        found.map(Vec::as_slice).ok_or_else(|| {
            let known: Vec<&str> = self.wheels.keys().map(String::as_str).collect();
            Error::precondition(
                "UNSUPPORTED_MACHINE",
                format!(
                    "{}: expected Linux on {}, got {} on {}; put it into {} of the data directory by hand",
                    self.about,
                    known.join(" or "),
                    std::env::consts::OS,
                    std::env::consts::ARCH,
                    self.folder
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_holds_what_a_server_needs() {
        let pins = Pins::built_in().unwrap();
        let names: Vec<&str> = pins.parts.iter().map(|part| part.name.as_str()).collect();
        assert!(["runtime", "encoder", "generator"].iter().all(|name| names.contains(name)));
        assert!(pins.generators().any(|(choice, _)| choice == DEFAULT_GENERATOR));
        let is_hash = |hash: &str| {
            hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        for part in &pins.parts {
            assert!(
                part.wheels
                    .values()
                    .flatten()
                    .all(|wheel| is_hash(&wheel.sha256) && wheel.package.contains("=="))
            );
            assert!(part.hub.iter().flat_map(|hub| hub.files.values()).all(|hash| is_hash(hash)));
            // Wherever it comes from, it is the same file.
            if let (Some(join), Some(hub)) = (&part.join, &part.hub) {
                assert_eq!(hub.files.get(&join.file), Some(&join.sha256), "{}", part.about);
            }
        }
    }

    #[test]
    fn a_list_that_leads_out_of_the_data_directory_is_refused() {
        let part = |folder: &str, file: &str| {
            serde_json::json!({"parts": [{"name": "generator", "about": "x", "folder": folder, "megabytes": 1,
                "join": {"member": ".bin", "file": file, "bytes": 1, "sha256": "0"},
                "wheels": {"any": [{"package": "x==1", "sha256": "0"}]}}]})
            .to_string()
        };
        assert!(Pins::parse(part("models/x", "x.gguf").as_bytes()).is_ok());
        for (folder, file) in [("../x", "x.gguf"), ("/etc", "x.gguf"), ("models/x", "../x.gguf")] {
            assert_eq!(Pins::parse(part(folder, file).as_bytes()).unwrap_err().reason, "BAD_PINS");
        }
        assert_eq!(Pins::parse(b"{").unwrap_err().reason, "BAD_PINS");
    }
}
