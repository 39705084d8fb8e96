//! `trove documents`.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};
use tonic::Code;

use super::client::Client;
use super::index::stdin::{self, StdinArgs};
use super::output::Text;
use super::tokenize::span_text;
use super::{EXIT_FAILED, EXIT_OK, damage, filter, output};
use crate::proto::document::Content;
use crate::proto::{
    DamagedDocument, DeleteDocumentsRequest, DeleteDocumentsResponse, Document, DocumentView, Filter,
    GetDocumentRequest, ListDocumentsRequest, Passage,
};

/// Commands on documents.
#[derive(Debug, Clone, Subcommand)]
pub enum DocumentsCommand {
    /// List documents.
    List {
        /// Collection.
        #[arg(long, default_value = "default")]
        collection: String,
        /// Most documents to list; zero lists all.
        #[arg(long, default_value_t = 0)]
        limit: usize,
        /// Only documents whose metadata fits (see search).
        #[arg(long = "filter", value_name = filter::VALUE_NAME)]
        filters: Vec<String>,
    },
    /// Store one document from standard input.
    Add {
        /// Collection, created if missing.
        #[arg(long, default_value = "default")]
        collection: String,
        /// What it is.
        #[command(flatten)]
        document: StdinArgs,
    },
    /// Show one document with its passages.
    Show {
        /// Document id.
        id: String,
        /// Collection.
        #[arg(long, default_value = "default")]
        collection: String,
    },
    /// Delete documents.
    Delete {
        /// Document ids.
        #[arg(required_unless_present = "filters")]
        ids: Vec<String>,
        /// Collection.
        #[arg(long, default_value = "default")]
        collection: String,
        /// Delete documents whose metadata fits (see search).
        #[arg(long = "filter", value_name = filter::VALUE_NAME, conflicts_with = "ids")]
        filters: Vec<String>,
    },
}

/// How often a listing begins, if the collection is replaced again and again.
const MOST_LISTINGS: usize = 5;
/// Columns that a title takes in a list.
const TITLE_COLUMNS: usize = 48;

/// Runs a command on documents.
pub async fn run(client: &Client, json: bool, command: DocumentsCommand) -> Result<i32> {
    match command {
        DocumentsCommand::List { collection, limit, filters } => {
            let filter = filter::parse(&filters)?;
            let Listing { documents, damaged } = list(client, &collection, filter, limit).await?;
            print_list(json, documents)?;
            Ok(damage::documents(&damaged, "is left out"))
        }
        DocumentsCommand::Add { collection, document } => {
            stdin::add(client, json, &collection, document).await
        }
        DocumentsCommand::Show { id, collection } => {
            let request = GetDocumentRequest { collection, document_id: id, view: DocumentView::Full.into() };
            let response = client.documents().get_document(request).await?.into_inner();
            show(json, &response.document.unwrap_or_default())
        }
        DocumentsCommand::Delete { ids, collection, filters } => {
            let filter = match filter::parse(&filters)? {
                Some(filter) => filter,
                None => output::ids_filter(ids),
            };
            let DeleteDocumentsResponse { deleted_count: deleted, damaged } =
                delete(client, &collection, filter).await?;
            if json {
                output::print_json(&json!({"deleted_count": deleted}))?;
            } else {
                output::line(format!("deleted {deleted} documents"))?;
            }
            let code = damage::documents(&damaged, "was not deleted");
            Ok(if deleted > 0 { code } else { EXIT_FAILED })
        }
    }
}

/// The documents of a collection.
#[derive(Default)]
pub struct Listing {
    /// Those that can be read.
    pub documents: Vec<Document>,
    /// The others.
    pub damaged: Vec<DamagedDocument>,
}

/// Lists documents without text; a limit of zero lists all. Begins again if the collection is replaced meanwhile.
pub async fn list(
    client: &Client,
    collection: &str,
    filter: Option<Filter>,
    limit: usize,
) -> Result<Listing> {
    let mut tries = MOST_LISTINGS;
    loop {
        tries -= 1;
        match list_once(client, collection, filter.clone(), limit).await {
            Err(status) if tries > 0 && status.code() == Code::Aborted => {}
            listed => return Ok(listed?),
        }
    }
}

