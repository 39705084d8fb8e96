//! Files for their owner alone: what is stored is nobody else's business, whatever the umask says.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

/// Mode of a file.
const FILE: u32 = 0o600;
/// Mode of a directory.
const DIRECTORY: u32 = 0o700;
/// What others than the owner may do.
const OTHERS: u32 = 0o077;

/// What the server writes in the data directory. Models, the runtime library and prompts are the user's.
pub const OWN: [&str; 6] = ["store", "snapshots", "keywords", "keys.json", "keys.lock", "LOCK"];

/// Lets this process make all files for its user alone from now on, those too that libraries make.
pub fn set_umask() {
    rustix::process::umask(Mode::from_bits_truncate(OTHERS));
}

/// Makes a directory, and those above it that are missing. One that is there stays as it is.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY).create(path)
}

/// How to open a file that may have to be made.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE);
    options
}

/// Takes a file, or a directory and all that is in it, from all others. Nothing happens where there is none. Links are
/// left alone, and not followed.
///
/// # Errors
/// The first file that cannot be changed, such as one of another user; the others are changed all the same.
pub fn close(path: &Path) -> io::Result<()> {
    let mut result = Ok(());
    visit(path, &mut |path, permissions| {
        let mode = if path.is_dir() { DIRECTORY } else { FILE };
        match fs::set_permissions(path, Permissions::from_mode(permissions.mode() & mode)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && result.is_ok() => result = Err(error),
            _ => {}
        }
    })?;
    result
}

/// Files and directories that others may read or write, of those that the server writes in a data directory.
///
/// # Errors
/// Where a directory cannot be read.
pub fn exposed(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in OWN {
        visit(&data.join(name), &mut |path, _| found.push(path.to_owned()))?;
    }
    Ok(found)
}

/// Shows each file and directory, from the top, on which others have rights.
fn visit(path: &Path, each: &mut dyn FnMut(&Path, &Permissions)) -> io::Result<()> {
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        let Some(metadata) = there(fs::symlink_metadata(&path))? else { continue };
        if metadata.is_symlink() {
            continue;
        }
        if metadata.permissions().mode() & OTHERS != 0 {
            each(&path, &metadata.permissions());
        }
        if !metadata.is_dir() {
            continue;
        }
        for entry in there(fs::read_dir(&path))?.into_iter().flatten() {
            waiting.push(entry?.path());
        }
    }
    Ok(())
}

/// What was read; nothing where it is gone.
fn there<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_is_its_owners_and_links_are_not_followed() {
        let data = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let store = data.path().join("store");
        fs::create_dir_all(store.join("a/b")).unwrap();
        std::os::unix::fs::symlink(outside.path(), store.join("link")).unwrap();
        let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for file in ["x", "a/y", "a/b/z"].map(|name| store.join(name)) {
            fs::write(&file, "x").unwrap();
            mode(&file, 0o644);
        }
        for path in [outside.path(), &store, &store.join("a"), &store.join("a/b")] {
            mode(path, 0o755);
        }
        assert_eq!(exposed(data.path()).unwrap().len(), 6);
        close(&store).unwrap();
        assert!(exposed(data.path()).unwrap().is_empty());
        let modes = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((modes(&store.join("a/b/z")), modes(&store.join("a/b"))), (0o600, 0o700));
        assert_eq!(modes(outside.path()), 0o755);
        close(&data.path().join("none")).unwrap();

        create_dir_all(&data.path().join("new/deep")).unwrap();
        options().write(true).create(true).truncate(true).open(data.path().join("new/file")).unwrap();
        assert_eq!((modes(&data.path().join("new")), modes(&data.path().join("new/deep"))), (0o700, 0o700));
        assert_eq!(modes(&data.path().join("new/file")), 0o600);
    }
}
