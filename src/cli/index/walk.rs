//! Finds the files to index and tells what they are.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ignore::WalkBuilder;

use super::ids;
use crate::extract::media_type_of_extension;
use crate::records::{Format, JsonShape, shape_of_json};

/// Bytes that are looked at to tell text from other files.
const PEEK: usize = 8192;

/// Ignored files that are looked for, and names that are kept of files that are left out.
const MOST_LEFT_OUT: usize = 100_000;

/// Bytes that are looked at to tell records in JSON from settings.
const JSON_PEEK: usize = 64 << 10;

/// Names without an extension that people give to texts.
const TEXT_NAMES: [&str; 17] = [
    "authors",
    "changelog",
    "changes",
    "contributing",
    "contributors",
    "copying",
    "copyright",
    "credits",
    "faq",
    "history",
    "install",
    "licence",
    "license",
    "news",
    "notice",
    "readme",
    "todo",
];

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One document of this media type.
    Document(&'static str),
    /// A document a record.
    Records(Format),
}

/// A file to index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its id: the root's name and the path below it, with `/` between.
    pub id: String,
    /// Extension in lower case.
    pub extension: String,
    /// How it is read.
    pub kind: Kind,
    /// Its size in bytes when it was found.
    pub size: u64,
    /// When it was changed last, where that is known.
    pub modified: Option<SystemTime>,
}

/// Which files are wanted.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only these extensions; none means all that are known.
    pub extensions: Vec<String>,
    /// Also every other file that is text.
    pub all_text: bool,
    /// Also hidden ones.
    pub hidden: bool,
    /// Also ignored ones.
    pub no_ignore: bool,
    /// Also what symbolic links point to.
    pub follow_links: bool,
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Found {
    /// Files to index, by path.
    pub files: Vec<FoundFile>,
    /// Places that could not be looked at, and why.
    pub problems: Vec<(String, String)>,
    /// Files of other kinds, by extension.
    pub skipped: BTreeMap<String, u64>,
    /// Those files by their ids, the first of them.
    pub skipped_files: Vec<String>,
    /// Ids of files that .gitignore and the like leave out, the first of them.
    pub ignored: Vec<String>,
    /// Symbolic links that were not followed.
    pub links: u64,
}

/// A path whose files are indexed, and what their ids start with.
#[derive(Debug, Clone)]
pub struct Root {
    /// The path.
    pub path: PathBuf,
    /// What ids start with.
    pub name: String,
}

impl Root {
    /// A root with a name of its own, or that of its last component.
    pub fn new(path: PathBuf, name: Option<String>) -> Self {
        let full = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        let name = name.unwrap_or_else(|| full.file_name().map(readable).unwrap_or_default());
        Self { path, name }
    }
}

/// How files of a known extension are read.
fn kind_of_extension(extension: &str) -> Option<Kind> {
    Some(match extension {
        // Text that few want beside their documents: --all-text takes it.
        "log" => return None,
        "jsonl" | "ndjson" | "jsonlines" => Kind::Records(Format::JsonLines),
        "csv" => Kind::Records(Format::Table(b',')),
        "tsv" | "tab" => Kind::Records(Format::Table(b'\t')),
        _ => Kind::Document(media_type_of_extension(extension)?),
    })
}

fn kind(path: &Path, extension: &str, choice: &Choice, named: bool) -> Option<Kind> {
    let known = kind_of_extension(extension).or_else(|| {
        let is_records =
            extension == "json" && shape_of_json(&start_of(path, JSON_PEEK).ok()?) == JsonShape::Records;
        is_records.then_some(Kind::Records(Format::Json))
    });
    if !choice.extensions.is_empty() {
        return choice.wants(extension).then(|| known.unwrap_or(Kind::Document("text/plain")));
    }
    let text_name = || extension.is_empty() && is_text_name(path);
    known.or_else(|| {
        let taken = text_name() || ((choice.all_text || named) && is_text(path));
        taken.then_some(Kind::Document("text/plain"))
    })
}

impl Choice {
    /// Whether an extension is among the wanted ones; none named means all.
    pub fn wants(&self, extension: &str) -> bool {
        self.extensions.is_empty()
            || self
                .extensions
                .iter()
                .any(|e| e.trim().trim_start_matches('.').eq_ignore_ascii_case(extension))
    }
}

