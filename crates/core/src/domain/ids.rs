use std::fmt;

use crate::error::{Error, Result};

/// Most bytes of a document id.
const MAX_DOCUMENT_ID_BYTES: usize = 512;

/// A collection's name: lower-case letters, digits, `-` and `_`, 1 to 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionName(String);

impl CollectionName {
    /// Checks and wraps a name.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
            return Err(Error::invalid(
                "INVALID_COLLECTION_NAME",
                format!(
                    "expected a collection name of 1 to 63 lower-case letters, digits, '-' and '_', got {:?}",
                    name.chars().take(80).collect::<String>()
                ),
            ));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document's id: 1 to 512 bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentId(String);

impl DocumentId {
    /// Checks and wraps an id.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        Self::check(&id)?;
        Ok(Self(id))
    }

    /// Checks an id.
    ///
    /// # Errors
    /// `INVALID_DOCUMENT_ID`.
    pub fn check(id: &str) -> Result<()> {
        if id.is_empty() || id.len() > MAX_DOCUMENT_ID_BYTES || id.chars().any(char::is_control) {
            return Err(Error::invalid(
                "INVALID_DOCUMENT_ID",
                format!(
                    "expected a document id of 1 to {MAX_DOCUMENT_ID_BYTES} bytes without control characters, got {} bytes",
                    id.len()
                ),
            ));
        }
        Ok(())
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(CollectionName::new("notes-2_a").is_ok());
        for bad in ["", "Upper", "a b", "é", &"x".repeat(64)] {
            assert_eq!(CollectionName::new(bad).unwrap_err().reason, "INVALID_COLLECTION_NAME");
        }
    }

    #[test]
    fn ids_are_checked() {
        assert!(DocumentId::new("dir/ä.md").is_ok());
        for bad in ["", "a\nb", &"x".repeat(513)] {
            assert_eq!(DocumentId::new(bad).unwrap_err().reason, "INVALID_DOCUMENT_ID");
        }
    }
}
