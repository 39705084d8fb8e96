use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What keys start with, so that people and scanners for secrets know them.
const PREFIX: &str = "trove_";
/// Bytes of the id, which is no secret.
const ID_BYTES: usize = 8;
/// Bytes of the secret part.
const SECRET_BYTES: usize = 32;
/// Keeps the hashes of keys apart from all other hashes.
const CONTEXT: &str = "trove v1 2026-11 hash of an API key";

/// A text that must not be shown: its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// An API key: `trove_`, a public id of 16 hexadecimal digits, `_`, and a secret of 64 of them, 256 bits from the
/// system's source of randomness.
///
/// Only a hash is stored. A slow, salted password hash exists to make guessing of likely passwords expensive; a key is
/// one of 2^256 equally likely ones, so that no list of guesses exists, and one fast hash that cannot be inverted is
/// enough. It also keeps the check of every call cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: String,
    text: Secret,
}

impl ApiKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// `NO_RANDOMNESS` where the system gives none.
    pub fn generate() -> Result<Self> {
        let mut random = [0_u8; ID_BYTES + SECRET_BYTES];
        getrandom::fill(&mut random).map_err(|e| {
            Error::internal("NO_RANDOMNESS", format!("the system's random numbers cannot be read: {e}"))
        })?;
        let (id, secret) = random.split_at(ID_BYTES);
        let id = hex(id);
        let text = Secret(format!("{PREFIX}{id}_{}", hex(secret)));
        Ok(Self { id, text })
    }

    /// Reads a key; none where the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let fits = is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES);
        fits.then(|| Self { id: id.to_owned(), text: Secret(text.to_owned()) })
    }

    /// Its public part, which names it in lists and logs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole key, to be shown once.
    pub fn reveal(&self) -> &str {
        self.text.reveal()
    }

    /// What is stored of it. Two hashes are compared in constant time.
    pub fn hash(&self) -> blake3::Hash {
        blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, self.text.0.as_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_differ_and_are_read_as_they_were_written() {
        let (first, second) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        assert_ne!(first, second);
        assert_ne!(first.hash(), second.hash());
        let read = ApiKey::parse(first.reveal()).unwrap();
        assert_eq!((read.id(), read.hash()), (first.id(), first.hash()));
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = ApiKey::generate().unwrap();
        let shown = format!("{key:?} {:?}", Secret::from_str(key.reveal()));
        assert!(shown.contains(key.id()) && !shown.contains(&key.reveal()[PREFIX.len() + 2 * ID_BYTES..]));
    }

    proptest! {
        #[test]
        fn other_texts_are_no_keys(text in "\\PC*", cut in 0_usize..87) {
            prop_assert!(ApiKey::parse(&text).is_none());
            let key = ApiKey::generate().unwrap();
            prop_assert!(ApiKey::parse(&key.reveal()[..cut]).is_none());
            let longer = format!("{}0", key.reveal());
            let upper = key.reveal().to_uppercase();
            prop_assert!(ApiKey::parse(&longer).is_none() && ApiKey::parse(&upper).is_none());
        }
    }
}
