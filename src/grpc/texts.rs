//! Most bytes of the texts of requests, checked before a request is decoded.

/// An id of a model, maybe with its revision.
const MODEL: usize = 512;
/// A name of a prompt or template.
const PROMPT: usize = 256;
/// An id of a document: [`crate::domain::DocumentId`] allows no longer ones.
const DOCUMENT_ID: usize = 512;
/// A token that names the last item of a page.
const PAGE_TOKEN: usize = 2 << 10;
/// What changes with each change of a collection.
const ETAG: usize = 256;
/// A name of a language or a field.
const WORD: usize = 256;

/// Fields by their full names, and the most bytes of each.
const MOST: &[(&str, usize)] = &[
    ("google.protobuf.FieldMask.paths", WORD),
    ("trove.v1.AnswerRequest.model", MODEL),
    ("trove.v1.AnswerRequest.prompt_template", PROMPT),
    ("trove.v1.ClassifyRequest.model", MODEL),
    ("trove.v1.Collection.description", crate::domain::bounds::DESCRIPTION_BYTES),
    ("trove.v1.Collection.etag", ETAG),
    ("trove.v1.Collection.language", WORD),
    ("trove.v1.Collection.model", MODEL),
    ("trove.v1.DeleteCollectionRequest.etag", ETAG),
    ("trove.v1.DetokenizeRequest.model", MODEL),
    ("trove.v1.EmbedOptions.model", MODEL),
    ("trove.v1.EmbedOptions.prompt_name", PROMPT),
    ("trove.v1.EmbedSparseRequest.model", MODEL),
    ("trove.v1.GenerateRequest.model", MODEL),
    ("trove.v1.GetDocumentRequest.document_id", DOCUMENT_ID),
    ("trove.v1.ImportStart.model", MODEL),
    ("trove.v1.ListCollectionsRequest.page_token", PAGE_TOKEN),
    ("trove.v1.ListDocumentsRequest.page_token", PAGE_TOKEN),
    ("trove.v1.ListSnapshotsRequest.page_token", PAGE_TOKEN),
    ("trove.v1.Rerank.cross_encoder", MODEL),
    ("trove.v1.RerankRequest.model", MODEL),
    ("trove.v1.SearchQuery.document_id", DOCUMENT_ID),
    ("trove.v1.TokenizeRequest.model", MODEL),
];

/// Most bytes of a field that is bounded for itself.
pub(super) fn most(field: &str) -> Option<usize> {
    MOST.iter().find(|(name, _)| *name == field).map(|(_, most)| *most)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;
    use prost_types::field_descriptor_proto::Type;

    use super::*;
    use crate::proto::FILE_DESCRIPTOR_SET;

    /// Fields whose bound is checked by what reads them, with a reason of its own.
    const ELSEWHERE: &[&str] = &[
        // domain::CollectionName and store::SnapshotName.
        "CreateSnapshotRequest.collections",
        "CreateSnapshotRequest.name",
        "RestoreSnapshotRequest.collections",
        "RestoreSnapshotRequest.name",
        "VerifySnapshotRequest.name",
        "DeleteSnapshotRequest.name",
        "Collection.name",
        "GetCollectionRequest.name",
        "DeleteCollectionRequest.name",
        "CompactCollectionRequest.name",
        "SearchRequest.collection",
        "CompareRequest.collection",
        "UpsertDocumentsRequest.collection",
        "IngestStart.collection",
        "GetDocumentRequest.collection",
        "ListDocumentsRequest.collection",
        "DeleteDocumentsRequest.collection",
        "ExportDocumentsRequest.collection",
        "ImportStart.collection",
        // Each document has a result of its own: grpc::convert::check_described, and its content by its size.
        "Document.id",
        "Document.title",
        "Document.source_uri",
        "Document.mime_type",
        "Document.text",
        "Document.data",
        "Document.content_hash",
        "Document.MetadataEntry.key",
        "MetadataValue.string_value",
        "StringList.values",
        "StoredDocument.file_title",
        "StoredDocument.FileMetadataEntry.key",
        "StoredPassage.headings",
        "IngestDocumentsRequest.data_chunk",
        "ImportDocumentsRequest.text",
        // Left out of what comes in.
        "Document.file_metadata_keys",
        "Passage.document_id",
        "Passage.text",
        "Passage.headings",
        // The bounds of filters, grpc::convert::filter_in.
        "Filter.document_id_prefix",
        "FieldCondition.key",
        "FieldCondition.prefix",
        "StringRange.gte",
        "StringRange.gt",
        "StringRange.lte",
        "StringRange.lt",
        // Texts for models: limits.max_text_bytes, the bound of queries, and that of stop strings.
        "SearchQuery.text",
        "AnswerRequest.question",
        "Message.content",
        "SamplingOptions.stop",
        "TokenizeRequest.inputs",
        "EmbedRequest.inputs",
        "EmbedSparseRequest.inputs",
        "ClassifyRequest.inputs",
        "Label.name",
        "Label.examples",
        "RerankRequest.query",
        "RerankRequest.texts",
    ];

    #[test]
    fn every_text_of_a_request_has_a_bound() {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut messages = std::collections::BTreeMap::new();
        for file in &set.file {
            for message in &file.message_type {
                let name = format!("{}.{}", file.package(), message.name());
                for nested in &message.nested_type {
                    messages.insert(format!("{name}.{}", nested.name()), nested);
                }
                messages.insert(name, message);
            }
        }
        let methods = set.file.iter().flat_map(|f| &f.service).flat_map(|service| &service.method);
        let mut open: Vec<String> =
            methods.map(|m| m.input_type().trim_start_matches('.').to_owned()).collect();
        let (mut seen, mut texts) = (BTreeSet::new(), BTreeSet::new());
        while let Some(name) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            for field in &messages[&name].field {
                match field.r#type() {
                    Type::String | Type::Bytes => drop(texts.insert(format!("{name}.{}", field.name()))),
                    Type::Message => open.push(field.type_name().trim_start_matches('.').to_owned()),
                    _ => {}
                }
            }
        }
        let elsewhere = ELSEWHERE.iter().map(|field| format!("trove.v1.{field}"));
        let own = MOST.iter().map(|(field, _)| (*field).to_owned());
        let bounded: BTreeSet<String> = own.chain(elsewhere).collect();
        assert_eq!(texts, bounded);
        assert_eq!(bounded.len(), MOST.len() + ELSEWHERE.len(), "a field is bounded twice");
    }
}
