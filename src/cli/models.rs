//! `trove models`: works on the data directory of this machine; a server is only asked what it has loaded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::Client;
use super::config::LocalArgs;
use super::failure::{Usage, told};
use super::{EXIT_OK, output};
use crate::config::Config;
use crate::encoder;
use crate::error::Error;
use crate::model::decoder::{DecoderDir, DecoderImport};
use crate::model::{
    Import, Imported, ModelDir, ModelKind, Pull, PullProgress, Pulled, Runtime, check_name, list_models,
};
use crate::proto::{GetServerInfoRequest, Model};

/// Arguments of `models`.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    /// Where the data directory is.
    #[command(flatten)]
    pub local: LocalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: ModelsCommand,
}

/// Commands on models.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsCommand {
    /// List the models that are there.
    List,
    /// Show one model: what it is, its files, and how a server runs it.
    Show {
        /// Name.
        name: String,
    },
    /// Take in a model directory in the Hugging Face layout, or a GGUF file as a generator.
    Import {
        /// Directory with config.json, tokenizer.json and model.safetensors, onnx/model.onnx or model.onnx; or a .gguf file.
        source: PathBuf,
        /// Name to give it; the directory's if left out.
        #[arg(long)]
        name: Option<String>,
        /// Replace another model of that name.
        #[arg(long)]
        replace: bool,
        /// Take the token states below a head that is not used, such as that of a masked language model.
        #[arg(long)]
        without_head: bool,
    },
    /// Fetch a model from the Hugging Face hub and take it in: an encoder, a cross-encoder or a generator.
    Pull {
        /// Repository on the hub; of one with GGUF files, which of them, by quantization or name.
        #[arg(value_name = "OWNER/NAME[:QUANT]")]
        repository: String,
        /// Branch, tag or commit; the main branch if left out.
        #[arg(long)]
        revision: Option<String>,
        /// Name to give it; the repository's or the GGUF file's if left out.
        #[arg(long)]
        name: Option<String>,
        /// Use only what is in the hub's cache.
        #[arg(long)]
        offline: bool,
        /// Replace another model of that name.
        #[arg(long)]
        replace: bool,
        /// Take the token states below a head that is not used, such as that of a masked language model.
        #[arg(long)]
        without_head: bool,
    },
}

/// How long a server may take to tell what it has loaded.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Characters of a content hash that tell revisions apart for people, with the mark of what is left out.
const SHORT_REVISION: usize = 13;

/// Lists, shows, imports or pulls models.
pub async fn run(client: &Client, json: bool, args: ModelsArgs) -> Result<i32> {
    let config = args.local.load().map_err(told)?;
    let models = config.data_dir.join("models");
    match args.command {
        ModelsCommand::List => list(client, json, &models).await,
        ModelsCommand::Show { name } => show(client, json, &models, &name).await,
        ModelsCommand::Import { source, name, replace, without_head } => {
            if DecoderDir::is_at(&source) {
                let source = source.canonicalize().unwrap_or(source);
                let own = if source.is_dir() { source.file_name() } else { source.file_stem() };
                let name = name.or(own.map(|own| own.to_string_lossy().into_owned())).unwrap_or_default();
                return import_generator(json, models, source, name, replace, None).await;
            }
            if !source.is_dir() {
                let message = format!("expected a model directory or a GGUF file, got {}", source.display());
                return Err(anyhow!(Usage(message)));
            }
            let own = source.canonicalize().ok();
            let own = own.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
            let name = name.or(own).unwrap_or_default();
            let label = source.display().to_string();
            let (model, imported) = import(config, source, label, name, replace, without_head).await?;
            report(json, &model, imported, None)
        }
        ModelsCommand::Pull { repository, revision, name, offline, replace, without_head } => {
            let bar = progress_bar();
            let pulled = {
                let (bar, repository) = (bar.clone(), repository.clone());
                blocking(move || {
                    let revision = revision.as_deref();
                    let pull = Pull { repository: &repository, revision, offline, without_head };
                    pull.run(&move |PullProgress { total, done }| {
                        bar.set_length(total);
                        bar.set_position(done);
                    })
                })
                .await
            };
            bar.finish_and_clear();
            let Pulled { path, name: own, commit, from_cache } = pulled?;
            let name = name.unwrap_or(own);
            if DecoderDir::is_at(&path) {
                return import_generator(json, models, path, name, replace, Some((&commit, from_cache)))
                    .await;
            }
            let label = format!("{repository}@{commit}");
            let (model, imported) = import(config, path, label, name, replace, without_head).await?;
            report(json, &model, imported, Some((&commit, from_cache)))
        }
    }
}

