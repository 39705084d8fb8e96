//! One document from standard input.

use std::io::{self, IsTerminal, Read};

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::failure::{Usage, code_name};
use crate::cli::{EXIT_FAILED, EXIT_OK, output};
use crate::proto::document::Content;
use crate::proto::{Document, DocumentStatus, GetServerInfoRequest, UpsertDocumentsRequest};
use tonic::Code;

/// What a document is that comes from standard input.
#[derive(Debug, Clone, Default, Args)]
pub struct StdinArgs {
    /// Id of a document from standard input; left out, the hash of its content.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub id: String,
    /// Title of a document from standard input; left out, the one that it has by itself.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub title: String,
    /// Media type of a document from standard input; text/plain if left out.
    #[arg(long, value_name = "TYPE", default_value = "text/plain", hide_default_value = true)]
    pub media_type: String,
}

impl StdinArgs {
    /// Whether any of them is given.
    pub fn is_given(&self) -> bool {
        !self.id.is_empty() || !self.title.is_empty() || self.media_type != "text/plain"
    }
}

/// Stores what standard input holds as a document of a collection, which is created if missing.
///
/// # Errors
/// What the server gives; wrong usage where standard input holds nothing or too much.
pub async fn add(client: &Client, json: bool, collection: &str, args: StdinArgs) -> Result<i32> {
    let info = client.admin().get_server_info(GetServerInfoRequest {}).await?.into_inner();
    let limits = info.limits.unwrap_or_default();
    let most = limits.max_document_bytes.min(limits.max_message_bytes.saturating_sub(super::MESSAGE_SLACK));
    let data = tokio::task::spawn_blocking(move || read(most)).await??;
    client.ensure_collection(collection, "").await?;
    let document = Document {
        id: args.id,
        title: args.title,
        mime_type: args.media_type,
        content: Some(Content::Data(data)),
        ..Document::default()
    };
    let request = UpsertDocumentsRequest {
        collection: collection.to_owned(),
        documents: vec![document],
        ..UpsertDocumentsRequest::default()
    };
    let response = client.documents().upsert_documents(request).await?.into_inner();
    let result = response.results.into_iter().next().ok_or_else(|| anyhow!("the server gave no answer"))?;
    let status = result.status();
    let told = match status {
        DocumentStatus::Indexed => "indexed",
        DocumentStatus::Updated => "updated",
        DocumentStatus::Unchanged => "unchanged",
        _ => "failed",
    };
    let code = code_name(Code::from(result.error_code));
    let reason = match told {
        "failed" => format!("{code} {}: {}", result.error_reason, result.error_message),
        _ => String::new(),
    };
    if json {
        output::print_json(&json!({"collection": collection, "id": result.document_id, "status": told,
            "passages": result.passage_count, "reason": reason}))?;
    } else if reason.is_empty() {
        output::line(format!(
            "{collection}: {} {told} ({} passages)",
            result.document_id, result.passage_count
        ))?;
    } else {
        output::note(format!("failed: {}: {reason}", result.document_id));
    }
    Ok(if reason.is_empty() { EXIT_OK } else { EXIT_FAILED })
}

fn read(most: u64) -> Result<Vec<u8>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Usage("expected a document on standard input, got a terminal".to_owned()).into());
    }
    let mut data = Vec::new();
    stdin.lock().take(most.saturating_add(1)).read_to_end(&mut data)?;
    if data.len() as u64 > most {
        let message = format!("standard input: expected at most {most} bytes, got more; index it as a file");
        return Err(Usage(message).into());
    }
    Ok(data)
}
