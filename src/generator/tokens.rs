use std::panic::catch_unwind;
use std::path::Path;
use std::sync::OnceLock;

use tokenizers::Tokenizer;

use super::options::{Message, Role};
use super::template::ChatTemplate;
use crate::error::{Error, Result};

/// Stands for the spelling of a special token within a message; a private-use character of the last plane.
const MARK: char = '\u{10FFFD}';

/// A generator's tokenizer with its chat template.
pub(super) struct ChatTokenizer {
    tokenizer: Tokenizer,
    /// The same, but the spelling of a special token is plain text to it; made when it is first needed.
    plain: OnceLock<Tokenizer>,
    special: Vec<String>,
    template: Option<ChatTemplate>,
}

impl ChatTokenizer {
    /// Loads a `tokenizer.json`; a model of fewer tokens than it has is refused.
    pub fn load(path: &Path, vocabulary: usize, template: Option<ChatTemplate>) -> Result<Self> {
        let damaged = |e: tokenizers::Error| {
            Error::data_loss("DAMAGED_MODEL", format!("cannot read {}: {e}", path.display()))
        };
        // Some malformed files make the parser panic, others the first text.
        let parsed = catch_unwind(|| {
            let mut tokenizer = Tokenizer::from_file(path)?;
            tokenizer.with_truncation(None)?.with_padding(None);
            tokenizer.encode("a", true)?;
            Ok(tokenizer)
        });
        let tokenizer = parsed.unwrap_or_else(|_| Err("the tokenizer panicked".into())).map_err(damaged)?;
        let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= vocabulary {
            return Err(Error::data_loss(
                "VOCABULARY_MISMATCH",
                format!("expected token ids below {vocabulary} as the model has logits, got {largest}"),
            ));
        }
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.into_values().filter(|token| token.special).map(|token| token.content);
        Ok(Self {
            special: special.filter(|text| !text.is_empty()).collect(),
            tokenizer,
            plain: OnceLock::new(),
            template,
        })
    }

    /// Tokens of a text; special tokens in it are recognised, and those that start a text are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.tokenizer, text, true)
    }

    /// Tokens of a text alone.
    pub fn plain_ids(&self, text: &str) -> Result<Vec<u32>> {
        encode(&self.tokenizer, text, false)
    }

    /// Text of tokens, without special ones.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(failed)
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().ok_or_else(|| {
            Error::precondition(
                "NO_CHAT_TEMPLATE",
                "the model has no chat template; expected a prompt as plain text",
            )
        })
    }

    /// The text that the chat template makes of messages.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        check(messages)?;
        self.template()?.render(messages)
    }

    /// Tokens of a conversation. The spelling of a special token within a message is plain text: a passage that quotes
    /// the end of a turn does not end it.
    pub fn encode_messages(&self, messages: &[Message]) -> Result<Vec<u32>> {
        check(messages)?;
        let template = self.template()?;
        let mut quoted = Vec::new();
        let marked: Vec<Message> =
            messages.iter().map(|m| Message::new(m.role, self.mark(&m.content, &mut quoted))).collect();
        if quoted.is_empty() {
            return encode(&self.tokenizer, &template.render(messages)?, false);
        }
        let text = template.render(&marked)?;
        let parts: Vec<&str> = text.split(MARK).collect();
        if parts.len() != quoted.len() + 1 {
            return Err(Error::invalid(
                "BAD_MESSAGES",
                "a special token is quoted in a message, which the model's chat template does not keep as it is",
            ));
        }
        let plain = self.plain.get_or_init(|| {
            let mut tokenizer = self.tokenizer.clone();
            tokenizer.set_encode_special_tokens(true);
            tokenizer
        });
        let mut ids = Vec::new();
        let mut quoted = quoted.into_iter();
        for part in parts {
            ids.extend(encode(&self.tokenizer, part, false)?);
            if let Some(text) = quoted.next() {
                ids.extend(encode(plain, &text, false)?);
            }
        }
        Ok(ids)
    }

    /// Puts marks for special tokens, and for marks, and collects what they stand for.
    fn mark(&self, text: &str, quoted: &mut Vec<String>) -> String {
        let mut marked = String::new();
        let mut rest = text;
        loop {
            let mark = MARK.to_string();
            let spellings = self.special.iter().chain(std::iter::once(&mark));
            let found = spellings
                .filter_map(|s| rest.find(s.as_str()).map(|at| (at, s.len())))
                .min_by_key(|f| (f.0, usize::MAX - f.1));
            let Some((at, length)) = found else {
                marked.push_str(rest);
                return marked;
            };
            marked.push_str(&rest[..at]);
            marked.push(MARK);
            quoted.push(rest[at..at + length].to_owned());
            rest = &rest[at + length..];
        }
    }
}

/// What holds for every model.
fn check(messages: &[Message]) -> Result<()> {
    match messages.last() {
        None => Err(Error::invalid("EMPTY_PROMPT", "expected at least one message")),
        Some(last) if last.role != Role::User => Err(Error::invalid(
            "BAD_MESSAGES",
            format!("expected a last message of role user, got {}", last.role.as_str()),
        )),
        Some(last) if last.content.trim().is_empty() => {
            Err(Error::invalid("EMPTY_PROMPT", "expected a last message with text"))
        }
        Some(_) => Ok(()),
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, add_special: bool) -> Result<Vec<u32>> {
    Ok(tokenizer.encode_fast(text, add_special).map_err(failed)?.get_ids().to_vec())
}

fn failed(error: tokenizers::Error) -> Error {
    Error::internal("TOKENIZER_FAILED", format!("the tokenizer failed: {error}"))
}