fn is_text_name(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    TEXT_NAMES.contains(&name.as_str())
}

/// The first bytes of a file.
fn start_of(path: &Path, most: usize) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(most as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether a file starts as UTF-8 text does. One that cannot be read is left to the reader to report.
fn is_text(path: &Path) -> bool {
    let Ok(start) = start_of(path, PEEK) else { return true };
    let cut = start.len() == PEEK;
    match std::str::from_utf8(&start) {
        Ok(text) => !text.contains('\0'),
        Err(error) => cut && error.error_len().is_none() && !start.contains(&0),
    }
}

/// Walks roots in order; what cannot be read goes to the problems.
pub fn walk(roots: &[Root], choice: &Choice) -> Found {
    let mut found = Found::default();
    let mut ids = HashSet::new();
    for root in roots {
        let seen = walk_root(root, choice, &mut found, &mut ids);
        if !choice.no_ignore {
            find_ignored(root, choice, &seen, &mut found.ignored);
        }
    }
    found
}

/// Finds the files that are left out by .gitignore and the like: those that a walk without these meets besides.
fn find_ignored(root: &Root, choice: &Choice, seen: &HashSet<PathBuf>, ignored: &mut Vec<String>) {
    for entry in walker(root, choice, true).build().flatten() {
        if ignored.len() >= MOST_LEFT_OUT {
            return;
        }
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if is_file && entry.depth() > 0 && !seen.contains(entry.path()) {
            ignored.push(id_below(root, entry.path()));
        }
    }
}

fn walker(root: &Root, choice: &Choice, no_ignore: bool) -> WalkBuilder {
    let mut walker = WalkBuilder::new(&root.path);
    walker
        .require_git(false)
        .hidden(!choice.hidden)
        .follow_links(choice.follow_links)
        .sort_by_file_path(|a, b| a.cmp(b));
    if no_ignore {
        walker.ignore(false).git_ignore(false).git_global(false).git_exclude(false).parents(false);
    }
    walker
}

/// Walks a root and gives all files that it met.
fn walk_root(root: &Root, choice: &Choice, found: &mut Found, ids: &mut HashSet<String>) -> HashSet<PathBuf> {
    let mut seen = HashSet::new();
    for entry in walker(root, choice, choice.no_ignore).build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.problems.push((root.path.display().to_string(), error.to_string()));
                continue;
            }
        };
        let named = entry.depth() == 0;
        let file_type = if named {
            std::fs::metadata(entry.path()).ok().map(|m| m.file_type())
        } else {
            entry.file_type()
        };
        if file_type.is_some_and(|kind| kind.is_symlink()) {
            found.links += 1;
            continue;
        }
        if !file_type.is_some_and(|kind| kind.is_file()) {
            continue;
        }
        seen.insert(entry.path().to_owned());
        let extension = entry.path().extension().map(readable).unwrap_or_default().to_lowercase();
        let Some(kind) = kind(entry.path(), &extension, choice, named) else {
            if named {
                let reason = "expected a document or a text file, got something else".to_owned();
                found.problems.push((root.path.display().to_string(), reason));
            } else {
                *found.skipped.entry(extension).or_default() += 1;
                if found.skipped_files.len() < MOST_LEFT_OUT {
                    found.skipped_files.push(id_below(root, entry.path()));
                }
            }
            continue;
        };
        let id = id_below(root, entry.path());
        if !ids.insert(id.clone()) {
            let reason = format!("expected one file of the id {id:?}, got two");
            found.problems.push((entry.path().display().to_string(), reason));
            continue;
        }
        let metadata = std::fs::metadata(entry.path()).ok();
        let size = metadata.as_ref().map_or(0, |m| m.len());
        let modified = metadata.and_then(|m| m.modified().ok());
        found.files.push(FoundFile { path: entry.into_path(), id, extension, kind, size, modified });
    }
    seen
}

fn id_below(root: &Root, path: &Path) -> String {
    let mut id = root.name.clone();
    for part in path.strip_prefix(&root.path).unwrap_or(Path::new("")).components() {
        id.push('/');
        id.push_str(&readable(part.as_os_str()));
    }
    ids::fitting(id, root.name.len())
}

