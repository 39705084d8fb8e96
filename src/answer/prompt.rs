//! Prompt templates by name: the built-in one and those in a directory.

use std::collections::BTreeMap;
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::generator::{Message, Role};

/// Name of the built-in template.
pub const DEFAULT_PROMPT: &str = "default";

/// What small models answered best with (docs/EVALUATION.md).
const DEFAULT_SYSTEM: &str = "Answer the question from the context in one short sentence.";
const DEFAULT_USER: &str =
    "Context:\n{% for passage in passages %}{{ passage.text }}\n\n{% endfor %}Question: {{ question }}";

/// Most bytes of a template's file.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// A passage as templates see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PromptPassage {
    /// Number that citations give it.
    pub number: u32,
    /// Text, or the part of it that has room.
    pub text: String,
    /// Title of its document.
    pub title: String,
    /// Heading path, outermost first.
    pub headings: Vec<String>,
    /// Page, from one.
    pub page: Option<u32>,
}

/// A template's file, `NAME.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptFile {
    system: Option<String>,
    user: String,
}

/// The prompt templates, all of them checked.
pub struct Prompts {
    environment: Environment<'static>,
    /// Whether a template has a system text.
    names: BTreeMap<String, bool>,
}

impl Prompts {
    /// The built-in template and the `*.toml` files of a directory, which need not exist. A file of the name `default`
    /// takes the place of the built-in one.
    ///
    /// # Errors
    /// `BAD_PROMPT` names the file and what is wrong with it.
    pub fn load(directory: &Path) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(1 << 20));
        let mut prompts = Self { environment, names: BTreeMap::new() };
        let built_in = PromptFile { system: Some(DEFAULT_SYSTEM.to_owned()), user: DEFAULT_USER.to_owned() };
        prompts.add(DEFAULT_PROMPT, built_in)?;
        for (name, path) in files(directory)? {
            let file = read(&path).and_then(|file| prompts.add(&name, file)).map_err(|error| {
                Error::invalid("BAD_PROMPT", format!("{}: {}", path.display(), error.message))
                    .with_source(error)
            });
            file?;
        }
        Ok(prompts)
    }

    /// Names of the templates, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Refuses a name that no template has; an empty one means the default.
    ///
    /// # Errors
    /// `UNKNOWN_PROMPT` names those that there are.
    pub fn check(&self, name: &str) -> Result<()> {
        if name.is_empty() || self.names.contains_key(name) {
            return Ok(());
        }
        let known: Vec<_> = self.names().collect();
        Err(Error::not_found(
            "UNKNOWN_PROMPT",
            format!("there is no prompt {name:?}; there are: {}", known.join(", ")),
        ))
    }

    /// The conversation to generate from: system text, history, and the question with its passages.
    ///
    /// # Errors
    /// As of [`Prompts::check`]; `BAD_PROMPT` where the template fails on these passages.
    pub fn messages(
        &self,
        name: &str,
        history: &[Message],
        question: &str,
        passages: &[PromptPassage],
    ) -> Result<Vec<Message>> {
        self.check(name)?;
        let name = if name.is_empty() { DEFAULT_PROMPT } else { name };
        let mut messages = Vec::with_capacity(history.len() + 2);
        if self.names.get(name) == Some(&true) {
            messages.push(Message::new(Role::System, self.render(&system_name(name), question, passages)?));
        }
        messages.extend_from_slice(history);
        messages.push(Message::new(Role::User, self.render(&user_name(name), question, passages)?));
        Ok(messages)
    }

    fn render(&self, template: &str, question: &str, passages: &[PromptPassage]) -> Result<String> {
        let failed =
            |e: minijinja::Error| Error::invalid("BAD_PROMPT", format!("the prompt {template}: {e:#}"));
        let template = self.environment.get_template(template).map_err(failed)?;
        template.render(context! { question, passages => Value::from(Serde(passages)) }).map_err(failed)
    }

    fn add(&mut self, name: &str, file: PromptFile) -> Result<()> {
        let bad = |e: minijinja::Error| Error::invalid("BAD_PROMPT", format!("{e:#}"));
        let has_system = file.system.is_some();
        if let Some(system) = file.system {
            self.environment.add_template_owned(system_name(name), system).map_err(bad)?;
        }
        self.environment.add_template_owned(user_name(name), file.user).map_err(bad)?;
        self.names.insert(name.to_owned(), has_system);
        self.try_out(name)
    }

    /// A template that loses the question or a passage would give answers from nowhere.
    fn try_out(&self, name: &str) -> Result<()> {
        let passages = [("first-passage", 1), ("second-passage", 2)].map(|(text, number)| PromptPassage {
            number,
            text: text.to_owned(),
            title: "title".to_owned(),
            headings: vec!["heading".to_owned()],
            page: Some(7),
        });
        let messages = self.messages(name, &[], "the-question", &passages)?;
        let all: String = messages.iter().map(|message| message.content.as_str()).collect();
        for (part, what) in [
            ("the-question", "the question, {{ question }}"),
            (
                "first-passage",
                "every passage's text, {% for passage in passages %}{{ passage.text }}{% endfor %}",
            ),
            (
                "second-passage",
                "every passage's text, {% for passage in passages %}{{ passage.text }}{% endfor %}",
            ),
        ] {
            if !all.contains(part) {
                return Err(Error::invalid(
                    "BAD_PROMPT",
                    format!("expected a template that holds {what}, got none"),
                ));
            }
        }
        // Rendered without passages to count what they cost.
        self.messages(name, &[], "the-question", &[]).map(|_| ())
    }
}

