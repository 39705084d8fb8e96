//! The parts of an Office Open XML package, and how they refer to each other.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use quick_xml::events::Event;
use zip::ZipArchive;
use zip::result::ZipError;

use super::super::broken;
use super::xml::{self, attribute};
use trove_core::error::{Error, Result};

/// How files of the format before ZIP begin, and those that Office encrypts.
const OLE: &[u8] = b"\xd0\xcf\x11\xe0";
/// Most bytes of a part that lists what others refer to.
const MAX_RELATIONSHIPS_BYTES: u64 = 8 << 20;

/// A relationship of a part to another part, or to what is outside of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relationship {
    /// The last word of its type, such as `styles`.
    pub(super) kind: String,
    /// The other part's name, or an address outside.
    pub(super) target: String,
    pub(super) is_external: bool,
}

/// A package that is read part by part, up to so many inflated bytes of all.
pub(super) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    limit: u64,
    left: u64,
}

impl<'a> Package<'a> {
    pub(super) fn open(bytes: &'a [u8], limit: u64) -> Result<Self> {
        if bytes.starts_with(OLE) {
            return Err(other_container(bytes));
        }
        let archive = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| broken(format!("the DOCX is no ZIP archive: {e}")))?;
        Ok(Self { archive, limit, left: limit })
    }

    /// The name of the main part: the package says so, or it has the usual name.
    pub(super) fn main_part(&mut self) -> Result<String> {
        let from_root = self.relationships("")?;
        let named = from_root.into_values().find(|to| to.kind == "officeDocument" && !to.is_external);
        Ok(named.map_or_else(|| "word/document.xml".to_owned(), |to| to.target))
    }

    /// The relationships of a part by their ids; the package itself has the empty name.
    pub(super) fn relationships(&mut self, part: &str) -> Result<HashMap<String, Relationship>> {
        let (folder, name) = part.rsplit_once('/').map_or(("", part), |(folder, name)| (folder, name));
        let slash = if folder.is_empty() { "" } else { "/" };
        let Some(bytes) = self.part(&format!("{folder}{slash}_rels/{name}.rels"), MAX_RELATIONSHIPS_BYTES)?
        else {
            return Ok(HashMap::new());
        };
        let mut found = HashMap::new();
        // What stands before a break counts.
        let _ = xml::each(&bytes, |event| {
            if let Event::Start(e) | Event::Empty(e) = event
                && e.local_name().as_ref() == "Relationship"
            {
                let target = attribute(e, "Target");
                let is_external = attribute(e, "TargetMode").eq_ignore_ascii_case("external");
                let target = if is_external { target } else { resolve(folder, &target) };
                let kind = attribute(e, "Type").rsplit('/').next().unwrap_or_default().to_owned();
                found.insert(attribute(e, "Id"), Relationship { kind, target, is_external });
            }
        });
        Ok(found)
    }

    /// The bytes of a part; `None` where there is none of the name.
    ///
    /// What the archive says of its sizes may be a lie, so the bytes that come out are counted, before any memory is taken
    /// for them.
    pub(super) fn part(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let inflated = |e| broken(format!("{name} of the DOCX cannot be inflated: {e}"));
        let most = most.min(self.left);
        let size = match self.archive.by_name(name) {
            Ok(part) => std::io::copy(&mut part.take(most + 1), &mut std::io::sink()).map_err(inflated)?,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => return Err(encrypted()),
            Err(e) => return Err(broken(format!("{name} of the DOCX cannot be read: {e}"))),
        };
        if size > most {
            let limit = self.limit;
            let message = format!("expected a DOCX of at most {limit} inflated bytes, got more");
            return Err(Error::invalid("DOCUMENT_TOO_LARGE", message));
        }
        self.left -= size;
        let mut bytes = Vec::with_capacity(size as usize);
        if let Ok(part) = self.archive.by_name(name) {
            part.take(size).read_to_end(&mut bytes).map_err(inflated)?;
        }
        Ok(Some(bytes))
    }
}

/// The name of the part that a target leads to from a folder.
fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let from = if target.starts_with('/') { "" } else { folder };
    for part in from.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn encrypted() -> Error {
    Error::invalid("ENCRYPTED_DOCUMENT", "expected a DOCX that opens without a password, got a protected one")
}

/// What is wrong with an OLE container that goes by the name of a DOCX.
fn other_container(bytes: &[u8]) -> Error {
    let has = |name: &str| {
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.windows(name.len()).any(|window| window == name)
    };
    if has("EncryptedPackage") || has("EncryptionInfo") {
        return encrypted();
    }
    let message = "expected a DOCX, got an old Word document (.doc) or one that a password protects; save it as .docx \
        without a password";
    if has("WordDocument") {
        Error::invalid("UNSUPPORTED_FORMAT", message)
    } else {
        Error::invalid("ENCRYPTED_DOCUMENT", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_lead_from_the_folder_of_the_part() {
        assert_eq!(resolve("word", "styles.xml"), "word/styles.xml");
        assert_eq!(resolve("word", "/custom/a.xml"), "custom/a.xml");
        assert_eq!(resolve("word", "../docProps/./core.xml"), "docProps/core.xml");
        assert_eq!(resolve("", "../../a.xml"), "a.xml");
    }
}