/// A name as text: control characters and bytes that are not UTF-8 become `%` and two digits for each byte, so that
/// different names stay different.
pub fn readable(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        text.push_str(&ids::without_controls(chunk.valid()));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(found: &Found) -> Vec<&str> {
        found.files.iter().map(|f| f.id.as_str()).collect()
    }

    #[test]
    fn respects_gitignore_and_extensions() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("docs");
        std::fs::create_dir_all(path.join("sub"))?;
        for name in ["a.md", "sub/b.TXT", "sub/c.py", "ignored.md", "LICENSE", ".hidden.md", "sub/blob"] {
            std::fs::write(path.join(name), "x")?;
        }
        std::fs::write(path.join("sub/d.py"), [0, 1])?;
        std::fs::write(path.join(".gitignore"), "ignored.md\n")?;
        std::os::unix::fs::symlink(path.join("a.md"), path.join("link.md"))?;
        let roots = [Root::new(path.clone(), None)];
        let found = walk(&roots, &Choice::default());
        assert_eq!(ids(&found), ["docs/LICENSE", "docs/a.md", "docs/sub/b.TXT"]);
        assert_eq!((found.problems.len(), found.links), (0, 1));
        assert_eq!(found.ignored, ["docs/ignored.md"]);
        assert_eq!(found.skipped_files, ["docs/sub/blob", "docs/sub/c.py", "docs/sub/d.py"]);
        assert_eq!(found.skipped, [(String::new(), 1), ("py".to_owned(), 2)].into());

        let only = Choice { extensions: vec![".PY".to_owned(), "md".to_owned()], ..Default::default() };
        assert_eq!(ids(&walk(&roots, &only)), ["docs/a.md", "docs/sub/c.py", "docs/sub/d.py"]);
        let text = Choice { all_text: true, follow_links: true, ..Default::default() };
        let wanted =
            ["docs/LICENSE", "docs/a.md", "docs/link.md", "docs/sub/b.TXT", "docs/sub/blob", "docs/sub/c.py"];
        assert_eq!(ids(&walk(&roots, &text)), wanted);
        let all = Choice { hidden: true, no_ignore: true, ..Default::default() };
        let found = walk(&roots, &all);
        assert!(ids(&found).contains(&"docs/.hidden.md") && ids(&found).contains(&"docs/ignored.md"));
        Ok(())
    }

    #[test]
    fn json_is_told_by_what_it_holds_and_names_by_what_they_are() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
        write("rows.json", "[\n{\"text\": \"x\"}]")?;
        write("lines.json", "{\"text\": \"x\"}\n{\"text\": \"y\"}\n")?;
        write("settings.json", "{\"compilerOptions\": {}}")?;
        for name in ["a\nb\t.md", "a b'\"%#.md", "caf\u{e9}.md", "cafe\u{301}.md", "-dash.md", "\u{1f6a2}.md"]
        {
            write(name, "x")?;
        }
        let found = walk(&[Root::new(dir.path().to_owned(), Some("r".to_owned()))], &Choice::default());
        let wanted = [
            "r/-dash.md",
            "r/a%0Ab%09.md",
            "r/a b'\"%#.md",
            "r/cafe\u{301}.md",
            "r/caf\u{e9}.md",
            "r/lines.json",
            "r/rows.json",
            "r/\u{1f6a2}.md",
        ];
        assert_eq!(ids(&found), wanted);
        assert_eq!(found.skipped, [("json".to_owned(), 1)].into());
        Ok(())
    }

    #[test]
    fn named_files_and_missing_ones() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("main.rs"), "fn main() {}")?;
        std::fs::write(dir.path().join("x.png"), [0x89, 0x50, 0])?;
        let root = |name: &str| Root::new(dir.path().join(name), None);
        let found = walk(&[root("main.rs"), root("x.png"), root("missing")], &Choice::default());
        assert_eq!(ids(&found), ["main.rs"]);
        assert_eq!(found.problems.len(), 2);
        Ok(())
    }

    #[test]
    fn names_that_are_not_utf8_stay_different() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        for name in [b"a\xff.md", b"a\xfe.md"] {
            std::fs::write(dir.path().join(OsStr::from_bytes(name)), "x")?;
        }
        let found = walk(&[Root::new(dir.path().to_owned(), Some("r".to_owned()))], &Choice::default());
        assert_eq!(ids(&found), ["r/a%FE.md", "r/a%FF.md"]);
        Ok(())
    }
}
