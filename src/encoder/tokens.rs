use std::panic::catch_unwind;

use tokenizers::Tokenizer;

use super::wordpiece::WordPiece;
use crate::domain::Span;
use crate::error::{Error, Result};

/// Shows where special tokens are put.
const PROBE: &str = "a";

/// One token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Id in the vocabulary.
    pub id: u32,
    /// As the vocabulary spells it.
    pub text: String,
    /// Whether the tokenizer added it.
    pub special: bool,
    /// Where in the text; none for special tokens.
    pub span: Option<Span>,
    /// Number of its word.
    pub word_index: Option<u32>,
}

/// Tokens without special ones.
pub(super) struct Encoded {
    pub ids: Vec<u32>,
    pub spans: Vec<Span>,
    pub words: Vec<Option<u32>>,
}

pub(super) struct TextTokenizer {
    tokenizer: Tokenizer,
    /// The same, faster, where the tokenizer is of the BERT kind.
    plain: Option<WordPiece>,
    /// What is put around a text.
    pub frame: Frame,
    /// Id that fills up short rows, where the file tells.
    pub padding: Option<u32>,
}

/// Special tokens around a text; either side may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub open: Vec<u32>,
    pub close: Vec<u32>,
}

/// Special tokens around and between a query and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairFrame {
    pub open: Vec<u32>,
    pub between: Vec<u32>,
    pub close: Vec<u32>,
    /// How many of those between are of type zero; what follows them is of type one.
    pub first_type: usize,
    /// Whether all tokens are of type zero.
    pub one_type: bool,
}

impl PairFrame {
    /// Special tokens of a pair.
    pub fn len(&self) -> usize {
        self.open.len() + self.between.len() + self.close.len()
    }

    /// A query and a text with the tokens around and between them, and how many tokens are of type zero at the start.
    pub fn join(&self, query: &[u32], text: &[u32]) -> (Vec<u32>, usize) {
        let ids = [&self.open, query, &self.between, text, &self.close].concat();
        let first_type =
            if self.one_type { ids.len() } else { self.open.len() + query.len() + self.first_type };
        (ids, first_type)
    }
}

impl Frame {
    /// Tokens on both sides.
    pub fn len(&self) -> usize {
        self.open.len() + self.close.len()
    }
}

impl TextTokenizer {
    /// Reads the contents of a tokenizer.json. Its own truncation and padding are switched off.
    ///
    /// # Errors
    /// `DAMAGED_MODEL`; `UNSUPPORTED_MODEL` where special tokens stand elsewhere than around a text.
    pub fn read(json: &[u8]) -> Result<Self> {
        let damaged = |e: tokenizers::Error| {
            Error::data_loss("DAMAGED_MODEL", format!("tokenizer.json cannot be read: {e}"))
        };
        // Some malformed files make the parser panic, others the first text.
        let parsed = catch_unwind(|| {
            let mut tokenizer = Tokenizer::from_bytes(json)?;
            let padding = tokenizer.get_padding().map(|padding| padding.pad_id);
            tokenizer.with_truncation(None)?.with_padding(None);
            let bare = tokenizer.encode(PROBE, false)?;
            let framed = tokenizer.encode(PROBE, true)?;
            Ok((tokenizer, padding, bare, framed))
        });
        let parsed = parsed.unwrap_or_else(|_| Err("the tokenizer panicked".into()));
        let (tokenizer, padding, bare, framed) = parsed.map_err(damaged)?;
        let special = framed.get_special_tokens_mask();
        let open = special.iter().take_while(|&&s| s == 1).count();
        let close = special.iter().rev().take_while(|&&s| s == 1).count();
        let (ids, end) = (framed.get_ids(), framed.get_ids().len().saturating_sub(close));
        if bare.get_ids().is_empty() || ids.get(open..end) != Some(bare.get_ids()) {
            return Err(Error::precondition(
                "UNSUPPORTED_MODEL",
                "tokenizer.json: expected special tokens before and after a text only",
            ));
        }
        let frame = Frame { open: ids[..open].to_vec(), close: ids[end..].to_vec() };
        let plain = WordPiece::of(&tokenizer);
        Ok(Self { tokenizer, plain, frame, padding })
    }

