use std::panic::catch_unwind;
use std::path::Path;
use std::sync::OnceLock;

use tokenizers::{AddedToken, Tokenizer};

use super::options::{Message, Role};
use super::template::ChatTemplate;
use crate::error::{Error, Result};

/// Stands for the spelling of a control token within a message; a private-use character of the last plane.
const MARK: char = '\u{10FFFD}';

/// A generator's tokenizer with its chat template.
pub(super) struct ChatTokenizer {
    tokenizer: Tokenizer,
    /// The same, but the spelling of an added token is plain text to it; made when it is first needed.
    plain: OnceLock<Tokenizer>,
    /// Spellings of the tokens that may mean something to the model beside their text.
    control: Vec<String>,
    template: Option<ChatTemplate>,
}

impl ChatTokenizer {
    /// Loads a `tokenizer.json`; a model of fewer tokens than it has is refused.
    pub fn load(path: &Path, vocabulary: usize, template: Option<ChatTemplate>) -> Result<Self> {
        let damaged = |e: tokenizers::Error| {
            Error::data_loss("DAMAGED_MODEL", format!("cannot read {}: {e}", path.display()))
        };
        // Some malformed files make the parser panic, others the first text or token, or an answer without one.
        let parsed = catch_unwind(|| {
            let mut tokenizer = Tokenizer::from_file(path)?;
            tokenizer.with_truncation(None)?.with_padding(None);
            let ids = tokenizer.encode("a", false)?.get_ids().to_vec();
            tokenizer.encode("a", true)?;
            tokenizer.decode(&[], true)?;
            tokenizer.decode(ids.get(..1).unwrap_or_default(), true)?;
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
        // Some models' control tokens are not marked as special: Qwen3's <think>, DeepSeek's roles, user-defined ones of
        // GGUF. Runs of white space, which are added tokens of others, control nothing.
        let is_control = |token: &AddedToken| token.special || !token.content.trim().is_empty();
        let added = tokenizer.get_added_tokens_decoder().into_values().filter(is_control);
        let control = added.map(|token| token.content).filter(|text| !text.is_empty()).collect();
        Ok(Self { control, tokenizer, plain: OnceLock::new(), template })
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

    /// Tokens of a conversation. The spelling of a control token within a message is plain text, whether or not the
    /// tokenizer calls it special: a passage that quotes the end of a turn does not end it.
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
                "a control token is quoted in a message, which the model's chat template does not keep as it is",
            ));
        }
        let plain = self.plain()?;
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

    /// The tokenizer to which added tokens are plain text.
    fn plain(&self) -> Result<&Tokenizer> {
        if let Some(plain) = self.plain.get() {
            return Ok(plain);
        }
        let mut plain = self.tokenizer.clone();
        // It passes over those alone that are marked as special.
        let added = plain.get_added_tokens_decoder().into_values();
        let special: Vec<_> = added.map(|token| AddedToken { special: true, ..token }).collect();
        plain.add_special_tokens(special).map_err(failed)?;
        plain.set_encode_special_tokens(true);
        Ok(self.plain.get_or_init(|| plain))
    }

    /// Puts marks for control tokens, and for marks, and collects what they stand for.
    fn mark(&self, text: &str, quoted: &mut Vec<String>) -> String {
        let mark = MARK.to_string();
        let spellings: Vec<&str> = self.control.iter().chain([&mark]).map(String::as_str).collect();
        let mut starts = [false; 256];
        spellings.iter().filter_map(|s| s.bytes().next()).for_each(|byte| starts[usize::from(byte)] = true);
        let mut marked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let may_start = rest.bytes().next().is_some_and(|byte| starts[usize::from(byte)]);
            let found =
                spellings.iter().filter(|s| may_start && rest.starts_with(**s)).map(|s| s.len()).max();
            marked.push(if found.is_some() { MARK } else { next });
            let (taken, left) = rest.split_at(found.unwrap_or(next.len_utf8()));
            if found.is_some() {
                quoted.push(taken.to_owned());
            }
            rest = left;
        }
        marked
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A tokenizer of single bytes with three added tokens, the ids from 256 on.
    fn load(decoder: Value) -> Result<ChatTokenizer> {
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let vocab: serde_json::Map<String, Value> =
            alphabet.iter().map(char::to_string).zip((0..256).map(Value::from)).collect();
        let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": false });
        let added = |(id, content, special): (u32, &str, bool)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": !special, "special": special })
        };
        let added = [(256, "<end>", true), (257, "<think>", false), (258, "  ", false)].map(added);
        let json = json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": bytes, "post_processor": null, "decoder": decoder,
            "model": { "type": "BPE", "vocab": vocab, "merges": [] } });
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        let source = "{% for m in messages %}{{ m.content }}<end>{% endfor %}<think>";
        let template = ChatTemplate::new(source.to_owned(), None, None)?;
        ChatTokenizer::load(&path, 259, Some(template))
    }

    #[test]
    fn control_tokens_in_messages_are_plain_text_whether_special_or_not() {
        let tokenizer = load(json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": false }))
        .unwrap();
        let ids = |content: &str| tokenizer.encode_messages(&[Message::new(Role::User, content)]).unwrap();
        let added = |ids: &[u32]| ids.iter().copied().filter(|&id| id > 255).collect::<Vec<_>>();
        for quoted in ["a<think>b", "<end>", "<thin<think>k><end>é<end", "<think> <end>", "\u{10FFFD}<think>"]
        {
            let ids = ids(quoted);
            assert_eq!(added(&ids), [256, 257], "{quoted}");
            // The template's own end and start stand behind the message.
            let own: Vec<u32> = ids[..ids.len() - 2].to_vec();
            assert_eq!(tokenizer.decode(&own).unwrap(), quoted);
        }
        assert_eq!(added(&ids("a  b")), [258, 256, 257], "white space is no control token");
        assert_eq!(tokenizer.plain_ids("<think>").unwrap(), [257], "a prompt of plain text keeps its tokens");
    }

    #[test]
    fn a_decoder_that_panics_is_refused() {
        let strip = |start: u32, stop: u32| {
            let strip = json!({ "type": "Strip", "content": " ", "start": start, "stop": stop });
            load(json!({ "type": "Sequence", "decoders": [{ "type": "Fuse" }, strip] }))
        };
        assert_eq!(strip(0, 1).err().unwrap().reason, "DAMAGED_MODEL");
        // As that of Llama 2.
        strip(1, 0).unwrap();
    }
}
