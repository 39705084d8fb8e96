//! WordPiece for plain ASCII words, as BERT's normaliser and pre-tokenizer cut them. Most text is made of such
//! words, and the general tokenizer, which keeps track of every change that normalising makes, takes many times as
//! long for the same ids. All other words are left to it.

use std::borrow::Cow;
use std::collections::HashMap;

use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{Model, Tokenizer};

use super::tokens::Encoded;
use crate::domain::Span;
use crate::error::Result;

/// Cuts plain words into pieces of the vocabulary.
pub(super) struct WordPiece {
    /// Pieces that start a word.
    starts: HashMap<Box<str>, u32>,
    /// Pieces that go on with a word, without the prefix that marks them.
    continuations: HashMap<Box<str>, u32>,
    unknown: u32,
    /// Bytes of the longest piece.
    longest: usize,
    /// Words that are longer are unknown.
    max_word: usize,
    lowercase: bool,
    /// Strings that are tokens wherever they stand.
    added: Vec<String>,
}

impl WordPiece {
    /// The same as a tokenizer does, where it is of the BERT kind.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let Some(NormalizerWrapper::BertNormalizer(normalizer)) = tokenizer.get_normalizer() else {
            return None;
        };
        let Some(PreTokenizerWrapper::BertPreTokenizer(_)) = tokenizer.get_pre_tokenizer() else {
            return None;
        };
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else {
            return None;
        };
        let prefix = model.continuing_subword_prefix.as_str();
        let unknown = model.token_to_id(&model.unk_token)?;
        let added: Vec<_> = tokenizer.get_added_tokens_decoder().into_values().collect();
        // Other kinds of added tokens are looked for in the normalised text.
        if prefix.is_empty() || added.iter().any(|token| token.normalized || token.content.is_empty()) {
            return None;
        }
        let (mut starts, mut continuations) = (HashMap::new(), HashMap::new());
        for (piece, id) in model.get_vocab() {
            if let Some(rest) = piece.strip_prefix(prefix) {
                continuations.insert(rest.into(), id);
            }
            starts.insert(piece.into_boxed_str(), id);
        }
        Some(Self {
            unknown,
            longest: starts.keys().map(|piece| piece.len()).max().unwrap_or(0),
            max_word: model.max_input_chars_per_word,
            lowercase: normalizer.lowercase,
            added: added.into_iter().map(|token| token.content).collect(),
            starts,
            continuations,
        })
    }

    /// Tokens of a text; `general` is asked for those of the runs of words that are not plain.
    pub fn encode(&self, text: &str, general: impl Fn(&str) -> Result<Encoded>) -> Result<Encoded> {
        if self.added.iter().any(|token| text.contains(token.as_str())) {
            return general(text);
        }
        let mut encoded = Encoded { ids: Vec::new(), spans: Vec::new(), words: Vec::new() };
        let mut word_count = 0;
        let mut start = 0;
        while start < text.len() {
            let (plain, end) = run(text.as_bytes(), start);
            let piece = &text[start..end];
            if plain {
                for word in words(piece) {
                    let at = start + word.start;
                    self.push(&piece[word], at, word_count, &mut encoded);
                    word_count += 1;
                }
            } else {
                let other = general(piece)?;
                let count = other.words.last().copied().flatten().map_or(0, |last| last + 1);
                let moved = |s: Span| Span::new(s.start + start as u32, s.end + start as u32);
                encoded.ids.extend(other.ids);
                encoded.spans.extend(other.spans.into_iter().map(moved));
                encoded.words.extend(other.words.into_iter().map(|w| w.map(|w| w + word_count)));
                word_count += count;
            }
            start = end;
        }
        Ok(encoded)
    }

    /// The pieces of a word that starts at a byte of the text: from the left, always the longest that there is.
    fn push(&self, word: &str, at: usize, number: u32, encoded: &mut Encoded) {
        let upper = self.lowercase && word.bytes().any(|b| b.is_ascii_uppercase());
        let folded = if upper { Cow::Owned(word.to_ascii_lowercase()) } else { Cow::Borrowed(word) };
        let first = encoded.ids.len();
        let mut start = 0;
        while start < word.len() {
            let pieces = if start == 0 { &self.starts } else { &self.continuations };
            let most = word.len().min(start + self.longest);
            let found =
                (start + 1..=most).rev().find_map(|end| Some((end, *pieces.get(&folded[start..end])?)));
            let Some((end, id)) = found.filter(|_| word.len() <= self.max_word) else {
                encoded.ids.truncate(first);
                encoded.spans.truncate(first);
                encoded.ids.push(self.unknown);
                encoded.spans.push(Span::new(at as u32, (at + word.len()) as u32));
                break;
            };
            encoded.ids.push(id);
            encoded.spans.push(Span::new((at + start) as u32, (at + end) as u32));
            start = end;
        }
        encoded.words.resize(encoded.ids.len(), Some(number));
    }
}

