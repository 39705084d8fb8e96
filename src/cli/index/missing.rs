//! Which stored documents are gone from the disk: they are told, and deleted with `--delete-missing`.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::known::{Known, Stored};
use super::read::source_uri;
use super::walk::{Choice, FoundFile, Root, readable};

/// What a run can tell about: the files that it reads, and what is below its roots.
pub struct Scope {
    /// Sources of the files that are read, by their ids.
    files: HashMap<String, String>,
    /// The roots, with their own sources.
    roots: Vec<(Root, String)>,
    choice: Choice,
}

impl Scope {
    /// The scope of a run over the files that were found below roots.
    pub fn new(roots: &[Root], files: &[FoundFile], choice: Choice) -> Self {
        Self {
            files: files.iter().map(|file| (file.id.clone(), source_uri(&file.path))).collect(),
            roots: roots.iter().map(|root| (root.clone(), source_uri(&root.path))).collect(),
            choice,
        }
    }

    /// Ids of the stored documents that are gone, in order, once every file has been read.
    pub fn missing(&self, known: &Known, seen: &HashSet<String>) -> Vec<String> {
        // A file or a file of records that could not be read keeps what it had. With --extensions,
        // files of other kinds were not looked at and stay.
        let unseen = known.iter().filter(|(id, stored)| {
            !seen.contains(*id) && !seen.contains(&stored.file) && self.choice.wants(&stored.extension)
        });
        let gone = unseen.filter(|(_, stored)| self.is_gone(stored));
        let mut ids: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether a document that was not seen is gone: from a file that was read, or with its file from below a
    /// root. A file that was left out is still there, and one of another folder of the same name is not of this
    /// run.
    fn is_gone(&self, stored: &Stored) -> bool {
        if self.files.get(&stored.file) == Some(&stored.source_uri) {
            return true;
        }
        let mut roots = self.roots.iter().filter(|(_, source)| is_below(&stored.source_uri, source));
        roots.any(|(root, _)| path_of(root, &stored.file).is_some_and(|path| is_no_file(&path)))
    }
}

fn is_below(source: &str, root: &str) -> bool {
    let rest = source.strip_prefix(root.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where the file of an id is or was; none where the id is not of this root.
fn path_of(root: &Root, file: &str) -> Option<PathBuf> {
    let rest = file.strip_prefix(&root.name).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    let parts = rest.split('/').filter(|part| !part.is_empty());
    Some(parts.fold(root.path.clone(), |folder, part| entry(&folder, part)))
}

/// The entry of a folder that has this name as text, which bytes that are not UTF-8 make differ from its own.
fn entry(folder: &Path, name: &str) -> PathBuf {
    let direct = folder.join(name);
    if !name.contains('%') || direct.exists() {
        return direct;
    }
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.find(|entry| readable(&entry.file_name()) == name).map_or(direct, |entry| entry.path())
}

/// Whether there is surely no file: one that cannot be looked at may be there.
fn is_no_file(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(metadata) => !metadata.is_file(),
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::cli::index::known::{EXTENSION_KEY, PATH_KEY, stored};
    use crate::cli::index::walk::walk;
    use crate::cli::output::string_value;
    use crate::proto::Document;

    /// What a run with a choice stores of a folder, with two records of each file of records.
    fn indexed(path: &Path, choice: &Choice) -> Known {
        let found = walk(&[Root::new(path.to_owned(), None)], choice);
        let documents = found.files.iter().flat_map(|file| {
            let records = if file.extension == "jsonl" { &["#1", "#2"][..] } else { &[""] };
            records.iter().map(move |record| Document {
                id: format!("{}{record}", file.id),
                source_uri: source_uri(&file.path),
                metadata: [(PATH_KEY, &file.id), (EXTENSION_KEY, &file.extension)]
                    .map(|(key, text)| (key.to_owned(), string_value(text.clone())))
                    .into(),
                ..Default::default()
            })
        });
        documents.map(|document| (document.id.clone(), stored(document))).collect()
    }

    /// What a run with a choice would delete, when it sees all that it finds but the second records.
    fn missing(path: &Path, choice: &Choice, known: &Known) -> Vec<String> {
        let roots = [Root::new(path.to_owned(), None)];
        let found = walk(&roots, choice);
        let seen = indexed(path, choice).into_keys().filter(|id| !id.ends_with("#2")).collect();
        Scope::new(&roots, &found.files, choice.clone()).missing(known, &seen)
    }

    #[test]
    fn only_what_is_gone_from_the_disk_is_missing() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let notes = dir.path().join("notes");
        std::fs::create_dir_all(notes.join("sub"))?;
        let names = ["a.md", "b.txt", ".hidden.md", "ignored.md", "code.py", "rows.jsonl", "sub/c.md"];
        for name in names {
            std::fs::write(notes.join(name), "x")?;
        }
        let strange = [b".caf\xe9.md", b".caf\xea.md"].map(|name| notes.join(OsStr::from_bytes(name)));
        for path in &strange {
            std::fs::write(path, "x")?;
        }
        std::fs::write(notes.join(".gitignore"), "ignored.md\n")?;
        std::os::unix::fs::symlink(notes.join("a.md"), notes.join("link.md"))?;
        std::os::unix::fs::symlink(notes.join("a.md"), notes.join("old-link.md"))?;
        let all =
            Choice { all_text: true, hidden: true, no_ignore: true, follow_links: true, ..Choice::default() };
        let known = indexed(&notes, &all);
        assert_eq!(known.len(), 13, "{known:?}");
        let usual = Choice::default();
        assert_eq!(missing(&notes, &usual, &known), ["notes/rows.jsonl#2"]);

        // A folder of the same name elsewhere tells nothing about this one, nor does one that starts alike.
        let other = dir.path().join("other/notes");
        std::fs::create_dir_all(&other)?;
        std::fs::write(other.join("rows.jsonl"), "x")?;
        assert_eq!(missing(&other, &usual, &known), Vec::<String>::new());
        assert!(!is_below("file:///a/notes2/x", "file:///a/notes") && is_below("file:///x", "file:///"));

        for name in ["b.txt", ".hidden.md", "old-link.md"] {
            std::fs::remove_file(notes.join(name))?;
        }
        std::fs::remove_file(&strange[1])?;
        std::fs::remove_dir_all(notes.join("sub"))?;
        std::fs::write(notes.join("sub"), "a file now")?;
        let gone = [
            "notes/.caf%EA.md",
            "notes/.hidden.md",
            "notes/b.txt",
            "notes/old-link.md",
            "notes/rows.jsonl#2",
            "notes/sub/c.md",
        ];
        assert_eq!(missing(&notes, &usual, &known), gone);
        let texts = Choice { extensions: vec!["txt".to_owned()], ..Choice::default() };
        assert_eq!(missing(&notes, &texts, &known), ["notes/b.txt"]);
        Ok(())
    }
}