async fn import(
    config: Config,
    source: PathBuf,
    label: String,
    name: String,
    replace: bool,
    without_head: bool,
) -> Result<(ModelDir, Imported)> {
    blocking(move || {
        let library = config.encoder.library.clone().unwrap_or_else(|| config.data_dir.join("runtime"));
        let has_runtime = match Runtime::init(&library) {
            Ok(()) => true,
            Err(error) => {
                output::note(format!("note: the model is not tried out: {}", error.message));
                false
            }
        };
        let models = config.data_dir.join("models");
        let import =
            Import { source: &source, label: &label, models: &models, name: &name, replace, without_head };
        import.run(|staged| encoder::check_model(staged, has_runtime))
    })
    .await
}

/// Takes in a generator.
async fn import_generator(
    json: bool,
    models: PathBuf,
    source: PathBuf,
    name: String,
    replace: bool,
    pulled: Option<(&str, bool)>,
) -> Result<i32> {
    let (model, imported) = {
        let name = name.clone();
        let import = move || DecoderImport { source: &source, models: &models, name: &name, replace }.run();
        blocking(import).await?
    };
    let what = told_of(imported);
    if json {
        return print_taken(about_generator(&model), what, pulled);
    }
    told_from_cache(pulled)?;
    output::line(format!(
        "{what} {name}: a generator in {}, {} tokens, revision {}",
        model.precision,
        model.context_tokens,
        short(&model.revision)
    ))?;
    output::line(format!(
        "a server loads it if generator.models names it: trove serve --set generator.models={name}"
    ))?;
    Ok(EXIT_OK)
}

fn about_generator(model: &DecoderDir) -> Value {
    json!({
        "id": model.id,
        "kind": "generator",
        "revision": model.revision,
        "max_tokens": model.context_tokens,
        "precision": model.precision,
        "chat_template": model.chat_template.is_some(),
    })
}

/// The generator in a directory, where there is one.
async fn generator(path: PathBuf) -> Option<Result<DecoderDir, Error>> {
    let open = move || DecoderDir::is_at(&path).then(|| DecoderDir::open_imported(&path));
    let opened = tokio::task::spawn_blocking(open).await;
    opened.unwrap_or_else(|e| Some(Err(Error::internal("LOAD_FAILED", "reading failed").with_source(e))))
}

fn told_of(imported: Imported) -> &'static str {
    match imported {
        Imported::New => "imported",
        Imported::Replaced => "replaced",
        Imported::Unchanged => "unchanged",
    }
}

fn report(json: bool, model: &ModelDir, imported: Imported, pulled: Option<(&str, bool)>) -> Result<i32> {
    let what = told_of(imported);
    if json {
        return print_taken(about(model), what, pulled);
    }
    told_from_cache(pulled)?;
    let (form, key) = match model.kind {
        ModelKind::Encoder => (format!("{} dimensions", model.dimensions()), "encoder.models"),
        ModelKind::CrossEncoder(_) => ("a cross-encoder".to_owned(), "reranker.models"),
    };
    let id = &model.id;
    output::line(format!(
        "{what} {id}: {form}, {} tokens, revision {}",
        model.max_tokens,
        short(&model.revision)
    ))?;
    output::line(format!("a server loads it if {key} names it: trove serve --set {key}={id}"))?;
    Ok(EXIT_OK)
}

fn print_taken(mut value: Value, what: &str, pulled: Option<(&str, bool)>) -> Result<i32> {
    value["result"] = json!(what);
    if let Some((commit, from_cache)) = pulled {
        value["commit"] = json!(commit);
        value["from_cache"] = json!(from_cache);
    }
    output::print_json(&value)?;
    Ok(EXIT_OK)
}

fn told_from_cache(pulled: Option<(&str, bool)>) -> Result<()> {
    match pulled {
        Some((commit, true)) => Ok(output::line(format!("commit {commit} from the hub's cache"))?),
        _ => Ok(()),
    }
}

