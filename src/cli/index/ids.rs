//! Ids that the server takes: at most 512 bytes, without control characters.

/// Most bytes of an id.
const MOST: usize = 512;
/// Digits of the hash that stands for what is cut off.
const DIGITS: usize = 24;

/// A text whose control characters are `%` and two digits for each byte.
pub fn without_controls(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| kept.push_str(&format!("%{byte:02X}")));
        } else {
            kept.push(c);
        }
    }
    kept
}

/// An id that fits. Of one that is too long, a hash stands for its end, so that different ones stay different; its first
/// bytes stay, so many at least.
pub fn fitting(id: String, first: usize) -> String {
    if id.len() <= MOST {
        return id;
    }
    let hash = blake3::hash(id.as_bytes()).to_hex();
    let kept = (MOST - DIGITS - 1).max(first).min(id.len());
    format!("{}~{}", &id[..id.floor_char_boundary(kept)], &hash[..DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DocumentId;

    #[test]
    fn any_id_becomes_one_that_the_server_takes() {
        let long = |end: &str| format!("docs/urls.jsonl#https://a.example/?q={}{end}", "é".repeat(400));
        let (one, other) = (fitting(long("1"), 4), fitting(long("2"), 4));
        assert!(one != other && one.starts_with("docs/urls.jsonl#https://a.example/?q=éé"));
        for id in [one, other, without_controls("a\nb\u{85}c")] {
            assert!(DocumentId::new(&id).is_ok(), "{id}");
        }
        assert_eq!(without_controls("a\nb%\u{85}"), "a%0Ab%%C2%85");
        assert_eq!(fitting("short".to_owned(), 0), "short");
    }
}
