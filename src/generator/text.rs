//! Text of tokens as they come: whole characters only, and nothing of a stop string.

use super::tokens::ChatTokenizer;
use crate::error::Result;

/// Tokens that can be part of one character at most; what is incomplete after so many is not going to be one.
const MOST_PENDING: usize = 8;

/// Puts the text of one generation together.
pub(super) struct TextStream {
    ids: Vec<u32>,
    /// Start of the tokens that are decoded together, for the first token's text can depend on the one before.
    prefix: usize,
    /// Start of the tokens whose text has not been given yet.
    read: usize,
    stops: Stops,
}

/// What a token adds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text, perhaps empty.
    Text(String),
    /// A stop string came; this is what is before it.
    Stopped(String),
}

impl TextStream {
    pub fn new(stop: Vec<String>) -> Self {
        Self { ids: Vec::new(), prefix: 0, read: 0, stops: Stops { strings: stop, held: String::new() } }
    }

    /// Adds a token.
    pub fn push(&mut self, tokenizer: &ChatTokenizer, id: u32) -> Result<Piece> {
        self.ids.push(id);
        let before = tokenizer.decode(&self.ids[self.prefix..self.read])?;
        let all = tokenizer.decode(&self.ids[self.prefix..])?;
        let incomplete =
            all.ends_with(char::REPLACEMENT_CHARACTER) && self.ids.len() - self.read < MOST_PENDING;
        if incomplete || all.len() <= before.len() || !all.is_char_boundary(before.len()) {
            return Ok(Piece::Text(String::new()));
        }
        self.prefix = self.read;
        self.read = self.ids.len();
        Ok(self.stops.push(&all[before.len()..]))
    }

    /// What was held back because a stop string might have come. An incomplete character is dropped.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.stops.held)
    }
}

/// Looks for stop strings over the borders of tokens.
struct Stops {
    strings: Vec<String>,
    /// The end of the text that a stop string may start in.
    held: String,
}

impl Stops {
    fn push(&mut self, text: &str) -> Piece {
        self.held.push_str(text);
        if let Some(at) = self.strings.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Piece::Stopped(std::mem::take(&mut self.held));
        }
        let may_start = |at: &usize| self.strings.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let starts = self.held.char_indices().map(|(at, _)| at);
        let keep_from = starts.into_iter().find(may_start).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep_from);
        Piece::Text(std::mem::replace(&mut self.held, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(strings: &[&str]) -> Stops {
        Stops { strings: strings.iter().map(|s| (*s).to_owned()).collect(), held: String::new() }
    }

    #[test]
    fn stop_strings_are_found_over_borders() {
        let mut stops = stops(&["END", "\n\n"]);
        assert_eq!(stops.push("one E"), Piece::Text("one ".to_owned()));
        assert_eq!(stops.push("N"), Piece::Text(String::new()));
        assert_eq!(stops.push("E x\n"), Piece::Text("ENE x".to_owned()));
        assert_eq!(stops.push("y"), Piece::Text("\ny".to_owned()));
        assert_eq!(stops.push(" zEN"), Piece::Text(" z".to_owned()));
        assert_eq!(stops.push("D and more"), Piece::Stopped(String::new()));
    }

    #[test]
    fn the_earliest_stop_string_wins() {
        assert_eq!(stops(&["c", "b"]).push("abc"), Piece::Stopped("a".to_owned()));
        assert_eq!(stops(&[]).push("é🙂"), Piece::Text("é🙂".to_owned()));
        assert_eq!(stops(&["🙂!"]).push("é🙂"), Piece::Text("é".to_owned()));
    }

    /// A tokenizer whose tokens are single bytes.
    fn bytes() -> ChatTokenizer {
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let vocab: std::collections::BTreeMap<String, usize> =
            alphabet.iter().map(char::to_string).zip(0..).collect();
        let bytes = serde_json::json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": false });
        let json = serde_json::json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
            "model": { "type": "BPE", "vocab": vocab, "merges": [] } });
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        ChatTokenizer::load(&path, 256, None).unwrap()
    }

    #[test]
    fn an_incomplete_character_is_not_given() {
        let tokenizer = bytes();
        let ids = tokenizer.plain_ids("é🙂").unwrap();
        assert_eq!(ids.len(), 6);
        let mut stream = TextStream::new(Vec::new());
        for id in &ids[..5] {
            stream.push(&tokenizer, *id).unwrap();
        }
        assert_eq!(stream.finish(), "");
        assert_eq!(stream.push(&tokenizer, ids[5]).unwrap(), Piece::Text("🙂".to_owned()));
    }

    #[test]
    fn bytes_that_are_no_character_do_not_hold_the_text_back() {
        let tokenizer = bytes();
        let half = tokenizer.plain_ids("🙂").unwrap()[0];
        let mut stream = TextStream::new(Vec::new());
        let mut given = String::new();
        for id in std::iter::repeat_n(half, 20).chain(tokenizer.plain_ids("abc").unwrap()) {
            if let Piece::Text(text) = stream.push(&tokenizer, id).unwrap() {
                given.push_str(&text);
            }
        }
        assert!(given.ends_with("abc"), "{given:?}");
    }

    proptest::proptest! {
        #[test]
        fn pieces_are_whole_characters_and_make_the_text(text in "[^\u{fffd}]{0,12}") {
            let tokenizer = bytes();
            let mut stream = TextStream::new(Vec::new());
            let mut given = String::new();
            for id in tokenizer.plain_ids(&text).unwrap() {
                let Piece::Text(piece) = stream.push(&tokenizer, id).unwrap() else { panic!("no stop string") };
                proptest::prop_assert!(!piece.contains(char::REPLACEMENT_CHARACTER));
                given.push_str(&piece);
            }
            proptest::prop_assert_eq!(given, text);
        }

        #[test]
        fn what_is_given_never_holds_a_stop_string(
            pieces in proptest::collection::vec("[ab]{0,3}", 0..12),
            stop in "[ab]{1,4}",
        ) {
            let whole = pieces.concat();
            let mut stops = stops(&[&stop]);
            let mut given = String::new();
            let mut stopped = false;
            for piece in &pieces {
                match stops.push(piece) {
                    Piece::Text(text) => given.push_str(&text),
                    Piece::Stopped(text) => {
                        given.push_str(&text);
                        stopped = true;
                        break;
                    }
                }
            }
            if !stopped {
                given.push_str(&stops.held);
            }
            let expected = whole.find(&stop).map_or(whole.as_str(), |at| &whole[..at]);
            proptest::prop_assert_eq!(given, expected);
        }
    }
}