    /// What is put around and between the two texts of a pair.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` where special tokens stand elsewhere, or token types other than zero and then one.
    pub fn pair_frame(&self) -> Result<PairFrame> {
        let bare = self.encode(PROBE)?.ids;
        let pair = self.tokenizer.encode((PROBE, PROBE), true).map_err(failed)?;
        let (ids, types) = (pair.get_ids(), pair.get_type_ids());
        let unsupported = || {
            Error::precondition(
                "UNSUPPORTED_MODEL",
                "tokenizer.json: expected a template for pairs with special tokens around and between the texts, \
                 and token types of zero and then one",
            )
        };
        let special = pair.get_special_tokens_mask();
        let open = special.iter().take_while(|&&s| s == 1).count();
        let close = special.iter().rev().take_while(|&&s| s == 1).count();
        let (first, second) = (open + bare.len(), ids.len().saturating_sub(close + bare.len()));
        let own = |range: std::ops::Range<usize>| ids.get(range).map(<[u32]>::to_vec);
        if first > second || own(open..first).as_ref() != Some(&bare) {
            return Err(unsupported());
        }
        if own(second..second + bare.len()).as_ref() != Some(&bare) {
            return Err(unsupported());
        }
        let zeros = types.iter().take_while(|&&t| t == 0).count();
        let one_type = zeros == types.len();
        let then_ones = types.iter().skip(zeros).all(|&t| t == 1) && (first..=second).contains(&zeros);
        if !one_type && !then_ones {
            return Err(unsupported());
        }
        let parts = own(0..open).zip(own(first..second)).zip(own(second + bare.len()..ids.len()));
        let ((open, between), close) = parts.ok_or_else(unsupported)?;
        Ok(PairFrame { open, between, close, first_type: zeros.saturating_sub(first), one_type })
    }

    /// Greatest id that it gives.
    pub fn greatest_id(&self) -> u32 {
        self.tokenizer.get_vocab(true).into_values().max().unwrap_or(0)
    }

    pub fn encode(&self, text: &str) -> Result<Encoded> {
        match &self.plain {
            Some(plain) => plain.encode(text, |piece| self.general(piece)),
            None => self.general(text),
        }
    }

    fn general(&self, text: &str) -> Result<Encoded> {
        let encoding = self.tokenizer.encode(text, false).map_err(failed)?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            spans: encoding.get_offsets().iter().map(|&offsets| span(text, offsets)).collect(),
            words: encoding.get_word_ids().to_vec(),
        })
    }

    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<Token>> {
        let encoding = self.tokenizer.encode(text, add_special).map_err(failed)?;
        let special = encoding.get_special_tokens_mask();
        let rest = encoding
            .get_tokens()
            .iter()
            .zip(special)
            .zip(encoding.get_offsets())
            .zip(encoding.get_word_ids());
        let tokens =
            encoding.get_ids().iter().zip(rest).map(|(&id, (((name, &special), &offsets), &word_index))| {
                let special = special == 1;
                let span = (!special).then(|| span(text, offsets));
                Token { id, text: name.clone(), special, span, word_index }
            });
        Ok(tokens.collect())
    }

    /// Memory that the text of token ids takes while it is put together, at most.
    ///
    /// # Errors
    /// `UNKNOWN_TOKEN_ID`.
    pub fn bytes_of(&self, ids: &[u32]) -> Result<usize> {
        let bytes = |id: &u32| {
            let token = self.tokenizer.id_to_token(*id).ok_or_else(|| self.unknown(*id))?;
            // Its own string beside the whole text; some decoders put a space before it.
            Ok(size_of::<String>() + 2 * token.len() + 8)
        };
        ids.iter().map(bytes).sum()
    }

    fn unknown(&self, id: u32) -> Error {
        let message = format!("expected ids below {}, got {id}", self.tokenizer.get_vocab_size(true));
        Error::invalid("UNKNOWN_TOKEN_ID", message)
    }

    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(unknown) = ids.iter().find(|&&id| self.tokenizer.id_to_token(id).is_none()) {
            return Err(self.unknown(*unknown));
        }
        self.tokenizer.decode(ids, skip_special).map_err(failed)
    }
}

/// Widened to whole characters, and without the white space that some tokenizers count in.
fn span(text: &str, (start, end): (usize, usize)) -> Span {
    let (start, end) = (text.floor_char_boundary(start), text.ceil_char_boundary(end));
    let piece = text.get(start..end).unwrap_or_default();
    let kept = piece.trim();
    if kept.is_empty() {
        return Span::new(start as u32, end as u32);
    }
    let start = start + (piece.len() - piece.trim_start().len());
    Span::new(start as u32, (start + kept.len()) as u32)
}

fn failed(error: tokenizers::Error) -> Error {
    Error::internal("TOKENIZER_FAILED", format!("the tokenizer failed: {error}"))
}