/// What a model is for.
fn kind(model: &ModelDir) -> &'static str {
    match model.kind {
        ModelKind::Encoder => "encoder",
        ModelKind::CrossEncoder(_) => "cross-encoder",
    }
}

async fn list(client: &Client, json: bool, models: &Path) -> Result<i32> {
    let names = list_models(models).map_err(told)?;
    let loaded = loaded(client).await;
    let mut values = Vec::with_capacity(names.len());
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let path = models.join(&name);
        let bytes = files(&path).iter().map(|(_, bytes)| bytes).sum();
        let generator = generator(path.clone()).await;
        if let Some(Ok(model)) = generator {
            let mut value = about_generator(&model);
            value["bytes"] = json!(bytes);
            let (none, tokens) = (String::new, model.context_tokens.to_string());
            let runs = runs(&model.id, &model.revision, &loaded);
            let kind = match &runs {
                Some(m) => format!("generator: {} {}", m.execution_provider, m.precision),
                None => format!("generator, {}", model.precision),
            };
            value["loaded"] = runs.as_ref().map_or(Value::Null, on_server);
            values.push(value);
            rows.push([name, none(), tokens, none(), size(bytes), short(&model.revision), kind]);
            continue;
        }
        let opened = match generator {
            Some(Err(error)) => Err(error),
            _ => open(path).await,
        };
        match opened {
            Ok(model) => {
                let runs = runs(&model.id, &model.revision, &loaded);
                let mut value = about(&model);
                value["bytes"] = json!(bytes);
                value["loaded"] = runs.as_ref().map_or(Value::Null, on_server);
                values.push(value);
                let mut state =
                    runs.map_or_else(String::new, |m| format!("{} {}", m.execution_provider, m.precision));
                let tokens = model.max_tokens.to_string();
                let (mut dimensions, mut pooling) =
                    (model.dimensions().to_string(), model.pooling.as_str().to_owned());
                if model.kind != ModelKind::Encoder {
                    (dimensions, pooling) = (String::new(), String::new());
                    state = format!("{}{}{state}", kind(&model), if state.is_empty() { "" } else { ": " });
                }
                rows.push([name, dimensions, tokens, pooling, size(bytes), short(&model.revision), state]);
            }
            Err(error) => {
                values.push(json!({"id": name, "bytes": bytes,
                    "error": {"reason": error.reason, "message": error.message}}));
                let none = String::new;
                let state = format!("{}: {}", error.reason, error.message);
                rows.push([name, none(), none(), none(), size(bytes), none(), state]);
            }
        }
    }
    if json {
        output::print_json(&json!({ "models": values }))?;
    } else if rows.is_empty() {
        output::line(format!("no models in {}", models.display()))?;
    } else {
        let header = ["model", "dimensions", "tokens", "pooling", "size", "revision", "runs on"];
        output::print_table(header, rows)?;
    }
    Ok(EXIT_OK)
}

async fn show(client: &Client, json: bool, models: &Path, name: &str) -> Result<i32> {
    check_name(name).map_err(told)?;
    let path = models.join(name);
    let loaded = loaded(client).await;
    if DecoderDir::is_at(&path) {
        return show_generator(json, path, &loaded).await;
    }
    let model = open(path.clone()).await.map_err(told)?;
    let runs = runs(&model.id, &model.revision, &loaded);
    let files = files(&path);
    if json {
        return print_about(about(&model), runs.as_ref(), &files);
    }
    let weights =
        if model.imported { format!("{} (imported)", model.weights) } else { model.weights.clone() };
    let default = model.default_prompt.as_deref().unwrap_or("none");
    let prompts: Vec<_> = model.prompts.iter().map(|(name, text)| format!("{name} {text:?}")).collect();
    let prompts = if prompts.is_empty() { "none".to_owned() } else { prompts.join(", ") };
    let runs = runs_on(runs);
    let rows = [
        ("model", model.id.clone()),
        ("kind", kind(&model).to_owned()),
        ("revision", model.revision.clone()),
        ("family", model.family.clone()),
        ("weights", weights),
        ("dimensions", model.dimensions().to_string()),
        ("tokens", format!("{} at most", model.max_tokens)),
        ("pooling", model.pooling.as_str().to_owned()),
        ("normalize", if model.normalize { "yes" } else { "no" }.to_owned()),
        ("prompts", prompts),
        ("default prompt", default.to_owned()),
        ("runs on", runs),
    ];
    output::print_fields(&rows)?;
    print_files(files)
}