async fn list_once(
    client: &Client,
    collection: &str,
    filter: Option<Filter>,
    limit: usize,
) -> Result<Listing, tonic::Status> {
    let mut all = Listing::default();
    let mut page_token = String::new();
    loop {
        let request = ListDocumentsRequest {
            collection: collection.to_owned(),
            page_size: 1000,
            page_token,
            filter: filter.clone(),
            view: DocumentView::Basic.into(),
        };
        let response = client.documents().list_documents(request).await?.into_inner();
        all.documents.extend(response.documents);
        all.damaged.extend(response.damaged);
        if limit > 0 && all.documents.len() >= limit {
            all.documents.truncate(limit);
            return Ok(all);
        }
        if response.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = response.next_page_token;
    }
}

/// Deletes what a filter matches and tells how many.
pub async fn delete(client: &Client, collection: &str, filter: Filter) -> Result<DeleteDocumentsResponse> {
    let request = DeleteDocumentsRequest { collection: collection.to_owned(), filter: Some(filter) };
    Ok(client.documents().delete_documents(request).await?.into_inner())
}

fn print_list(json: bool, documents: Vec<Document>) -> Result<i32> {
    if json {
        output::print_json(&documents.iter().map(document_json).collect::<Value>())?;
        return Ok(EXIT_OK);
    }
    if documents.is_empty() {
        output::line("no documents")?;
        return Ok(EXIT_OK);
    }
    let rows = documents
        .into_iter()
        .map(|d| {
            let updated = output::short_timestamp(d.update_time.as_ref());
            [d.id, output::shorten(&d.title, TITLE_COLUMNS), short_type(&d.mime_type).to_owned(), updated]
        })
        .collect();
    output::print_table(["id", "title", "type", "updated"], rows)?;
    Ok(EXIT_OK)
}

/// A media type without what every such name has in common.
fn short_type(media_type: &str) -> &str {
    match media_type.rsplit_once('.') {
        Some((_, "document")) => "docx",
        _ => media_type.rsplit('/').next().unwrap_or_default(),
    }
}

fn show(json: bool, document: &Document) -> Result<i32> {
    if json {
        output::print_json(&document_json(document))?;
        return Ok(EXIT_OK);
    }
    output::print_fields(&[
        ("id", document.id.clone()),
        ("title", document.title.clone()),
        ("type", document.mime_type.clone()),
        ("source", document.source_uri.clone()),
        ("hash", document.content_hash.clone()),
        ("metadata", output::metadata_map_json(&document.metadata).to_string()),
        ("created", output::short_timestamp(document.create_time.as_ref())),
        ("updated", output::short_timestamp(document.update_time.as_ref())),
        ("passages", document.passages.len().to_string()),
    ])?;
    for passage in &document.passages {
        let span = passage.span.as_ref().map(span_text).unwrap_or_default();
        let page = passage.page_number.map(|page| format!("  page {page}")).unwrap_or_default();
        output::line("")?;
        let head =
            output::bold(format!("[{}]", passage.passage_index)).plain(format!("  bytes {span}{page}"));
        let headings = passage.headings.join(" > ");
        output::line(if headings.is_empty() { head } else { head.plain("  ").dim(headings) })?;
        output::line(Text::new().lines(&passage.text))?;
    }
    Ok(EXIT_OK)
}

fn document_json(d: &Document) -> Value {
    let text = match &d.content {
        Some(Content::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    json!({"id": d.id, "title": d.title, "source_uri": d.source_uri, "mime_type": d.mime_type,
        "metadata": output::metadata_map_json(&d.metadata), "content_hash": d.content_hash, "text": text,
        "passages": d.passages.iter().map(passage_json).collect::<Vec<_>>(),
        "create_time": d.create_time.as_ref().map(output::timestamp),
        "update_time": d.update_time.as_ref().map(output::timestamp)})
}

/// A passage as JSON.
pub fn passage_json(p: &Passage) -> Value {
    json!({"document_id": p.document_id, "passage_index": p.passage_index,
        "span": p.span.as_ref().map(|s| json!([s.start, s.end])), "text": p.text,
        "headings": p.headings, "page_number": p.page_number})
}
