//! What the benches ask of a server.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::document_service_client::DocumentServiceClient;

use super::corpus::Record;
use super::process;

/// How long the index must be at rest to count as settled.
const REST: Duration = Duration::from_secs(3);

/// Makes a collection, or finds the one that is there; gives its number of documents and passages.
pub async fn collection(channel: &Channel, name: &str) -> Result<(i64, i64), tonic::Status> {
    let mut client = CollectionServiceClient::new(channel.clone());
    let request = proto::GetCollectionRequest { name: name.to_owned() };
    match client.get_collection(request).await {
        Ok(response) => {
            let collection = response.into_inner().collection.unwrap_or_default();
            Ok((collection.document_count, collection.passage_count))
        }
        Err(status) if status.code() == tonic::Code::NotFound => {
            let collection = proto::Collection { name: name.to_owned(), ..Default::default() };
            let request = proto::CreateCollectionRequest { collection: Some(collection) };
            client.create_collection(request).await?;
            Ok((0, 0))
        }
        Err(status) => Err(status),
    }
}

/// The titles of a collection's documents by their ids.
pub async fn titles(channel: &Channel, name: &str) -> Result<BTreeMap<String, String>, tonic::Status> {
    let mut client = DocumentServiceClient::new(channel.clone());
    let mut titles = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = proto::ListDocumentsRequest {
            collection: name.to_owned(),
            page_size: 500,
            page_token,
            ..Default::default()
        };
        let page = client.list_documents(request).await?.into_inner();
        titles.extend(page.documents.into_iter().map(|document| (document.id, document.title)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(titles);
        }
    }
}

/// Ingests records over one stream; gives the number of passages made.
pub async fn ingest(
    channel: &Channel,
    name: &str,
    records: Vec<Record>,
) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    use proto::ingest_documents_request::Part;
    use proto::ingest_documents_response::Event;
    let start = proto::IngestStart { collection: name.to_owned(), force: false };
    let documents = records.into_iter().map(|record| {
        Part::Document(proto::Document {
            id: record.id,
            title: record.title,
            content: Some(proto::document::Content::Text(record.text)),
            ..Default::default()
        })
    });
    let parts: Vec<_> = std::iter::once(Part::Start(start)).chain(documents).collect();
    let messages = parts.into_iter().map(|part| proto::IngestDocumentsRequest { part: Some(part) });
    let mut responses = DocumentServiceClient::new(channel.clone())
        .ingest_documents(futures::stream::iter(messages))
        .await?
        .into_inner();
    let mut passages = 0;
    while let Some(response) = responses.next().await.transpose()? {
        let Some(Event::Result(result)) = response.event else { continue };
        if result.error_code != 0 {
            return Err(format!("{}: {}", result.document_id, result.error_message).into());
        }
        passages += u64::from(result.passage_count);
    }
    Ok(passages)
}

/// Writes the vectors of a collection's passages as little-endian f32, in the order of their documents, equal ones once;
/// gives their number.
pub async fn write_vectors(
    channel: &Channel,
    name: &str,
    path: &Path,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    use proto::export_documents_response::Part;
    let mut file = BufWriter::new(File::create(path)?);
    let request = proto::ExportDocumentsRequest { collection: name.to_owned(), filter: None };
    let client = DocumentServiceClient::new(channel.clone());
    let mut parts = client.max_decoding_message_size(64 << 20).export_documents(request).await?.into_inner();
    let mut seen = HashSet::new();
    while let Some(response) = parts.next().await.transpose()? {
        let Some(Part::Passages(passages)) = response.part else { continue };
        for vector in passages.passages.into_iter().filter_map(|passage| passage.vector) {
            let bytes: Vec<u8> = vector.values.into_iter().flat_map(f32::to_le_bytes).collect();
            if seen.insert(hash(&bytes)) {
                file.write_all(&bytes)?;
            }
        }
    }
    file.flush()?;
    Ok(seen.len())
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Waits until a server's indexes, of vectors and of keywords, have been at rest for a moment, and so has the store, which
/// they wait for when they write; gives the time until they came to it.
pub async fn settle(pid: u32) -> Duration {
    let busy = || {
        let stages = process::by_stage(&process::cpu_by_thread(pid));
        ["index", "keywords", "store"].iter().filter_map(|stage| stages.get(stage)).sum::<f64>()
    };
    let began = Instant::now();
    loop {
        let (before, since) = (busy(), began.elapsed());
        tokio::time::sleep(REST).await;
        if busy() - before < 0.05 {
            return since;
        }
    }
}
