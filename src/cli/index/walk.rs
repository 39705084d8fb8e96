//! Finds the files to index.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

/// A file to index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its id: the root's name and the path below it, with `/` between.
    pub id: String,
    /// Extension in lower case.
    pub extension: String,
}

/// The media type of an extension, or none if it is not indexed.
pub fn media_type(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "md" | "markdown" => "text/markdown",
        "html" | "htm" => "text/html",
        "pdf" => "application/pdf",
        "txt" | "rst" => "text/plain",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "jsonl" => "application/jsonl",
        "csv" => "text/csv",
        _ => return None,
    })
}

/// Name of a root, which starts the ids of its files.
pub fn root_name(root: &Path) -> String {
    let full = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Walks a root, respecting .gitignore; what cannot be read goes to `problems`.
pub fn walk(root: &Path, extensions: &[String], problems: &mut Vec<(String, String)>) -> Vec<FoundFile> {
    let name = root_name(root);
    let mut files = Vec::new();
    for entry in WalkBuilder::new(root).require_git(false).sort_by_file_path(|a, b| a.cmp(b)).build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                problems.push((root.display().to_string(), error.to_string()));
                continue;
            }
        };
        let named = entry.depth() == 0 && entry.path().is_file();
        if !named && !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let extension =
            entry.path().extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if media_type(&extension).is_none() || !wanted(&extension, extensions) {
            if entry.depth() == 0 {
                problems.push((
                    root.display().to_string(),
                    format!("the extension {extension:?} is not indexed"),
                ));
            }
            continue;
        }
        let below = entry.path().strip_prefix(root).unwrap_or(Path::new(""));
        let mut id = name.clone();
        for part in below.components() {
            id.push('/');
            id.push_str(&part.as_os_str().to_string_lossy());
        }
        files.push(FoundFile { path: entry.into_path(), id, extension });
    }
    files
}

/// Whether an extension is among the wanted ones; none named means all.
pub fn wanted(extension: &str, extensions: &[String]) -> bool {
    extensions.is_empty()
        || extensions.iter().any(|e| e.trim().trim_start_matches('.').eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn respects_gitignore_and_extensions() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("docs");
        std::fs::create_dir_all(root.join("sub"))?;
        for name in ["a.md", "sub/b.TXT", "sub/c.bin", "ignored.md"] {
            std::fs::write(root.join(name), "x")?;
        }
        std::fs::write(root.join(".gitignore"), "ignored.md\n")?;
        let mut problems = Vec::new();
        let ids = |files: Vec<FoundFile>| files.into_iter().map(|f| f.id).collect::<Vec<_>>();
        assert_eq!(ids(walk(&root, &[], &mut problems)), ["docs/a.md", "docs/sub/b.TXT"]);
        assert_eq!(ids(walk(&root, &["md".to_owned()], &mut problems)), ["docs/a.md"]);
        assert!(problems.is_empty());
        walk(&root.join("missing"), &[], &mut problems);
        assert_eq!(problems.len(), 1);
        Ok(())
    }
}
