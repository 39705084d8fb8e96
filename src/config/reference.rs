//! The reference of all keys as a TOML file and as Markdown, from the settings themselves.

use std::fmt::Write;

use serde_json::Value;

use super::sources::{Setting, defaults};

/// A configuration file with every key at its default, commented out, below what it means.
pub fn default_toml() -> String {
    let mut out = String::from(
        "# Configuration of Trove. Every key is at its default; remove the # before one to set it.\n",
    );
    each(&mut out, |out, setting| {
        out.push('\n');
        for line in setting.key.doc.lines() {
            let _ = writeln!(out, "#{line}");
        }
        let _ = writeln!(out, "# Expected: {}.", setting.key.rule.expected());
        let _ = writeln!(out, "#{} = {}", short_name(setting), toml_value(&setting.value));
    });
    out
}

/// The settings as a TOML file; unset ones are left out.
pub fn toml(settings: &[Setting]) -> String {
    let mut out = String::new();
    let set: Vec<Setting> = settings.iter().filter(|setting| !setting.value.is_null()).cloned().collect();
    sections(&mut out, &set, |out, setting| {
        let _ = writeln!(out, "{} = {}", short_name(setting), toml_value(&setting.value));
    });
    out
}

/// The reference as Markdown: docs/CONFIG.md.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
        `trove serve` takes settings from these sources; later ones win:\n\n\
        1. the defaults below;\n\
        2. a TOML file, named by `--config FILE` or `TROVE_CONFIG`; `trove config default` prints one to start from;\n\
        3. the environment: `TROVE__ENCODER__DEVICE=cpu` sets `encoder.device`, and commas separate the items of a list;\n\
        4. flags: `--listen`, `--data-dir`, `--device`, `--precision`, `--log-filter`, `--log-format`, and `--set KEY=VALUE` for every key.\n\n\
        An unknown key or a value that does not fit stops the start with `BAD_CONFIG`. `trove config check` takes the same\n\
        flags, prints every setting with where it comes from, and tells all problems at once: keys and values that do not fit,\n\
        files, models and prompts that are not there, certificates that do not work. It loads no model; `trove doctor` does.\n\n\
        | key | default | values | meaning |\n|---|---|---|---|\n",
    );
    for setting in defaults() {
        let default = match &setting.value {
            Value::Null => "unset".to_owned(),
            value => format!("`{}`", toml_value(value)),
        };
        let (name, expected) = (setting.key.name, setting.key.rule.expected());
        let _ = writeln!(out, "| `{name}` | {default} | {expected} | {} |", setting.key.paragraph());
    }
    out.push_str("\nThis page is printed by `trove config reference`.\n");
    out
}

fn each(out: &mut String, line: impl Fn(&mut String, &Setting)) {
    sections(out, &defaults(), line);
}

fn sections(out: &mut String, settings: &[Setting], line: impl Fn(&mut String, &Setting)) {
    let mut current = "";
    for setting in settings {
        let section = setting.key.name.split_once('.').map_or("", |(section, _)| section);
        if section != current {
            let _ = writeln!(out, "\n[{section}]");
            current = section;
        }
        line(out, setting);
    }
}

fn short_name(setting: &Setting) -> &'static str {
    setting.key.name.rsplit('.').next().unwrap_or_default()
}

/// A value as TOML writes it; JSON's strings, numbers, booleans and lists of those are TOML too.
fn toml_value(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Loaded};

    #[test]
    fn every_field_has_a_key_and_a_default_that_fits_its_rule() {
        let settings = defaults();
        for setting in &settings {
            let value = setting.value.clone();
            assert!(setting.key.rule.value(value).is_some(), "{}: {}", setting.key.name, setting.value);
            assert!(!setting.key.paragraph().is_empty());
        }
        let tree = serde_json::to_value(Config::default()).unwrap();
        let fields = tree.as_object().unwrap().values().map(|v| v.as_object().map_or(1, |s| s.len()));
        assert_eq!(fields.sum::<usize>(), settings.len());
    }

    #[test]
    fn the_default_file_holds_the_defaults() {
        let set: String = default_toml()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trove.toml");
        for text in [set, toml(&defaults())] {
            std::fs::write(&path, text).unwrap();
            let loaded = Loaded::read(Some(&path), &[]);
            assert_eq!(loaded.problems, Vec::<String>::new());
            assert_eq!(loaded.config().unwrap(), Config::default());
        }
    }

    #[test]
    fn docs_config_is_this_reference() {
        let written = std::fs::read_to_string("docs/CONFIG.md").unwrap();
        assert!(
            written == markdown(),
            "docs/CONFIG.md is not what `trove config reference` prints: run `make docs`"
        );
    }
}
