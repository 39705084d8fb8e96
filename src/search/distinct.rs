//! Which candidates become hits: of a text that several documents hold the best, and of sentences those that say
//! something.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use super::candidates::{Probe, Scored, unless_damaged};
use super::hits::{is_shown, place};
use super::{MOST_REPEATS, Options, Place};
use crate::domain::{Level, Span};
use crate::error::{ErrorKind, Result};
use crate::store::Store;

/// Longer lines are no headings.
const MOST_HEADING_BYTES: usize = 200;
/// How often a line stands in a document that is a running head.
const RUNNING: usize = 3;
/// Bytes of a document in which a running head is looked for.
const RUNNING_WITHIN: u64 = 1 << 18;

/// A candidate that becomes a hit, with the other candidates of the same text.
pub struct Chosen<'a> {
    pub scored: &'a Scored,
    /// Others, best first.
    pub repeats: Vec<&'a Scored>,
}

impl Chosen<'_> {
    /// Whether a candidate of the same text is another place of this one. Within one document each place is a hit of
    /// its own.
    fn is_repeated_by(&self, other: &Scored, options: &Options) -> bool {
        !options.keeps_repeats && options.unit != Level::Document && self.scored.doc_no != other.doc_no
    }

    /// Where the others stand, as far as they are told.
    pub fn places(&self, store: &Store, cid: u32, probe: &Probe, options: &Options) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let mut damaged = 0;
        for scored in self.repeats.iter().take(MOST_REPEATS) {
            places.extend(unless_damaged(place(store, cid, probe, scored, options), &mut damaged)?);
        }
        Ok(places)
    }
}

/// Tells texts apart by their hashes, which it remembers while a search looks deeper.
#[derive(Default)]
pub struct Distinct {
    hasher: RandomState,
    /// By point.
    texts: HashMap<u64, Known>,
}

/// What is known of a candidate's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Its hash.
    Text(u64),
    /// It is a heading, and no hit.
    Heading,
    /// It is gone or damaged, which reading the hit tells.
    Unread,
}

impl Distinct {
    /// The first candidates of distinct texts, as many as wanted that can be read.
    ///
    /// # Errors
    /// Whatever the store gives; what is damaged is left to whoever reads the hit.
    pub fn choose<'a>(
        &mut self,
        store: &Store,
        cid: u32,
        probe: &Probe,
        options: &Options,
        candidates: &[&'a Scored],
    ) -> Result<Vec<Chosen<'a>>> {
        let mut chosen: Vec<Chosen<'a>> = Vec::new();
        let mut first: HashMap<u64, usize> = HashMap::new();
        let mut readable = 0;
        for &scored in candidates {
            probe.check_caller()?;
            // What is described anew meanwhile, so that the filter leaves it out, is not one of those that are wanted.
            let is_filtered = options.filter.is_some() || probe.excluded.is_some();
            let known = match options.unit {
                _ if is_filtered && !is_shown(store, cid, probe, scored, options)? => Known::Unread,
                Level::Document => Known::Text(scored.point),
                unit => self.known(store, cid, unit, scored)?,
            };
            match known {
                Known::Heading => continue,
                Known::Unread if readable == options.limit => break,
                Known::Unread => {}
                Known::Text(text) => {
                    let at = *first.entry(text).or_insert(chosen.len());
                    let repeated = chosen.get_mut(at).filter(|known| known.is_repeated_by(scored, options));
                    if let Some(known) = repeated {
                        known.repeats.push(scored);
                        continue;
                    }
                    // Until here, so that the last one's repeats that follow it are counted too.
                    if readable == options.limit {
                        break;
                    }
                    readable += 1;
                }
            }
            chosen.push(Chosen { scored, repeats: Vec::new() });
        }
        Ok(chosen)
    }

    fn known(&mut self, store: &Store, cid: u32, unit: Level, scored: &Scored) -> Result<Known> {
        if let Some(known) = self.texts.get(&scored.point) {
            return Ok(*known);
        }
        let known = match read(store, cid, unit, scored) {
            Err(error) if error.kind == ErrorKind::DataLoss => Known::Unread,
            read => match read? {
                Some(Read::Text(text)) => Known::Text(self.hash(&text)),
                Some(Read::Heading) => Known::Heading,
                None => Known::Unread,
            },
        };
        self.texts.insert(scored.point, known);
        Ok(known)
    }

    /// Texts are the same whose words are.
    fn hash(&self, text: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for word in text.split_whitespace() {
            hasher.write(word.as_bytes());
            hasher.write_u8(b' ');
        }
        hasher.finish()
    }
}

