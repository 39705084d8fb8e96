//! Reads the file, the environment and flags, and tells where each value came from.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, Key};
use crate::error::{Error, Result};

/// What the names of the environment's variables start with.
const PREFIX: &str = "TROVE__";

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag, such as `--listen`.
    pub flag: String,
    /// The key that it sets.
    pub key: String,
    /// The value as it was typed.
    pub value: String,
}

/// Where a value came from. Later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The program.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The value of a key and where it came from.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: Key,
    /// The value; null where an optional one is unset.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// All settings, and everything that is wrong with them.
#[derive(Debug)]
pub struct Loaded {
    /// Every key in order; one whose value does not fit holds the value of the source before.
    pub settings: Vec<Setting>,
    /// What is wrong, one sentence each: key, source, what was expected and what came.
    pub problems: Vec<String>,
}

impl Loaded {
    /// Reads all sources: defaults, then the file, then the environment, then flags.
    pub fn read(file: Option<&Path>, flags: &[Flag]) -> Self {
        Self::merge(file, std::env::vars_os(), flags)
    }

    fn merge(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[Flag],
    ) -> Self {
        let mut loaded = Self { settings: defaults(), problems: Vec::new() };
        if let Some(path) = file {
            loaded.add_file(path);
        }
        let mut variables: Vec<_> = environment
            .into_iter()
            .filter_map(|(name, value)| {
                let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
                Some((name, value))
            })
            .collect();
        variables.sort();
        for (name, value) in variables {
            let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
            let origin = Origin::Environment(name);
            match value.into_string() {
                Ok(text) => loaded.set_text(&key, &text, origin),
                Err(_) => loaded.problems.push(format!("{key} ({origin}): expected UTF-8")),
            }
        }
        for flag in flags {
            loaded.set_text(&flag.key, &flag.value, Origin::Flag(flag.flag.clone()));
        }
        loaded
    }

    /// The checked settings.
    ///
    /// # Errors
    /// `BAD_CONFIG` with every problem.
    pub fn config(&self) -> Result<Config> {
        if !self.problems.is_empty() {
            return Err(Error::invalid("BAD_CONFIG", self.problems.join("; ")));
        }
        let mut tree = serde_json::Map::new();
        for setting in &self.settings {
            let value = setting.value.clone();
            match setting.key.name.split_once('.') {
                None => {
                    tree.insert(setting.key.name.to_owned(), value);
                }
                Some((section, name)) => {
                    let section = tree.entry(section).or_insert_with(|| Value::Object(Default::default()));
                    if let Value::Object(section) = section {
                        section.insert(name.to_owned(), value);
                    }
                }
            }
        }
        serde_json::from_value(Value::Object(tree)).map_err(|e| Error::invalid("BAD_CONFIG", e.to_string()))
    }

    fn add_file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(format!("{origin}: expected a file that can be read: {error}"));
                return;
            }
        };
        let table = match toml::from_str::<serde_json::Map<String, Value>>(&text) {
            Ok(table) => table,
            Err(error) => {
                let place = error.to_string();
                self.problems.push(format!("{origin}: expected TOML: {}", place.trim_end()));
                return;
            }
        };
        for (name, value) in table {
            match value {
                Value::Object(section) => {
                    for (key, value) in section {
                        self.set(&format!("{name}.{key}"), value, origin.clone());
                    }
                }
                value => self.set(&name, value, origin.clone()),
            }
        }
    }

    fn set_text(&mut self, key: &str, text: &str, origin: Origin) {
        let value = Value::String(text.to_owned());
        self.put(key, &value, origin, |key| key.rule.value_of_text(text));
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) {
        self.put(key, &value, origin, |key| key.rule.value(value.clone()));
    }

    fn put(&mut self, name: &str, got: &Value, origin: Origin, read: impl Fn(&Key) -> Option<Value>) {
        let Some(setting) = self.settings.iter_mut().find(|setting| setting.key.name == name) else {
            let hint = similar(name).map(|known| format!(", perhaps {known}")).unwrap_or_default();
            self.problems.push(format!("{name} ({origin}): expected a known key{hint}"));
            return;
        };
        match read(&setting.key) {
            Some(value) => {
                setting.value = value;
                setting.origin = origin;
            }
            None => {
                let expected = setting.key.rule.expected();
                self.problems.push(format!("{name} ({origin}): expected {expected}, got {got}"));
            }
        }
    }
}

