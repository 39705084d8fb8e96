use std::path::Path;

use tokenizers::Tokenizer;

use super::wordpiece::WordPiece;
use crate::domain::Span;
use crate::error::{Error, Result};

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
    /// Ids that open and close a sequence.
    pub frame: [u32; 2],
}

impl TextTokenizer {
    pub fn load(path: &Path) -> Result<Self> {
        let damaged = |e: tokenizers::Error| {
            Error::data_loss("DAMAGED_MODEL", format!("cannot read {}: {e}", path.display()))
        };
        let mut tokenizer = Tokenizer::from_file(path).map_err(damaged)?;
        tokenizer.with_truncation(None).map_err(damaged)?.with_padding(None);
        let frame = tokenizer.encode("", true).map_err(damaged)?;
        let &[open, close] = frame.get_ids() else {
            return Err(Error::precondition(
                "UNSUPPORTED_MODEL",
                "expected one token before and one after a text",
            ));
        };
        let plain = WordPiece::of(&tokenizer);
        Ok(Self { tokenizer, plain, frame: [open, close] })
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

    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(unknown) = ids.iter().find(|&&id| self.tokenizer.id_to_token(id).is_none()) {
            return Err(Error::invalid(
                "UNKNOWN_TOKEN_ID",
                format!("expected ids below {}, got {unknown}", self.tokenizer.get_vocab_size(true)),
            ));
        }
        self.tokenizer.decode(ids, skip_special).map_err(failed)
    }
}

/// Widened to whole characters.
fn span(text: &str, (start, end): (usize, usize)) -> Span {
    Span::new(text.floor_char_boundary(start) as u32, text.ceil_char_boundary(end) as u32)
}

fn failed(error: tokenizers::Error) -> Error {
    Error::internal("TOKENIZER_FAILED", format!("the tokenizer failed: {error}"))
}
