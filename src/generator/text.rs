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

    proptest::proptest! {
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
