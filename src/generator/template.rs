//! The chat template of a model, in Jinja.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};

use super::options::{Message, Role};
use crate::error::{Error, Result};

const NAME: &str = "chat";
/// Instructions that a template may take.
const FUEL: u64 = 1 << 20;
/// Bytes that a template may write: so many, and so many times the messages.
const FREE_BYTES: usize = 1 << 20;
const GROWTH: usize = 8;

/// Tags of `transformers` around what the model wrote; they mean something where models are trained.
const TRAINING_TAGS: [&str; 2] = ["generation", "endgeneration"];

/// A model's chat template.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    start_token: String,
    end_token: String,
}

impl ChatTemplate {
    /// Compiles a template as Hugging Face's `apply_chat_template` does: blocks are trimmed, Python's methods of strings
    /// and dictionaries are there, and so are `raise_exception` and `strftime_now` (in UTC).
    pub fn new(source: String, start_token: Option<String>, end_token: Option<String>) -> Result<Self> {
        let bad = |e: minijinja::Error| {
            let message = format!(
                "cannot compile the model's chat template: {e}; write one that can be into chat_template.jinja in the \
                 model's directory"
            );
            Error::data_loss("BAD_CHAT_TEMPLATE", message).with_source(e)
        };
        let mut environment = Environment::new();
        environment
            .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(bad)?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| date(&format, SystemTime::now()));
        // A template is data from elsewhere.
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, without_training_tags(source)).map_err(bad)?;
        let or_empty = Option::unwrap_or_default;
        Ok(Self { environment, start_token: or_empty(start_token), end_token: or_empty(end_token) })
    }

    /// The prompt up to where the model's answer starts. Where a template refuses a system message or leaves it out, as
    /// Gemma 2's and the first of Mistral's and Phi-3's do, its text begins the first message of the user.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let rendered = self.render_as_they_are(messages);
        let [system, user, rest @ ..] = messages else { return rendered };
        if system.role != Role::System || user.role != Role::User {
            return rendered;
        }
        let holds = |text: &Result<String>| text.as_ref().is_ok_and(|t| t.contains(system.content.trim()));
        if holds(&rendered) {
            return rendered;
        }
        let joined = Message::new(Role::User, format!("{}\n\n{}", system.content, user.content));
        let joined = self.render_as_they_are(&[std::slice::from_ref(&joined), rest].concat());
        if holds(&joined) { joined } else { rendered }
    }

    fn render_as_they_are(&self, messages: &[Message]) -> Result<String> {
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
            // Of models that can think aloud before they answer, which nobody wants to read or wait for here.
            enable_thinking => false,
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

/// Takes the tags out, with the white space that their dashes take.
fn without_training_tags(source: String) -> String {
    if !source.contains(TRAINING_TAGS[0]) {
        return source;
    }
    let mut kept = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some((before, behind)) = rest.split_once("{%") {
        kept.push_str(before);
        let Some((tag, after)) = behind.split_once("%}") else {
            kept.push_str("{%");
            rest = behind;
            continue;
        };
        if TRAINING_TAGS.contains(&tag.trim_matches(['-', '+']).trim()) {
            if tag.starts_with('-') {
                kept.truncate(kept.trim_end().len());
            }
            rest = if tag.ends_with('-') {
                after.trim_start()
            } else {
                after.strip_prefix('\n').unwrap_or(after)
            };
        } else {
            kept.extend(["{%", tag, "%}"]);
            rest = after;
        }
    }
    kept.push_str(rest);
    kept
}

/// A time in UTC by the directives of `strftime` that templates use; others stay as they are.
fn date(format: &str, now: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const WEEKDAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86400;
    // Howard Hinnant's `civil_from_days`: years begin in March, and eras of 400 years are alike.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let name = |names: &[&'static str], number: u64| names.get(number as usize).copied().unwrap_or_default();
    let (month_name, weekday) = (name(&MONTHS, month - 1), name(&WEEKDAYS, days % 7));
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let mut written = String::with_capacity(format.len() + 16);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            written.push(character);
            continue;
        }
        match characters.next() {
            Some('d') => written.push_str(&format!("{day:02}")),
            Some('m') => written.push_str(&format!("{month:02}")),
            Some('y') => written.push_str(&format!("{:02}", year % 100)),
            Some('Y') => written.push_str(&year.to_string()),
            Some('b') => written.push_str(&short(month_name)),
            Some('B') => written.push_str(month_name),
            Some('a') => written.push_str(&short(weekday)),
            Some('A') => written.push_str(weekday),
            Some('H') => written.push_str(&format!("{:02}", seconds / 3600 % 24)),
            Some('M') => written.push_str(&format!("{:02}", seconds / 60 % 60)),
            Some('S') => written.push_str(&format!("{:02}", seconds % 60)),
            Some('%') => written.push('%'),
            Some(other) => written.extend(['%', other]),
            None => written.push('%'),
        }
    }
    written
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
    fn a_system_message_that_a_template_does_not_take_begins_the_users() {
        let user = "{% if m.role == 'user' %}[{{ m.content | trim }}]{% endif %}";
        let refusing =
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}";
        let all = format!("{{% for m in messages %}}{user}{{% endfor %}}");
        assert_eq!(render(&all).unwrap(), "[Be short. \n\n{{ 1 }} <b>]", "left out");
        assert_eq!(render(&format!("{refusing}{all}")).unwrap(), "[Be short. \n\n{{ 1 }} <b>]", "refused");
        assert_eq!(
            render(&format!("{{{{ messages[0].content }}}}{all}")).unwrap(),
            " Be short. [{{ 1 }} <b>]"
        );
        assert_eq!(render("{{ raise_exception('never') }}").unwrap_err().reason, "BAD_MESSAGES");
        assert_eq!(render("fixed").unwrap(), "fixed");
    }

    #[test]
    fn dates_are_those_of_strftime() {
        let at = |seconds| UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let format = "%A %d %B %Y, %a %d %b %y, %m, %H:%M:%S, 100%% %q %";
        let expected = "Thursday 29 February 2024, Thu 29 Feb 24, 02, 23:59:58, 100% %q %";
        assert_eq!(date(format, at(1_709_251_198)), expected);
        assert_eq!(date("%d %b %Y", at(0)), "01 Jan 1970");
        assert_eq!(date("%d %B %Y", at(4_107_542_400)), "01 March 2100");
        assert_eq!(render("{{ strftime_now('%Y')|length }}").unwrap(), "4");
    }

    #[test]
    fn tags_of_training_are_left_out() {
        let source = "{% for m in messages %}\n{%- generation -%}\n  {{ m.role }}\n{% endgeneration %}\n{% endfor %}\
                      {{ 'generation' }}";
        assert_eq!(render(source).unwrap(), "system\nuser\ngeneration");
        assert_eq!(render("{{ enable_thinking }} generation").unwrap(), "False generation");
    }

    #[test]
    fn bad_templates_and_messages_have_errors_of_their_own() {
        let error = render("{% for %}").unwrap_err();
        assert_eq!(error.reason, "BAD_CHAT_TEMPLATE");
        assert!(error.message.contains("chat_template.jinja"), "{}", error.message);
        assert_eq!(render("{% generation").unwrap_err().reason, "BAD_CHAT_TEMPLATE");
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
