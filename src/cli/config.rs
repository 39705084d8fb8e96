//! `trove config`: needs no server.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Usage;
use super::{EXIT_FAILED, EXIT_OK, output};
use crate::config::{self, Config, Flag, Loaded, Setting};
use crate::error::Error;

/// The server's settings on the command line; they win over the environment and the file.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file; `trove config default` prints one to start from.
    #[arg(long, env = "TROVE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, such as 127.0.0.1:7700; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Directory of the store, the models and the runtime library.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the encoders run: auto, cpu, openvino or cuda.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// What the encoders compute in: auto, or a precision that the device has.
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<String>,
    /// What is logged, such as info or trove=debug.
    #[arg(long, value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// Log lines: text or json.
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Set any key of the configuration; can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

impl ServeArgs {
    /// The settings that were given as flags.
    ///
    /// # Errors
    /// The text of a `--set` that is not KEY=VALUE.
    pub fn flags(&self) -> Result<Vec<Flag>, String> {
        let named = [
            ("--listen", "listen", &self.listen),
            ("--data-dir", "data_dir", &self.data_dir),
            ("--device", "encoder.device", &self.device),
            ("--precision", "encoder.precision", &self.precision),
            ("--log-filter", "log.filter", &self.log_filter),
            ("--log-format", "log.format", &self.log_format),
        ];
        let mut flags = Vec::new();
        for (flag, key, value) in named {
            if let Some(value) = value {
                flags.push(Flag { flag: flag.to_owned(), key: key.to_owned(), value: value.clone() });
            }
        }
        for setting in &self.settings {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(format!("--set: expected KEY=VALUE, got {setting:?}"));
            };
            let (key, value) = (key.trim().to_owned(), value.to_owned());
            flags.push(Flag { flag: "--set".to_owned(), key, value });
        }
        Ok(flags)
    }
}

/// Where the data directory is, for commands that work on it without a server.
#[derive(Debug, Clone, Args)]
pub struct LocalArgs {
    /// Configuration file.
    #[arg(long, global = true, env = "TROVE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the keys, the models and the store.
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
}

impl LocalArgs {
    /// The configuration with that directory in it.
    ///
    /// # Errors
    /// As of [`Config::load`].
    pub fn load(self) -> Result<Config, Error> {
        let flag = |value| Flag { flag: "--data-dir".to_owned(), key: "data_dir".to_owned(), value };
        let flags: Vec<Flag> = self.data_dir.map(flag).into_iter().collect();
        Config::load(self.config.as_deref(), &flags)
    }
}

/// Commands on the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration that `serve` would take; print every setting with where it comes from.
    Check(ServeArgs),
    /// Print the configuration that `serve` would take, as TOML.
    Show(ServeArgs),
    /// Print a configuration file with every key, its meaning and its default.
    Default,
    /// Print the reference of all keys, as Markdown.
    Reference,
}

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