impl Config {
    /// Reads the file, where one is named, the environment and flags, and checks the whole.
    ///
    /// # Errors
    /// `BAD_CONFIG` names every key that is wrong, what was expected and what came.
    pub fn load(file: Option<&Path>, flags: &[Flag]) -> Result<Self> {
        Loaded::read(file, flags).config()
    }

    /// Where the PDFium library is looked for.
    pub fn pdfium(&self) -> PathBuf {
        self.extract.pdfium.clone().unwrap_or_else(|| self.data_dir.join("runtime/pdfium"))
    }
}

/// Every key with its default.
pub(super) fn defaults() -> Vec<Setting> {
    let tree = serde_json::to_value(Config::default()).unwrap_or_default();
    let leaves: HashMap<String, Value> = match tree {
        Value::Object(tree) => tree.into_iter().flat_map(|(name, value)| leaves_of(name, value)).collect(),
        _ => HashMap::new(),
    };
    let keys = Config::keys().into_iter();
    keys.map(|key| Setting {
        value: leaves.get(key.name).cloned().unwrap_or_default(),
        origin: Origin::Default,
        key,
    })
    .collect()
}

fn leaves_of(name: String, value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(section) => {
            section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)).collect()
        }
        value => vec![(name, value)],
    }
}

/// A known key whose last part is the same, or that starts alike.
fn similar(name: &str) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let keys = Config::keys();
    let same = keys.iter().find(|key| last(key.name) == last(name));
    let close = || keys.iter().find(|key| key.name.starts_with(name) || name.starts_with(key.name));
    same.or_else(close).map(|key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rule;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    fn flag(key: &str, value: &str) -> Flag {
        Flag { flag: "--set".to_owned(), key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn later_sources_win_and_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trove.toml");
        let text = "listen = \"127.0.0.1:0\"\n[encoder]\nmax_batch_tokens = 99\nthreads = 1\nsessions = 3\n";
        std::fs::write(&path, text).unwrap();
        let environment = variables(&[
            ("TROVE__ENCODER__THREADS", "2"),
            ("TROVE__ENCODER__SESSIONS", "2"),
            ("TROVE__ENCODER__MODELS", "a, b"),
            ("TROVE__DATA_DIR", "123"),
            ("TROVE__ENCODER__LIBRARY", ""),
            ("TROVE_SERVER", "x"),
        ]);
        let loaded = Loaded::merge(Some(&path), environment, &[flag("encoder.sessions", "1")]);
        let config = loaded.config().unwrap();
        assert_eq!(config.listen.port(), 0);
        let encoder = &config.encoder;
        assert_eq!((encoder.max_batch_tokens, encoder.threads, encoder.sessions), (99, 2, 1));
        assert_eq!(encoder.models, ["a", "b"]);
        assert_eq!((config.data_dir.to_str(), &encoder.library), (Some("123"), &None));
        assert_eq!(config.limits, crate::config::LimitsConfig::default());
        let origin =
            |name: &str| loaded.settings.iter().find(|s| s.key.name == name).unwrap().origin.to_string();
        assert_eq!(origin("encoder.sessions"), "--set");
        assert_eq!(origin("encoder.threads"), "TROVE__ENCODER__THREADS");
        assert_eq!(origin("listen"), path.display().to_string());
        assert_eq!(origin("log.format"), "default");
    }

    #[test]
    fn lists_are_separated_by_commas_or_written_as_in_the_file() {
        for (text, names) in [
            ("a", &["a"][..]),
            ("a, b", &["a", "b"]),
            (r#"["a"]"#, &["a"]),
            (r#" [ "a" , "b" ] "#, &["a", "b"]),
            // What a shell leaves of the quotes.
            ("[a, b]", &["a", "b"]),
            ("['a']", &["a"]),
        ] {
            let loaded = Loaded::merge(None, [], &[flag("generator.models", text)]);
            assert_eq!(loaded.config().unwrap().generator.models, names, "{text}");
            let variable = variables(&[("TROVE__ENCODER__MODELS", text)]);
            assert_eq!(Loaded::merge(None, variable, &[]).config().unwrap().encoder.models, names, "{text}");
        }
        for text in ["", "[]", "a,", "[\"a\"", "\"a", "[a]b", "../a"] {
            let error = Loaded::merge(None, [], &[flag("generator.models", text)]).config().unwrap_err();
            assert!(error.message.contains("separated by commas"), "{text}: {error}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trove.toml");
        let text = "typo = 1\n[encoder]\ndevice = \"tpu\"\nmodels = [\"../x\"]\n[limits]\nmax_batch_size = 0\n\
                    max_message_bytes = 1.5\n[log]\nfilter = \"a=b=c\"\n[device]\ndevice = \"cpu\"\n";
        std::fs::write(&path, text).unwrap();
        let flags = [
            flag("listen", "here"),
            flag("extract.workers", "-1"),
            flag("answer.max_tokens", "5000000000"),
            flag("limits.send_timeout_seconds", "9223372036854775807"),
        ];
        let loaded = Loaded::merge(Some(&path), variables(&[("TROVE__NO__SUCH", "1")]), &flags);
        let error = loaded.config().unwrap_err();
        assert_eq!(error.reason, "BAD_CONFIG");
        for wanted in [
            "typo (",
            "): expected one of auto, cpu, openvino, cuda, got \"tpu\"",
            "encoder.models (",
            "): expected a whole number of at least 1, got 0",
            "limits.max_message_bytes (",
            "log.filter (",
            "device.device (",
            "expected a known key, perhaps encoder.device",
            "no.such (TROVE__NO__SUCH): expected a known key",
            "listen (--set): expected an IP address and a port, such as 127.0.0.1:7700, got \"here\"",
            "extract.workers (--set): expected a whole number of at least 1, got \"-1\"",
            "answer.max_tokens (--set): expected a whole number from 1 to 4294967295, got \"5000000000\"",
            "limits.send_timeout_seconds (--set): expected a whole number from 1 to 315360000",
        ] {
            assert!(error.message.contains(wanted), "{wanted} is not in {}", error.message);
        }
        assert_eq!(loaded.problems.len(), 12, "{:?}", loaded.problems);
    }

    #[test]
    fn a_file_that_is_not_toml_or_not_there_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trove.toml");
        assert!(Loaded::merge(Some(&path), [], &[]).problems[0].contains("can be read"));
        std::fs::write(&path, "not toml").unwrap();
        assert!(Loaded::merge(Some(&path), [], &[]).problems[0].contains("expected TOML"));
    }

    #[test]
    fn the_greatest_numbers_that_fit_are_read() {
        for setting in defaults() {
            let most = match setting.key.rule {
                Rule::AtLeast(_) => u64::MAX,
                Rule::Between(_, most) => most,
                _ => continue,
            };
            let name = setting.key.name;
            let loaded = Loaded::merge(None, [], &[flag(name, &most.to_string())]);
            assert!(loaded.config().is_ok(), "{name} = {most}: {:?}", loaded.config());
            let is_time = name.ends_with("_seconds");
            let longest = std::time::Duration::from_secs(most);
            assert!(!is_time || std::time::Instant::now().checked_add(longest).is_some(), "{name} = {most}");
        }
    }
}
