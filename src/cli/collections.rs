//! `trove collections`.

use anyhow::Result;
use clap::{Args, Subcommand};
use prost_types::FieldMask;
use serde_json::{Value, json};

use super::client::Client;
use super::failure::Usage;
use super::{EXIT_OK, damage, output};
use crate::proto::{
    Collection, CompactCollectionRequest, CreateCollectionRequest, DeleteCollectionRequest,
    GetCollectionRequest, ListCollectionsRequest, UpdateCollectionRequest,
};

/// Commands on collections.
#[derive(Debug, Clone, Subcommand)]
pub enum CollectionsCommand {
    /// List all collections.
    List,
    /// Show one collection.
    Show {
        /// Name.
        name: String,
    },
    /// Create a collection.
    Create {
        /// Name.
        name: String,
        /// Encoder; the server's default if left out.
        #[arg(long, default_value = "")]
        model: String,
        /// Give sentences an index of their own; about five times the points.
        #[arg(long)]
        index_sentences: bool,
        /// What can be changed later.
        #[command(flatten)]
        settings: CollectionSettings,
    },
    /// Change the settings of a collection; those left out stay.
    Update {
        /// Name.
        name: String,
        /// The new settings.
        #[command(flatten)]
        settings: CollectionSettings,
    },
    /// Delete a collection.
    Delete {
        /// Name.
        name: String,
        /// Delete even if it has documents.
        #[arg(long)]
        force: bool,
    },
    /// Drop deleted points and give their space back.
    Compact {
        /// Name.
        name: String,
    },
}

/// Settings of a collection.
#[derive(Debug, Clone, Default, Args)]
pub struct CollectionSettings {
    /// Text for people.
    #[arg(long)]
    pub description: Option<String>,
    /// Language of the documents: which endings and common words a search by words leaves out; `auto`, as at
    /// first, for that of each document, `none` for none. A change makes the keyword index anew.
    #[arg(long)]
    pub language: Option<String>,
    /// Most tokens of a passage; at first as many as the encoder takes. A change counts for documents written after it.
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// Tokens that neighbouring passages share; none at first.
    #[arg(long, value_name = "N")]
    pub overlap_tokens: Option<u32>,
    /// Candidates in the graph of a search that does not say how many.
    #[arg(long, value_name = "N")]
    pub ef_search: Option<u32>,
}

impl CollectionSettings {
    /// Puts those that are set into a collection; tells which fields these are.
    fn put(self, collection: &mut Collection) -> Vec<String> {
        let mut fields = Vec::new();
        if let Some(description) = self.description {
            collection.description = description;
            fields.push("description".to_owned());
        }
        if let Some(language) = self.language {
            collection.language = language;
            fields.push("language".to_owned());
        }
        if self.max_tokens.is_some() || self.overlap_tokens.is_some() {
            let chunking = collection.chunking.get_or_insert_default();
            chunking.max_tokens = self.max_tokens.unwrap_or(chunking.max_tokens);
            chunking.overlap_tokens = self.overlap_tokens.unwrap_or(chunking.overlap_tokens);
            fields.push("chunking".to_owned());
        }
        if let Some(ef_search) = self.ef_search {
            collection.hnsw.get_or_insert_default().ef_search = ef_search;
            fields.push("hnsw.ef_search".to_owned());
        }
        fields
    }
}

/// Runs a command on collections.
pub async fn run(client: &Client, json: bool, command: CollectionsCommand) -> Result<i32> {
    let mut service = client.collections();
    match command {
        CollectionsCommand::List => list(client, json).await,
        CollectionsCommand::Show { name } => {
            let response = service.get_collection(GetCollectionRequest { name }).await?.into_inner();
            show(json, &response.collection.unwrap_or_default())
        }
        CollectionsCommand::Create { name, model, index_sentences, settings } => {
            let mut collection = Collection { name, model, index_sentences, ..Default::default() };
            settings.put(&mut collection);
            let request = CreateCollectionRequest { collection: Some(collection) };
            let response = service.create_collection(request).await?.into_inner();
            show(json, &response.collection.unwrap_or_default())
        }
        CollectionsCommand::Update { name, settings } => {
            // With its etag, so that a change by somebody else in between is not undone.
            let response = service.get_collection(GetCollectionRequest { name }).await?.into_inner();
            let mut collection = response.collection.unwrap_or_default();
            let paths = settings.put(&mut collection);
            if paths.is_empty() {
                let message = "expected a setting to change, such as --language german, got none";
                return Err(Usage(message.to_owned()).into());
            }
            let update_mask = Some(FieldMask { paths });
            let request = UpdateCollectionRequest { collection: Some(collection), update_mask };
            let response = service.update_collection(request).await?.into_inner();
            show(json, &response.collection.unwrap_or_default())
        }
        CollectionsCommand::Delete { name, force } => {
            let request = DeleteCollectionRequest { name: name.clone(), etag: String::new(), force };
            service.delete_collection(request).await?;
            say(json, &json!({"deleted": name}), &format!("deleted collection {name}"))
        }
        CollectionsCommand::Compact { name } => {
            let request = CompactCollectionRequest { name: name.clone() };
            let dropped = service.compact_collection(request).await?.into_inner().dropped_count;
            say(
                json,
                &json!({"compacted": name, "dropped_count": dropped}),
                &format!("dropped {dropped} points from {name}"),
            )
        }
    }
}

