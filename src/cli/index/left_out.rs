//! Tells what a run did not read, by kind, and how to have it.

use super::walk::Found;

/// Kinds that are named.
const KINDS: usize = 24;
/// Names that are told with --verbose.
const NAMES: usize = 10_000;

/// What files of a kind can be turned into, by their extensions.
const WAYS: [(&[&str], &str); 7] = [
    (&["json"], "make them an array of objects, or an object a line"),
    (&["doc", "odt", "rtf", "pages", "wpd"], "save them as .docx or PDF"),
    (&["xls", "xlsx", "ods", "numbers"], "save them as CSV"),
    (&["ppt", "pptx", "odp", "key"], "save them as PDF"),
    (&["epub", "mobi", "azw3"], "convert them to HTML"),
    (&["eml", "msg", "mbox"], "save them as text"),
    (&["png", "jpg", "jpeg", "tif", "tiff", "gif", "webp", "heic"], "put them through OCR"),
];

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
    for (extensions, way) in WAYS {
        let there: Vec<_> =
            extensions.iter().filter(|extension| found.skipped.contains_key(**extension)).collect();
        if !there.is_empty() {
            let there: Vec<String> = there.into_iter().map(|extension| format!(".{extension}")).collect();
            text.push_str(&format!("; {}: {way}", there.join(" ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_with_a_way_to_have_it() {
        assert_eq!(text(&Found::default()), None);
        let skipped = [("pptx".to_owned(), 2), (String::new(), 1), ("doc".to_owned(), 1)].into();
        let found = Found {
            skipped,
            skipped_files: vec!["n/a.pptx".to_owned()],
            ignored: vec!["n/b.md".to_owned(), "n/c.md".to_owned()],
            ..Found::default()
        };
        let told = text(&found).unwrap();
        for part in [".pptx 2, no extension 1, .doc 1", ".pptx: save them as PDF", "2 files that .gitignore"]
        {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(names(&found).len(), 3);
        assert_eq!(names(&found)[2], "left out: n/c.md: ignored");
    }
}
