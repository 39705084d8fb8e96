//! SHA-256 of files: what the hub and package indexes know contents by.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::dir::unreadable;
use crate::error::Result;

const BUFFER: usize = 1 << 20;

/// In lower-case hexadecimal.
///
/// # Errors
/// `MODEL_FILE_MISSING` where the file cannot be read.
pub(super) fn of_file(path: &Path) -> Result<String> {
    let failed = |e| unreadable(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