async fn show_generator(json: bool, path: PathBuf, loaded: &[Model]) -> Result<i32> {
    let files = files(&path);
    let model = blocking(move || DecoderDir::open_imported(&path)).await?;
    let runs = runs(&model.id, &model.revision, loaded);
    if json {
        return print_about(about_generator(&model), runs.as_ref(), &files);
    }
    let ends: Vec<String> = model.end_ids.iter().map(u32::to_string).collect();
    let template = if model.chat_template.is_some() { "yes" } else { "no: it cannot chat or answer" };
    let rows = [
        ("model", model.id.clone()),
        ("kind", "generator".to_owned()),
        ("revision", model.revision.clone()),
        ("weights", model.precision.clone()),
        ("tokens", format!("{} at most", model.context_tokens)),
        ("end tokens", ends.join(", ")),
        ("chat template", template.to_owned()),
        ("runs on", runs_on(runs)),
    ];
    output::print_fields(&rows)?;
    print_files(files)
}

fn runs_on(runs: Option<Model>) -> String {
    runs.map_or_else(
        || "no server that answers has it loaded".to_owned(),
        |m| format!("{}, {}", m.execution_provider, m.precision),
    )
}

fn print_about(mut value: Value, runs: Option<&Model>, files: &[(String, u64)]) -> Result<i32> {
    value["loaded"] = runs.map_or(Value::Null, on_server);
    value["files"] = files.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
    output::print_json(&value)?;
    Ok(EXIT_OK)
}

fn print_files(files: Vec<(String, u64)>) -> Result<i32> {
    output::line("")?;
    let rows = files.into_iter().map(|(name, bytes)| [name, size(bytes)]).collect();
    output::print_table(["file", "size"], rows)?;
    Ok(EXIT_OK)
}

fn about(model: &ModelDir) -> Value {
    json!({"id": model.id, "kind": kind(model), "revision": model.revision, "family": model.family, "weights": model.weights,
        "imported": model.imported, "dimensions": model.dimensions(), "max_tokens": model.max_tokens,
        "pooling": model.pooling.as_str(), "normalize": model.normalize, "prompts": model.prompts,
        "default_prompt_name": model.default_prompt})
}

fn on_server(model: &Model) -> Value {
    json!({"execution_provider": model.execution_provider, "precision": model.precision})
}

/// Models that the server has loaded; none where no server answers.
async fn loaded(client: &Client) -> Vec<Model> {
    let mut admin = client.admin();
    let request = admin.get_server_info(GetServerInfoRequest {});
    match tokio::time::timeout(SERVER_TIMEOUT, request).await {
        Ok(Ok(response)) => response.into_inner().models,
        _ => Vec::new(),
    }
}

/// The very model on the server, not another one of its name.
fn runs(id: &str, revision: &str, loaded: &[Model]) -> Option<Model> {
    loaded.iter().find(|m| m.id == id && m.revision == revision).cloned()
}

async fn open(path: PathBuf) -> Result<ModelDir, Error> {
    let opened = tokio::task::spawn_blocking(move || ModelDir::open(&path)).await;
    opened.unwrap_or_else(|e| Err(Error::internal("LOAD_FAILED", "reading failed").with_source(e)))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?.map_err(told)
}

/// Files of a directory and below, by name, with their sizes; what cannot be read is left out.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let walk = ignore::WalkBuilder::new(folder).standard_filters(false).follow_links(true).build();
    let mut files: Vec<_> = walk
        .flatten()
        .filter_map(|entry| {
            let found = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            let name = entry.path().strip_prefix(folder).ok()?.to_string_lossy().into_owned();
            Some((name, found.len()))
        })
        .collect();
    files.sort();
    files
}

fn short(revision: &str) -> String {
    output::shorten(revision, SHORT_REVISION)
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

pub(super) fn progress_bar() -> ProgressBar {
    let template = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
