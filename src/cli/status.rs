//! `trove status`: what collections hold, and what could not be read.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::failures::{self, Failures};
use super::{EXIT_OK, documents, output};
use crate::proto::metadata_value::Kind;
use crate::proto::{Document, GetCollectionRequest, GetServerInfoRequest, ListCollectionsRequest};

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Collections; left out, all.
    pub collections: Vec<String>,
    /// Name the documents whose text another version of the server extracted; `trove index --refresh` reads them again.
    #[arg(long)]
    pub outdated: bool,
}

/// What a collection holds.
struct Status {
    collection: String,
    documents: i64,
    passages: i64,
    /// Documents by the extension of their file, else by their media type.
    kinds: BTreeMap<String, u64>,
    /// Ids of the documents that an older extraction made.
    outdated: Vec<String>,
    damaged: usize,
    failures: Failures,
}

/// Shows what collections hold.
pub async fn run(client: &Client, server: &str, json: bool, args: StatusArgs) -> Result<i32> {
    let info = client.admin().get_server_info(GetServerInfoRequest {}).await?.into_inner();
    let names = if args.collections.is_empty() { all(client).await? } else { args.collections };
    let mut statuses = Vec::new();
    for name in names {
        statuses.push(status(client, server, &name, info.extraction_version).await?);
    }
    if json {
        output::print_json(&statuses.iter().map(status_json).collect::<Value>())?;
        return Ok(EXIT_OK);
    }
    if statuses.is_empty() {
        output::line("no collections")?;
    }
    for status in &statuses {
        print(status, args.outdated)?;
    }
    Ok(EXIT_OK)
}

async fn all(client: &Client) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListCollectionsRequest { page_size: 1000, page_token };
        let response = client.collections().list_collections(request).await?.into_inner();
        names.extend(response.collections.into_iter().map(|collection| collection.name));
        if response.next_page_token.is_empty() {
            return Ok(names);
        }
        page_token = response.next_page_token;
    }
}

async fn status(client: &Client, server: &str, name: &str, version: u32) -> Result<Status> {
    let request = GetCollectionRequest { name: name.to_owned() };
    let collection =
        client.collections().get_collection(request).await?.into_inner().collection.unwrap_or_default();
    let listing = documents::list(client, name, None, 0).await?;
    let mut kinds = BTreeMap::new();
    let mut outdated = Vec::new();
    for document in listing.documents {
        *kinds.entry(kind(&document)).or_default() += 1;
        // A server that does not tell its version is older than that.
        if version > 0 && document.extraction_version < version {
            outdated.push(document.id);
        }
    }
    Ok(Status {
        collection: name.to_owned(),
        documents: collection.document_count,
        passages: collection.passage_count,
        kinds,
        outdated,
        damaged: listing.damaged.len(),
        failures: failures::load(server, name),
    })
}

fn kind(document: &Document) -> String {
    match document.metadata.get("extension").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(extension)) if !extension.is_empty() => format!(".{extension}"),
        _ => document.mime_type.clone(),
    }
}

fn status_json(status: &Status) -> Value {
    let failures = status
        .failures
        .iter()
        .map(|(id, failure)| json!({"id": id, "reason": failure.reason, "time": time(failure.time)}));
    json!({"collection": status.collection, "documents": status.documents, "passages": status.passages,
        "kinds": status.kinds, "outdated": status.outdated, "damaged": status.damaged,
        "failures": failures.collect::<Value>()})
}

fn time(seconds: i64) -> String {
    output::timestamp(&prost_types::Timestamp { seconds, nanos: 0 })
}

fn print(status: &Status, names_outdated: bool) -> Result<()> {
    let counts = format!("{} documents, {} passages", status.documents, status.passages);
    output::line(output::bold(&status.collection).plain(format!(": {counts}")))?;
    if !status.kinds.is_empty() {
        let mut kinds: Vec<_> = status.kinds.iter().collect();
        kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), kind.as_str()));
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        output::line(format!("  in the index: {}", kinds.join(", ")))?;
    }
    if status.damaged > 0 {
        output::line(format!("  damaged: {} documents; trove doctor tells more", status.damaged))?;
    }
    if !status.outdated.is_empty() {
        let hint = "trove index --refresh reads their files again";
        output::line(format!(
            "  outdated: {} documents, which an older version read; {hint}",
            status.outdated.len()
        ))?;
        for id in status.outdated.iter().filter(|_| names_outdated) {
            output::line(format!("    {id}"))?;
        }
    }
    if !status.failures.is_empty() {
        output::line(format!(
            "  not in the index, as runs on this machine found: {}",
            status.failures.len()
        ))?;
        for (id, failure) in &status.failures {
            output::line(format!("    {id}: {} ({})", failure.reason, time(failure.time)))?;
        }
    }
    Ok(())
}
