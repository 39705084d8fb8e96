//! Parts of ZIP archives, which documents of many formats are.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::broken;
use trove_core::error::{Error, Result};

/// Most bytes of one inflated part.
const MAX_PART_BYTES: u64 = 128 << 20;
/// Most bytes of all inflated parts of a document; far beyond any book, and a bound for what inflates without end.
const MAX_BYTES: u64 = 256 << 20;

/// An archive of limited means: what it says of its sizes may be a lie, so the bytes that come out are counted.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    part: u64,
    left: u64,
}

impl<'a> Archive<'a> {
    /// Opens an archive.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        Self::with_limits(bytes, MAX_PART_BYTES, MAX_BYTES)
    }

    fn with_limits(bytes: &'a [u8], part: u64, left: u64) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|e| broken(format!("the file is no ZIP archive: {e}")))?;
        Ok(Self { zip, part, left })
    }

    /// The bytes of a part, or `None` where there is none of the name.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let limit = self.part.min(self.left);
        let part = match self.zip.by_name(name.trim_start_matches('/')) {
            Ok(part) => part,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => return Err(encrypted()),
            Err(e) => return Err(broken(format!("part {name:?} of the archive cannot be read: {e}"))),
        };
        let mut bytes = Vec::new();
        part.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| broken(format!("part {name:?} of the archive cannot be inflated: {e}")))?;
        if bytes.len() as u64 > limit {
            return Err(too_large(limit));
        }
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The bytes of a part that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<Vec<u8>> {
        self.part(name)?.ok_or_else(|| broken(format!("expected a part {name:?} in the archive, got none")))
    }

    /// Inflates all parts whose names begin so, to see that they stay within the limits.
    pub(super) fn measure(&mut self, prefix: &str) -> Result<()> {
        for index in 0..self.zip.len() {
            let Some(Ok(name)) = self.zip.name_for_index(index) else { continue };
            let name = name.into_owned();
            if name.starts_with(prefix) {
                self.part(&name)?;
            }
        }
        Ok(())
    }
}

/// A document that needs a password.
pub(super) fn encrypted() -> Error {
    Error::invalid("ENCRYPTED_DOCUMENT", "expected a document that opens without a password")
}

fn too_large(limit: u64) -> Error {
    Error::invalid("DOCUMENT_TOO_LARGE", format!("expected at most {limit} inflated bytes, got more"))
}

/// A path relative to the folder of another part, as links within an archive are.
pub(super) fn resolve(base: &str, link: &str) -> String {
    let mut path: Vec<&str> = match link.starts_with('/') {
        true => Vec::new(),
        false => base.split('/').collect(),
    };
    path.pop();
    for step in link.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(path.pop()),
            step => path.push(step),
        }
    }
    path.join("/")
}

/// An archive of these files, for tests.
#[cfg(test)]
pub(super) fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inflation_is_limited_by_part_and_as_a_whole() {
        let bytes = zip(&[("a", &" ".repeat(1000)), ("b", &" ".repeat(900)), ("c", "x")]);
        let mut archive = Archive::with_limits(&bytes, 900, 1200).unwrap();
        assert_eq!(archive.part("a").unwrap_err().reason, "DOCUMENT_TOO_LARGE");
        assert_eq!(archive.part("b").unwrap().unwrap().len(), 900);
        assert_eq!(archive.part("b").unwrap_err().reason, "DOCUMENT_TOO_LARGE");
        assert_eq!(archive.part("c").unwrap().unwrap(), b"x");
        assert_eq!(archive.part("d").unwrap(), None);
        assert_eq!(archive.required("d").unwrap_err().reason, "BROKEN_DOCUMENT");
        assert_eq!(Archive::open(&bytes).unwrap().measure("").map_err(|e| e.reason), Ok(()));
    }

    #[test]
    fn links_are_relative_to_the_part_they_are_in() {
        assert_eq!(resolve("ppt/slides/slide1.xml", "../media/a.png"), "ppt/media/a.png");
        assert_eq!(resolve("ppt/slides/slide1.xml", "/ppt/x.xml"), "ppt/x.xml");
        assert_eq!(resolve("content.opf", "./text/a.xhtml"), "text/a.xhtml");
        assert_eq!(resolve("a/b", "../../../c"), "c");
    }
}
