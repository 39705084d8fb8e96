//! The chat template of a model, in Jinja.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};

use super::options::Message;
use crate::error::{Error, Result};

const NAME: &str = "chat";
/// Instructions that a template may take.
const FUEL: u64 = 1 << 20;
/// Bytes that a template may write: so many, and so many times the messages.
const FREE_BYTES: usize = 1 << 20;
const GROWTH: usize = 8;

/// A model's chat template.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    start_token: String,
    end_token: String,
}

impl ChatTemplate {
    /// Compiles a template as Hugging Face's `apply_chat_template` does: blocks are trimmed, Python's methods of strings
    /// and dictionaries are there.
    pub fn new(source: String, start_token: Option<String>, end_token: Option<String>) -> Result<Self> {
        let bad = |e: minijinja::Error| {
            Error::data_loss("BAD_CHAT_TEMPLATE", format!("cannot compile the model's chat template: {e}"))
                .with_source(e)
        };
        let mut environment = Environment::new();
        environment
            .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(bad)?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        // A template is data from elsewhere.
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, source).map_err(bad)?;
        let or_empty = Option::unwrap_or_default;
        Ok(Self { environment, start_token: or_empty(start_token), end_token: or_empty(end_token) })
    }

    /// The prompt up to where the model's answer starts.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let refused = |e: minijinja::Error| {
            Error::invalid("BAD_MESSAGES", format!("the model's chat template refuses the messages: {e}"))
                .with_source(e)
        };
        let length: usize = messages.iter().map(|message| message.content.len()).sum();
        let most = length.saturating_mul(GROWTH).saturating_add(FREE_BYTES);
        let mut output = Bounded { bytes: Vec::new(), most, is_full: false };
        let messages: Vec<Value> =
            messages.iter().map(|m| context! { role => m.role.as_str(), content => &m.content }).collect();
        let template = self.environment.get_template(NAME).map_err(refused)?;
        let context = context! {
            messages,
            bos_token => &self.start_token,
            eos_token => &self.end_token,
            add_generation_prompt => true,
        };
        let rendered = template.render_captured_to(context, &mut output);
        if output.is_full {
            let message = format!("expected a chat template to write at most {most} bytes, it writes more");
            return Err(Error::invalid("BAD_MESSAGES", message));
        }
        rendered.map_err(refused)?;
        String::from_utf8(output.bytes).map_err(|e| {
            Error::internal("BAD_PROMPT_TEXT", "a template wrote half a character").with_source(e)
        })
    }
}

/// Takes what a template writes, up to a length.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(part.len()) > self.most {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Role;

    fn render(source: &str) -> Result<String> {
        let messages = [Message::new(Role::System, " Be short. "), Message::new(Role::User, "{{ 1 }} <b>")];
        ChatTemplate::new(source.to_owned(), Some("<s>".to_owned()), None)?.render(&messages)
    }

    #[test]
    fn templates_may_use_what_hugging_face_offers() {
        let source = "{{ bos_token }}{% for m in messages %}\n{{ m['role'] + ':' + m.content.strip() }}\n{% endfor %}\
                      {% if add_generation_prompt %}assistant:{% endif %}";
        assert_eq!(render(source).unwrap(), "<s>system:Be short.\nuser:{{ 1 }} <b>\nassistant:");
    }

    #[test]
    fn bad_templates_and_messages_have_errors_of_their_own() {
        assert_eq!(render("{% for %}").unwrap_err().reason, "BAD_CHAT_TEMPLATE");
        let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert_eq!(error.reason, "BAD_MESSAGES");
        assert!(error.message.contains("roles must alternate"), "{}", error.message);
        let endless =
            "{% for i in range(100000) %}{% for j in range(100000) %}{{ j }}{% endfor %}{% endfor %}";
        assert_eq!(render(endless).unwrap_err().reason, "BAD_MESSAGES");
        let large = render("{% for i in range(1000) %}{{ 'x' * 9000 }}{% endfor %}").unwrap_err();
        assert!(large.message.contains("it writes more"), "{}", large.message);
    }
}