fn system_name(name: &str) -> String {
    format!("{name}.system")
}

fn user_name(name: &str) -> String {
    format!("{name}.user")
}

/// Names and paths of the templates' files, in order.
fn files(directory: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(directory, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, error))?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) {
            files.push((name.to_owned(), path.clone()));
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<PromptFile> {
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, error))?.len();
    if size > MAX_FILE_BYTES {
        return Err(Error::invalid(
            "BAD_PROMPT",
            format!("expected at most {MAX_FILE_BYTES} bytes, got {size}"),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    toml::from_str(&text).map_err(|e| Error::invalid("BAD_PROMPT", e.to_string()))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::invalid("BAD_PROMPT", format!("{} cannot be read: {error}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(text: &str) -> PromptPassage {
        PromptPassage { text: text.to_owned(), ..Default::default() }
    }

    #[test]
    fn the_default_is_the_measured_one() {
        let prompts = Prompts::load(Path::new("/nowhere/at/all")).unwrap();
        let history = [Message::new(Role::User, "Hi"), Message::new(Role::Assistant, "Hello")];
        let messages =
            prompts.messages("", &history, "Who?", &[passage("One {{ 1 }}."), passage("Two.")]).unwrap();
        assert_eq!(messages.len(), 4);
        assert_eq!(messages[0], Message::new(Role::System, DEFAULT_SYSTEM));
        assert_eq!(messages[3].content, "Context:\nOne {{ 1 }}.\n\nTwo.\n\nQuestion: Who?");
        assert_eq!(prompts.messages("x", &[], "Who?", &[]).unwrap_err().reason, "UNKNOWN_PROMPT");
    }

    #[test]
    fn files_are_checked_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short.toml");
        let whole = "user = '''{% for p in passages %}[{{ p.number }}] {{ p.title }}: {{ p.text }}\n{% endfor %}{{ question }}'''";
        std::fs::write(&path, whole).unwrap();
        let prompts = Prompts::load(dir.path()).unwrap();
        assert_eq!(prompts.names().collect::<Vec<_>>(), ["default", "short"]);
        let messages = prompts.messages("short", &[], "Who?", &[passage("One.")]).unwrap();
        assert_eq!(messages, [Message::new(Role::User, "[0] : One.\nWho?")]);
        for (bad, part) in [
            ("user = '{{ question }}'", "every passage"),
            ("user = '{% for p in passages %}{{ p.text }}{% endfor %}'", "the question"),
            ("user = '{% for p in passages %}'", "short.user"),
            ("user = '{{ question }} {{ passages }} {{ typo }}'", "undefined"),
            ("system = 'x'", "user"),
            ("user = 'x'\nother = 1", "other"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = Prompts::load(dir.path()).err().unwrap();
            assert_eq!(error.reason, "BAD_PROMPT");
            assert!(
                error.message.contains("short.toml") && error.message.contains(part),
                "{}",
                error.message
            );
        }
    }
}
