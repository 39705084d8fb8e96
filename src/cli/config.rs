//! `trove config`: needs no server.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Usage;
use super::output::Text;
use super::{EXIT_FAILED, EXIT_OK, output};
use crate::access::Keyring;
use crate::answer::Prompts;
use crate::config::{self, Config, Flag, Loaded, Setting};
use crate::encoder::EncoderOptions;
use crate::error::Error;
use crate::model::SessionOptions;
use crate::server::{check_exposure, check_open_files, encoder_options, has_tls};

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
    output::part(text)?;
    Ok(EXIT_OK)
}

fn load(args: &ServeArgs) -> Result<Loaded> {
    Ok(Loaded::read(args.config.as_deref(), &args.flags().map_err(Usage)?))
}

fn check(json: bool, args: &ServeArgs) -> Result<i32> {
    let mut loaded = load(args)?;
    let mut problems = std::mem::take(&mut loaded.problems);
    problems.extend(missing_files(&loaded.settings));
    // Of the settings that fit: where one does not, the value of the source before stands for it.
    match loaded.config() {
        Ok(config) => problems.extend(refusals(&config)),
        Err(error) => problems.push(error.message),
    }
    loaded.problems = problems;
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
        output::note(Text::new().lines(format!("problem: {problem}")));
    }
    match loaded.problems.len() {
        0 => output::line("").and_then(|()| output::line("no problems"))?,
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
    for name in
        ["encoder.library", "extract.worker", "extract.pdfium", "tls.certificate", "tls.key", "tls.client_ca"]
    {
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
    for (key, words) in
        [("encoder.models", &[][..]), ("reranker.models", &["none"]), ("generator.models", &["none", "auto"])]
    {
        let models = settings.iter().find(|s| s.key.name == key);
        let names = models.and_then(|s| s.value.as_array()).into_iter().flatten().filter_map(Value::as_str);
        for name in names.filter(|name| !words.contains(name)) {
            let place = data_dir.join("models").join(name);
            if !place.is_dir() {
                problems.push(format!("{key}: expected a model directory {}", place.display()));
            }
        }
    }
    problems
}

/// What else stops the start before a model is loaded: settings that do not go together, certificates and prompts
/// that do not work.
fn refusals(config: &Config) -> Vec<String> {
    let prompts = Prompts::load(&config.data_dir.join("prompts"));
    let checked = [
        precision(config),
        prompts.and_then(|prompts| prompts.check(&config.answer.prompt)),
        protection(config),
        check_open_files(config).map(drop),
    ];
    let errors = checked.into_iter().filter_map(Result::err);
    errors.map(|error| format!("{}: {}", error.reason, error.message)).collect()
}

fn precision(config: &Config) -> Result<(), Error> {
    let EncoderOptions { device, precision, threads, cuda, .. } = encoder_options(config)?;
    SessionOptions { device, precision, threads, cuda }.candidates().map(|_| ())
}

fn protection(config: &Config) -> Result<(), Error> {
    let tls = &config.tls;
    let files = [&tls.certificate, &tls.key, &tls.client_ca];
    let has_tls = match has_tls(config) {
        Ok(has_tls) => has_tls,
        // Files that are not there are told each by itself.
        Err(error)
            if error.reason == "BAD_CERTIFICATE" && !files.into_iter().flatten().all(|f| f.exists()) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if !config.access.strict {
        return Ok(());
    }
    check_exposure(config, has_tls, !Keyring::open(&config.data_dir)?.is_open())
}
