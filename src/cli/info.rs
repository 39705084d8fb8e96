//! `trove info`.

use anyhow::Result;
use serde_json::json;

use super::client::Client;
use super::{EXIT_OK, output};
use crate::proto::GetServerInfoRequest;

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
                    "execution_provider": m.execution_provider, "dimensions": m.dimensions, "max_tokens": m.max_tokens})
            })
            .collect();
        output::print_json(&json!({"version": info.version, "commit": info.commit,
            "schema_version": info.schema_version, "models": models,
            "limits": {"max_batch_size": limits.max_batch_size, "max_message_bytes": limits.max_message_bytes,
                "max_concurrent_requests": limits.max_concurrent_requests}}))?;
        return Ok(EXIT_OK);
    }
    output::line(format!(
        "trove {} (commit {}), store schema {}",
        info.version, info.commit, info.schema_version
    ))?;
    output::line(format!(
        "at most {} inputs a request, {} a message, {} requests at once",
        limits.max_batch_size,
        indicatif::BinaryBytes(limits.max_message_bytes),
        limits.max_concurrent_requests
    ))?;
    let rows = info
        .models
        .into_iter()
        .map(|m| {
            [
                m.id,
                output::shorten(&m.revision, 13),
                m.execution_provider,
                m.dimensions.to_string(),
                m.max_tokens.to_string(),
            ]
        })
        .collect();
    output::print_table(["model", "revision", "provider", "dimensions", "max tokens"], rows)?;
    Ok(EXIT_OK)
}