fn say(json: bool, value: &Value, text: &str) -> Result<i32> {
    if json {
        output::print_json(value)?;
    } else {
        output::line(text)?;
    }
    Ok(EXIT_OK)
}

async fn list(client: &Client, json: bool) -> Result<i32> {
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    let mut page_token = String::new();
    loop {
        let request = ListCollectionsRequest { page_size: 1000, page_token };
        let response = client.collections().list_collections(request).await?.into_inner();
        all.extend(response.collections);
        damaged.extend(response.damaged);
        if response.next_page_token.is_empty() {
            break;
        }
        page_token = response.next_page_token;
    }
    let code = damage::collections(&damaged, "not listed");
    if json {
        output::print_json(&all.iter().map(collection_json).collect::<Value>())?;
        return Ok(code);
    }
    if all.is_empty() && damaged.is_empty() {
        output::line("no collections; `trove index PATH` makes one")?;
        return Ok(code);
    }
    let rows = all
        .into_iter()
        .map(|c| {
            [
                c.name,
                c.document_count.to_string(),
                c.passage_count.to_string(),
                c.tombstone_count.to_string(),
                short_model(&c.model),
                output::short_timestamp(c.update_time.as_ref()),
            ]
        })
        .collect();
    output::print_table(["name", "documents", "passages", "tombstones", "model", "updated"], rows)?;
    Ok(code)
}

/// A model's id with the first digits of its revision, which is a long hash.
fn short_model(model: &str) -> String {
    match model.split_once('@') {
        Some((id, revision)) if revision.len() > 12 => {
            format!("{id}@{}", &revision[..revision.floor_char_boundary(12)])
        }
        _ => model.to_owned(),
    }
}

fn show(json: bool, collection: &Collection) -> Result<i32> {
    let value = collection_json(collection);
    if json {
        output::print_json(&value)?;
        return Ok(EXIT_OK);
    }
    let settings = |map: &Value| {
        let Some(map) = map.as_object() else { return String::new() };
        map.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    };
    output::print_fields(&[
        ("name", collection.name.clone()),
        ("description", collection.description.clone()),
        ("documents", collection.document_count.to_string()),
        ("passages", collection.passage_count.to_string()),
        ("tombstones", collection.tombstone_count.to_string()),
        ("model", collection.model.clone()),
        ("dimensions", collection.dimensions.to_string()),
        ("index", settings(&value["hnsw"])),
        ("chunking", settings(&value["chunking"])),
        ("language", collection.language.clone()),
        ("sentences indexed", collection.index_sentences.to_string()),
        ("created", output::short_timestamp(collection.create_time.as_ref())),
        ("updated", output::short_timestamp(collection.update_time.as_ref())),
        ("etag", collection.etag.clone()),
    ])?;
    Ok(EXIT_OK)
}

fn collection_json(c: &Collection) -> Value {
    let hnsw = c
        .hnsw
        .as_ref()
        .map(|h| json!({"m": h.m, "ef_construction": h.ef_construction, "ef_search": h.ef_search}));
    let chunking =
        c.chunking.as_ref().map(|k| json!({"max_tokens": k.max_tokens, "overlap_tokens": k.overlap_tokens}));
    json!({"name": c.name, "description": c.description, "model": c.model, "dimensions": c.dimensions,
        "hnsw": hnsw, "chunking": chunking, "document_count": c.document_count, "passage_count": c.passage_count,
        "tombstone_count": c.tombstone_count, "index_sentences": c.index_sentences, "language": c.language, "etag": c.etag,
        "create_time": c.create_time.as_ref().map(output::timestamp),
        "update_time": c.update_time.as_ref().map(output::timestamp)})
}
