//! Where the client keeps what it remembers between two commands, on this machine and for this user.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A file of the state directory: `$XDG_STATE_HOME/trove`, else `~/.local/state/trove`. None where there is no home.
pub fn file(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    Some(state.join("trove").join(name))
}

/// Makes the folder of such a file, which is its owner's alone.
///
/// # Errors
/// What the disk gives.
pub fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}
