//! Tells what a run did not read, by kind, and how to have it.

use super::walk::Found;
use crate::extract::unread_kind;

/// Kinds that are named.
const KINDS: usize = 24;
/// Names that are told with --verbose.
const NAMES: usize = 10_000;

/// What was left out, for people; none where nothing was.
pub fn text(found: &Found) -> Option<String> {
    let mut parts = Vec::new();
    if !found.skipped.is_empty() {
        parts.push(kinds(found));
    }
    if !found.ignored.is_empty() {
        let count = found.ignored.len();
        let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        parts.push(format!("{files} that .gitignore or the like names; --no-ignore takes them"));
    }
    if found.links > 0 {
        parts.push(format!("{} symbolic links; --follow-links follows them", found.links));
    }
    (!parts.is_empty()).then(|| format!("left out: {}", parts.join("; ")))
}

/// The files that were left out, a line each, for people who want to see them.
pub fn names(found: &Found) -> Vec<String> {
    let skipped = found.skipped_files.iter().map(|id| format!("left out: {id}: another kind"));
    let ignored = found.ignored.iter().map(|id| format!("left out: {id}: ignored"));
    let mut lines: Vec<String> = skipped.chain(ignored).take(NAMES).collect();
    let all = found.skipped_files.len() + found.ignored.len();
    if all > lines.len() {
        lines.push(format!("left out: {} more", all - lines.len()));
    }
    lines
}

fn kinds(found: &Found) -> String {
    let mut kinds: Vec<_> = found.skipped.iter().collect();
    kinds.sort_by_key(|(extension, count)| (std::cmp::Reverse(**count), extension.as_str()));
    let mut named: Vec<String> = kinds
        .iter()
        .take(KINDS)
        .map(|(extension, count)| match extension.as_str() {
            "" => format!("no extension {count}"),
            extension => format!(".{extension} {count}"),
        })
        .collect();
    if kinds.len() > KINDS {
        named.push("…".to_owned());
    }
    let count: u64 = found.skipped.values().sum();
    let files = if count == 1 {
        "1 file of another kind".to_owned()
    } else {
        format!("{count} files of other kinds")
    };
    let mut text =
        format!("{files} ({}); --all-text takes every text, --extensions those you name", named.join(", "));
    if found.skipped.contains_key("json") {
        text.push_str("; .json: make them an array of objects, or an object a line");
    }
    let mut ways: Vec<&str> = kinds.iter().filter_map(|(extension, _)| unread_kind(extension)).collect();
    ways.sort_unstable();
    ways.dedup();
    ways.iter().for_each(|way| text.push_str(&format!("; {way}")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_with_a_way_to_have_it() {
        assert_eq!(text(&Found::default()), None);
        let skipped = [("ppt".to_owned(), 2), (String::new(), 1), ("doc".to_owned(), 1)].into();
        let found = Found {
            skipped,
            skipped_files: vec!["n/a.ppt".to_owned()],
            ignored: vec!["n/b.md".to_owned(), "n/c.md".to_owned()],
            ..Found::default()
        };
        let told = text(&found).unwrap();
        for part in [
            ".ppt 2, no extension 1, .doc 1",
            "old PowerPoint files: save them as PPTX",
            "2 files that .gitignore",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(names(&found).len(), 3);
        assert_eq!(names(&found)[2], "left out: n/c.md: ignored");
    }
}
