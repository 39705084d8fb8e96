//! Reads a whole collection as an export and as a listing.

use tonic::Status;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::export_documents_response::Part;

use crate::common::*;

/// A document as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    pub id: String,
    pub title: String,
    pub text: String,
    pub passages: usize,
}

/// The documents of an export, by id.
pub async fn export(channel: &Channel, collection: &str) -> Result<Vec<Read>, Status> {
    let request = proto::ExportDocumentsRequest { collection: collection.to_owned(), filter: None };
    let mut stream = documents(channel).export_documents(request).await?.into_inner();
    let mut read: Vec<Read> = Vec::new();
    while let Some(message) = stream.message().await? {
        match message.part.unwrap() {
            Part::Document(stored) => {
                let proto::Document { id, title, .. } = stored.document.unwrap();
                read.push(Read { id, title, ..Read::default() });
            }
            Part::Text(text) => read.last_mut().unwrap().text.push_str(&text),
            Part::Passages(part) => read.last_mut().unwrap().passages += part.passages.len(),
            _ => {}
        }
    }
    Ok(read)
}

/// The documents of all pages of a listing, by id.
pub async fn list(channel: &Channel, collection: &str, page_size: i32) -> Result<Vec<Read>, Status> {
    let (mut read, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListDocumentsRequest {
            collection: collection.to_owned(),
            page_size,
            page_token,
            view: proto::DocumentView::Full as i32,
            ..Default::default()
        };
        let page = documents(channel).list_documents(request).await?.into_inner();
        read.extend(page.documents.iter().map(|document| Read {
            id: document.id.clone(),
            title: document.title.clone(),
            text: text_of(document).to_owned(),
            passages: document.passages.len(),
        }));
        if page.next_page_token.is_empty() {
            return Ok(read);
        }
        page_token = page.next_page_token;
    }
}
