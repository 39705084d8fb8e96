//! `trove config`: needs no server.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{ConfigCommand, ServeArgs};
use super::failure::Usage;
use super::{EXIT_FAILED, EXIT_OK, output};
use crate::config::{self, Loaded, Setting};

/// Runs a command on the configuration; a problem in it is exit code 1.
pub fn run(json: bool, command: &ConfigCommand) -> Result<i32> {
    match command {
        ConfigCommand::Check(args) => check(json, args),
        ConfigCommand::Show(args) => show(json, args),
        ConfigCommand::Default => text(&config::default_toml()),
        ConfigCommand::Reference => text(&config::markdown()),
    }
}

fn text(text: &str) -> Result<i32> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(EXIT_OK)
}

fn load(args: &ServeArgs) -> Result<Loaded> {
    Ok(Loaded::read(args.config.as_deref(), &args.flags().map_err(Usage)?))
}

fn check(json: bool, args: &ServeArgs) -> Result<i32> {
    let mut loaded = load(args)?;
    loaded.problems.extend(missing_files(&loaded.settings));
    let code = if loaded.problems.is_empty() { EXIT_OK } else { EXIT_FAILED };
    if json {
        let settings = loaded.settings.iter().map(|s| {
            let setting = json!({"value": s.value, "origin": s.origin.to_string()});
            (s.key.name.to_owned(), setting)
        });
        let settings: serde_json::Map<String, Value> = settings.collect();
        output::print_json(&json!({"settings": settings, "problems": loaded.problems}))?;
        return Ok(code);
    }
    let rows = loaded.settings.iter().map(|s| [s.key.name.to_owned(), shown(&s.value), s.origin.to_string()]);
    output::print_table(["key", "value", "from"], rows.collect())?;
    for problem in &loaded.problems {
        output::note(format!("problem: {problem}"));
    }
    match loaded.problems.len() {
        0 => output::line("\nno problems")?,
        count => output::note(format!("{count} problems")),
    }
    Ok(code)
}

fn show(json: bool, args: &ServeArgs) -> Result<i32> {
    let loaded = load(args)?;
    let config = loaded.config()?;
    if json {
        output::print_json(&serde_json::to_value(config)?)?;
        return Ok(EXIT_OK);
    }
    text(&config::toml(&loaded.settings))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "unset".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Files that the server would not find.
fn missing_files(settings: &[Setting]) -> Vec<String> {
    let text = |name: &str| {
        let setting = settings.iter().find(|s| s.key.name == name)?;
        Some((setting.value.as_str().map(str::to_owned), setting))
    };
    let mut problems = Vec::new();
    for name in ["encoder.library", "extract.worker"] {
        if let Some((Some(path), setting)) = text(name)
            && !Path::new(&path).exists()
        {
            problems.push(format!("{name} ({}): expected a path that exists, got {path:?}", setting.origin));
        }
    }
    let Some((Some(data_dir), _)) = text("data_dir") else { return problems };
    let data_dir = Path::new(&data_dir);
    if let Some((None, _)) = text("encoder.library")
        && !data_dir.join("runtime").exists()
    {
        let place = data_dir.join("runtime");
        problems.push(format!("encoder.library: expected the ONNX Runtime library in {}", place.display()));
    }
    for key in ["encoder.models", "reranker.models"] {
        let models = settings.iter().find(|s| s.key.name == key);
        let names = models.and_then(|s| s.value.as_array()).into_iter().flatten().filter_map(Value::as_str);
        for name in names.filter(|name| key == "encoder.models" || *name != "none") {
            let place = data_dir.join("models").join(name);
            if !place.is_dir() {
                problems.push(format!("{key}: expected a model directory {}", place.display()));
            }
        }
    }
    problems
}