enum Read {
    Text(String),
    /// A sentence that only names what stands below it, or the page that it stands on.
    Heading,
}

fn read(store: &Store, cid: u32, unit: Level, scored: &Scored) -> Result<Option<Read>> {
    let is_sentence = unit == Level::Sentence;
    let point = if is_sentence { scored.point >> 8 } else { scored.point };
    let Some(passage) = store.passage(cid, point)? else { return Ok(None) };
    let sentence = passage.sentences.get((scored.point & 0xff) as usize).copied();
    let span = sentence.filter(|_| is_sentence).unwrap_or(passage.span);
    let Some(text) = store.text(cid, scored.doc_no, span)? else { return Ok(None) };
    if is_sentence && may_be_heading(&text) {
        let is_named = passage.headings.iter().any(|heading| is_same(heading, &text));
        if is_named || is_title_or_running_head(store, cid, scored.doc_no, &text)? {
            return Ok(Some(Read::Heading));
        }
    }
    Ok(Some(Read::Text(text)))
}

/// Whether a sentence is short enough, and does not end as sentences do.
fn may_be_heading(text: &str) -> bool {
    let line = text.trim();
    line.len() <= MOST_HEADING_BYTES && !line.ends_with(['.', '!', '…', '。', '！', '؟', '।'])
}

fn is_title_or_running_head(store: &Store, cid: u32, doc_no: u32, line: &str) -> Result<bool> {
    let Some(id) = store.document_id(cid, doc_no)? else { return Ok(false) };
    let Some(document) = store.document(cid, &id)?.filter(|d| d.doc_no == doc_no) else { return Ok(false) };
    if is_same(&document.title, line) {
        return Ok(true);
    }
    let mut end = document.text_bytes.min(RUNNING_WITHIN) as u32;
    // A character may lie across the end.
    let text = loop {
        match store.text(cid, doc_no, Span::new(0, end)) {
            Err(_)
                if end > 0 && u64::from(end) < document.text_bytes && RUNNING_WITHIN - u64::from(end) < 4 =>
            {
                end -= 1
            }
            read => break read?,
        }
    };
    let Some(text) = text else { return Ok(false) };
    Ok(text.lines().filter(|other| is_same(other, line)).take(RUNNING).count() == RUNNING)
}

/// Whether two lines say the same, apart from spaces, case and the signs that mark headings.
fn is_same(one: &str, other: &str) -> bool {
    let words = |line: &str| -> Vec<String> {
        let line = line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '#' | '=' | '*' | '_' | ':'));
        line.split_whitespace().map(str::to_lowercase).collect()
    };
    let (one, other) = (words(one), words(other));
    !one.is_empty() && one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_told_from_sentences() {
        assert!(is_same("## Fuel  filters", "fuel filters") && !is_same("", " ") && !is_same("a", "b"));
        assert!(may_be_heading("Fuel filters") && may_be_heading("Which grease is right?"));
        assert!(!may_be_heading("The filter is new.") && !may_be_heading(&"x".repeat(300)));
    }

    #[test]
    fn texts_are_the_same_whatever_the_spaces() {
        let distinct = Distinct::default();
        assert_eq!(distinct.hash("a b\nc"), distinct.hash(" a  b c "));
        assert_ne!(distinct.hash("a b"), distinct.hash("ab"));
    }
}