/// Whether the next words are plain, and where those of the same kind end.
fn run(text: &[u8], start: usize) -> (bool, usize) {
    let (mut kind, mut end) = (None, start);
    loop {
        let space = text[end..].iter().take_while(|b| is_space(**b)).count();
        let word = end + space;
        if word == text.len() {
            return (kind.unwrap_or(true), word);
        }
        let length = text[word..].iter().take_while(|b| !is_space(**b)).count();
        let plain = text[word..word + length].iter().all(u8::is_ascii_graphic);
        if *kind.get_or_insert(plain) != plain {
            return (!plain, end);
        }
        end = word + length;
    }
}

/// White space between words; other characters of that kind are not plain.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Ranges of the words of a plain text; every punctuation character is one of its own.
fn words(text: &str) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        at += bytes[at..].iter().take_while(|b| is_space(**b)).count();
        let first = bytes.get(at)?;
        let inside = |b: &&u8| !is_space(**b) && !b.is_ascii_punctuation();
        let length =
            if first.is_ascii_punctuation() { 1 } else { bytes[at..].iter().take_while(inside).count() };
        let word = at..at + length;
        at = word.end;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::AddedToken;
    use tokenizers::models::wordpiece;
    use tokenizers::normalizers::BertNormalizer;
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

    use super::*;

    /// A small tokenizer of the BERT kind, whose vocabulary leaves some words unknown.
    fn tokenizer() -> Tokenizer {
        let pieces = [
            "[UNK]", "[SEP]", "a", "b", "ab", "aba", "##a", "##b", "##ba", "é", "e", "##e", ".", "#", "##",
            "1", "##1", "日", "x", "##xx",
        ];
        let mut ids = 0..;
        let vocabulary = pieces.map(|piece| (piece.to_owned(), ids.next().unwrap()));
        let model = wordpiece::WordPiece::builder()
            .vocab(vocabulary)
            .unk_token("[UNK]".to_owned())
            .max_input_chars_per_word(12)
            .build()
            .unwrap();
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(Some(BertNormalizer::default())).unwrap();
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        tokenizer.add_special_tokens([AddedToken::from("[SEP]", true)]).unwrap();
        tokenizer
    }

    fn general(tokenizer: &Tokenizer, text: &str) -> Encoded {
        let encoding = tokenizer.encode(text, false).unwrap();
        let span = |&(start, end): &(usize, usize)| {
            Span::new(text.floor_char_boundary(start) as u32, text.ceil_char_boundary(end) as u32)
        };
        Encoded {
            ids: encoding.get_ids().to_vec(),
            spans: encoding.get_offsets().iter().map(span).collect(),
            words: encoding.get_word_ids().to_vec(),
        }
    }

    fn check(tokenizer: &Tokenizer, plain: &WordPiece, text: &str) {
        let expected = general(tokenizer, text);
        let got = plain.encode(text, |piece| Ok(general(tokenizer, piece))).unwrap();
        assert_eq!(
            (got.ids, got.spans, got.words),
            (expected.ids, expected.spans, expected.words),
            "{text:?}"
        );
    }

    #[test]
    fn words_of_every_kind() {
        let tokenizer = tokenizer();
        let plain = WordPiece::of(&tokenizer).unwrap();
        let long = "ab".repeat(7);
        let texts =
            ["", " ", "Aba ABB", "ab.a##b", "é ab\u{301} é", "a[SEP]b", "日本 a", "a\u{b}b \u{a0}a", &long];
        texts.iter().for_each(|text| check(&tokenizer, &plain, text));
    }

    proptest! {
        #[test]
        fn the_same_tokens_as_the_general_tokenizer(text in "([abABx1#.é日\\[\\]SEP]|[ \t\n\r]|\u{301}|\u{a0}|\u{b}|\\PC){0,40}") {
            let tokenizer = tokenizer();
            let plain = WordPiece::of(&tokenizer).unwrap();
            check(&tokenizer, &plain, &text);
        }
    }
}
