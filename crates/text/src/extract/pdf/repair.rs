//! Files whose end is missing, with their table of objects: a download that was cut off.

use std::collections::BTreeMap;

/// Most bytes between the number of an object and where it begins.
const MAX_HEAD: usize = 24;
/// Most bytes of an object that are looked at for its type.
const MAX_LOOK: usize = 4096;

/// The file with a table of the objects that are in it, where any of them is its catalogue or a page.
pub(super) fn with_table(bytes: &[u8]) -> Option<Vec<u8>> {
    let objects = objects(bytes);
    let mut root = None;
    let mut pages = Vec::new();
    let mut trees = Vec::new();
    for (number, (generation, at)) in &objects {
        let object = bytes.get(*at..bytes.len().min(at + MAX_LOOK)).unwrap_or_default();
        let end = find(object, b"endobj").unwrap_or(object.len());
        match name_of(object.get(..end).unwrap_or_default()) {
            Some(b"Catalog") => root = Some((*number, *generation)),
            Some(b"Pages") => trees.push((*number, *generation, object.get(..end).unwrap_or_default())),
            Some(b"Page") => pages.push((*number, *generation)),
            _ => {}
        }
    }
    let mut file = bytes.to_vec();
    file.extend_from_slice(b"\nendstream endobj\n");
    let mut table: BTreeMap<u32, (u16, usize)> = objects.clone();
    let mut next = objects.keys().next_back()?.checked_add(1)?;
    let mut add = |file: &mut Vec<u8>, body: String| {
        let number = next;
        next += 1;
        table.insert(number, (0, file.len()));
        file.extend_from_slice(format!("{number} 0 obj\n{body}\nendobj\n").as_bytes());
        (number, 0)
    };
    let root = match root {
        Some(root) => root,
        None => {
            // The topmost node of the pages has no parent; where there is none, the pages are all that is left.
            let top = trees.iter().find(|(_, _, object)| find(object, b"/Parent").is_none());
            let top = match top {
                Some((number, generation, _)) => (*number, *generation),
                None if pages.is_empty() => return None,
                None => {
                    let kids: Vec<String> = pages.iter().map(|(n, g)| format!("{n} {g} R")).collect();
                    let count = kids.len();
                    add(&mut file, format!("<</Type/Pages/Count {count}/Kids[{}]>>", kids.join(" ")))
                }
            };
            add(&mut file, format!("<</Type/Catalog/Pages {} {} R>>", top.0, top.1))
        }
    };
    let start = file.len();
    file.extend_from_slice(b"xref\n0 1\n0000000000 65535 f \n");
    for (number, (generation, at)) in &table {
        file.extend_from_slice(format!("{number} 1\n{at:010} {generation:05} n \n").as_bytes());
    }
    let end = format!("trailer\n<</Size {next}/Root {} {} R>>\nstartxref\n{start}\n%%EOF\n", root.0, root.1);
    file.extend_from_slice(end.as_bytes());
    Some(file)
}

/// Where the objects of a file begin, by their numbers, with their generations; the last of each counts.
fn objects(bytes: &[u8]) -> BTreeMap<u32, (u16, usize)> {
    let mut objects = BTreeMap::new();
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| find(rest, b" obj")) {
        let end = at + found;
        at = end + 4;
        let head = bytes.get(end.saturating_sub(MAX_HEAD)..end).unwrap_or_default();
        let is_digit = |b: &&u8| b.is_ascii_digit();
        let generation = head.iter().rev().take_while(is_digit).count();
        let before = head.len() - generation;
        if generation == 0 || before == 0 || head.get(before - 1) != Some(&b' ') {
            continue;
        }
        let number = head[..before - 1].iter().rev().take_while(is_digit).count();
        let first = before - 1 - number;
        let parse = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u32>().ok();
        let (Some(number), Some(generation)) = (parse(&head[first..before - 1]), parse(&head[before..]))
        else {
            continue;
        };
        if let Ok(generation) = u16::try_from(generation) {
            objects.insert(number, (generation, end - head.len() + first));
        }
    }
    objects
}

/// The type that a dictionary says.
fn name_of(object: &[u8]) -> Option<&[u8]> {
    let after = object.get(find(object, b"/Type")? + 5..)?;
    let after = after.trim_ascii_start().strip_prefix(b"/")?;
    let end = after.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(after.len());
    after.get(..end)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_of_what_is_there() {
        let pages = b"%PDF-1.7\n1 0 obj <</Type /Pages /Kids [3 0 R]>> endobj\n3 0 obj\n<</Type/Page>>\nendobj\n12 0 obj <</A 1>> stream x";
        let file = with_table(pages).unwrap();
        let text = String::from_utf8_lossy(&file);
        assert!(text.contains("13 0 obj\n<</Type/Catalog/Pages 1 0 R>>"), "{text}");
        assert!(text.contains("\n3 1\n0000000055 00000 n"), "{text}");
        let lone = with_table(b"%PDF-1.7\n7 0 obj<</Type/Page>>endobj").unwrap();
        assert!(String::from_utf8_lossy(&lone).contains("/Kids[7 0 R]"));
        assert!(with_table(b"nonsense").is_none() && with_table(b"1 0 obj <<>> endobj").is_none());
    }
}
