//! `trove info`.

use anyhow::Result;
use serde_json::json;

use super::client::Client;
use super::{EXIT_OK, output};
use crate::proto::{Activation, GetServerInfoRequest, Model, Pooling};

/// Prints version, limits and models.
pub async fn run(client: &Client, json: bool) -> Result<i32> {
    let info = client.admin().get_server_info(GetServerInfoRequest {}).await?.into_inner();
    let limits = info.limits.unwrap_or_default();
    if json {
        let models: Vec<_> = info
            .models
            .iter()
            .map(|m| {
                json!({"id": m.id, "kind": m.kind().as_str_name(), "revision": m.revision,
                    "execution_provider": m.execution_provider, "precision": m.precision,
                    "dimensions": m.dimensions, "max_tokens": m.max_tokens, "pooling": pooling_name(m),
                    "normalize": m.normalize, "supports_static": m.supports_static,
                    "activation": activation_name(m), "prompt_names": m.prompt_names, "default_prompt_name": m.default_prompt_name})
            })
            .collect();
        output::print_json(&json!({"version": info.version, "commit": info.commit,
            "schema_version": info.schema_version, "models": models,
            "limits": {"max_batch_size": limits.max_batch_size, "max_message_bytes": limits.max_message_bytes,
                "max_document_bytes": limits.max_document_bytes, "max_text_bytes": limits.max_text_bytes,
                "max_concurrent_requests": limits.max_concurrent_requests}}))?;
        return Ok(EXIT_OK);
    }
    let commit = if info.commit.is_empty() { String::new() } else { format!(" (commit {})", info.commit) };
    output::line(format!("trove {}{commit}, store schema {}", info.version, info.schema_version))?;
    output::line(format!(
        "at most {} inputs a request, {} a message, {} a document, {} requests at once",
        limits.max_batch_size,
        indicatif::BinaryBytes(limits.max_message_bytes),
        indicatif::BinaryBytes(limits.max_document_bytes),
        limits.max_concurrent_requests
    ))?;
    let rows = info
        .models
        .into_iter()
        .map(|m| {
            let (pooling, kind) = (pooling_name(&m), kind_name(&m));
            let revision = output::shorten(&m.revision, 13);
            let dimensions = if m.dimensions == 0 { String::new() } else { m.dimensions.to_string() };
            let max_tokens = m.max_tokens.to_string();
            let prompts = m.prompt_names.join(", ");
            [
                m.id,
                kind,
                revision,
                m.execution_provider,
                m.precision,
                dimensions,
                max_tokens,
                pooling,
                prompts,
            ]
        })
        .collect();
    let header = [
        "model",
        "kind",
        "revision",
        "provider",
        "precision",
        "dimensions",
        "max tokens",
        "pooling",
        "prompts",
    ];
    output::print_table(header, rows)?;
    Ok(EXIT_OK)
}

/// Lower-case name of what becomes of a cross-encoder's logit; empty for other models.
fn activation_name(model: &Model) -> String {
    match model.activation() {
        Activation::Unspecified => String::new(),
        other => other.as_str_name().trim_start_matches("ACTIVATION_").to_ascii_lowercase(),
    }
}

/// Lower-case name of what a model is for, as people write it.
fn kind_name(model: &Model) -> String {
    model.kind().as_str_name().trim_start_matches("MODEL_KIND_").to_ascii_lowercase().replace('_', "-")
}

/// Lower-case name of how a model pools; empty for models that do not.
fn pooling_name(model: &Model) -> String {
    match model.pooling() {
        Pooling::Unspecified => String::new(),
        other => other.as_str_name().trim_start_matches("POOLING_").to_ascii_lowercase(),
    }
}
