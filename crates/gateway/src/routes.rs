//! Which path stands for which method of the API.

use http::Method;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use trove_core::error::{Error, Result};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing: the parameters say all.
    Nothing,
    /// The JSON of the request.
    Json,
    /// A line of JSON for each message of a stream.
    Lines,
    /// Files of a form.
    Files,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// One JSON object.
    Json,
    /// Server-sent events where the caller accepts them, else one object with all of them.
    Events,
    /// A line of JSON for each message.
    Lines,
}

/// One row of the table.
pub(crate) struct Route {
    pub verb: Method,
    pub path: &'static str,
    /// Service and method, such as `SearchService/Search`.
    pub method: &'static str,
    pub form: Form,
    pub reply: Reply,
    /// Which field of the request a part of the path or a parameter with a short name is.
    pub fields: &'static [(&'static str, &'static str)],
    /// What it is for.
    pub summary: &'static str,
}

macro_rules! routes {
    ($($verb:ident $path:literal $method:literal $form:ident $reply:ident [$($from:literal => $to:literal),*] $summary:literal)*) => {
        &[$(Route {
            verb: Method::$verb, path: $path, method: $method, form: Form::$form, reply: Reply::$reply,
            fields: &[$(($from, $to)),*], summary: $summary,
        }),*]
    };
}

/// All of them. A path parameter in braces is a field of the request.
pub(crate) static ROUTES: &[Route] = routes![
    GET "/api/v1/info" "AdminService/GetServerInfo" Nothing Json [] "Version, models and limits of the server"
    GET "/api/v1/collections" "CollectionService/ListCollections" Nothing Json [] "List collections"
    POST "/api/v1/collections" "CollectionService/CreateCollection" Json Json [] "Create a collection"
    GET "/api/v1/collections/{collection}" "CollectionService/GetCollection" Nothing Json ["collection" => "name"]
        "A collection with its counts"
    PATCH "/api/v1/collections/{collection}" "CollectionService/UpdateCollection" Json Json ["collection" => "collection.name"]
        "Change the settings of a collection"
    DELETE "/api/v1/collections/{collection}" "CollectionService/DeleteCollection" Nothing Json ["collection" => "name"]
        "Delete a collection; `force` deletes one with documents"
    POST "/api/v1/collections/{collection}/compact" "CollectionService/CompactCollection" Nothing Json
        ["collection" => "name"] "Merge the segments of the index"
    GET "/api/v1/collections/{collection}/documents" "DocumentService/ListDocuments" Nothing Json
        ["collection" => "collection"] "List documents"
    POST "/api/v1/collections/{collection}/documents/list" "DocumentService/ListDocuments" Json Json
        ["collection" => "collection"] "List the documents that match a filter"
    POST "/api/v1/collections/{collection}/documents" "DocumentService/UpsertDocuments" Json Json
        ["collection" => "collection"] "Put documents in; one with a known id is replaced"
    POST "/api/v1/collections/{collection}/files" "DocumentService/UpsertDocuments" Files Json
        ["collection" => "collection"] "Put files in; the name of a file is its id"
    POST "/api/v1/collections/{collection}/ingest" "DocumentService/IngestDocuments" Lines Lines
        ["collection" => "start.collection"] "Put a stream of documents in, a line of JSON each"
    POST "/api/v1/collections/{collection}/documents/delete" "DocumentService/DeleteDocuments" Json Json
        ["collection" => "collection"] "Delete the documents that match a filter"
    GET "/api/v1/collections/{collection}/documents/{document}" "DocumentService/GetDocument" Nothing Json
        ["collection" => "collection", "document" => "document_id"] "A document with its text and passages"
    DELETE "/api/v1/collections/{collection}/documents/{document}" "DocumentService/DeleteDocuments" Nothing Json
        ["collection" => "collection", "document" => "filter.document_ids.values"] "Delete a document"
    GET "/api/v1/collections/{collection}/search" "SearchService/Search" Nothing Json
        ["collection" => "collection", "q" => "query.text"] "Search by a text"
    POST "/api/v1/collections/{collection}/search" "SearchService/Search" Json Json ["collection" => "collection"]
        "Search by a text, a vector or a document"
    GET "/api/v1/collections/{collection}/export" "DocumentService/ExportDocuments" Nothing Lines
        ["collection" => "collection"] "All documents with their vectors, a line of JSON for each part"
    POST "/api/v1/collections/{collection}/import" "DocumentService/ImportDocuments" Lines Lines
        ["collection" => "start.collection"] "Put exported documents in, a line of JSON for each part"
    POST "/api/v1/collections/{collection}/answer" "AnswerService/Answer" Json Events
        ["collection" => "search.collection"] "Answer a question from a collection, with citations"
    GET "/api/v1/collections/{collection}/answer" "AnswerService/Answer" Nothing Events
        ["collection" => "search.collection", "q" => "question"] "Answer a question from a collection, with citations"
    POST "/api/v1/search/batch" "SearchService/BatchSearch" Json Json [] "Several searches at once"
    POST "/api/v1/compare" "SearchService/Compare" Json Json [] "Similarity of two queries"
    POST "/api/v1/generate" "AnswerService/Generate" Json Events [] "Write by a generator, without retrieval"
    POST "/api/v1/embed" "EmbeddingService/Embed" Json Json [] "Vectors of texts, their words, sentences or passages"
    POST "/api/v1/embed/sparse" "EmbeddingService/EmbedSparse" Json Json [] "Bags of words"
    POST "/api/v1/tokenize" "EmbeddingService/Tokenize" Json Json [] "Tokens of texts"
    POST "/api/v1/detokenize" "EmbeddingService/Detokenize" Json Json [] "Text of tokens"
    POST "/api/v1/classify" "EmbeddingService/Classify" Json Json [] "Labels of texts by their nearest examples"
    POST "/api/v1/rerank" "EmbeddingService/Rerank" Json Json [] "Score texts for a query"
    GET "/api/v1/snapshots" "AdminService/ListSnapshots" Nothing Json [] "List snapshots"
    POST "/api/v1/snapshots" "AdminService/CreateSnapshot" Json Json [] "Make a snapshot"
    DELETE "/api/v1/snapshots/{snapshot}" "AdminService/DeleteSnapshot" Nothing Json ["snapshot" => "name"]
        "Delete a snapshot"
    POST "/api/v1/snapshots/{snapshot}/verify" "AdminService/VerifySnapshot" Json Json ["snapshot" => "name"]
        "Read a snapshot and check it"
    POST "/api/v1/snapshots/{snapshot}/restore" "AdminService/RestoreSnapshot" Json Json ["snapshot" => "name"]
        "Put a snapshot back"
];

/// The method of the API that a route stands for.
pub(crate) fn method(pool: &DescriptorPool, name: &str) -> Option<MethodDescriptor> {
    let (service, method) = name.split_once('/')?;
    let service = pool.get_service_by_name(&format!("trove.v1.{service}"))?;
    service.methods().find(|found| found.name() == method)
}

/// Finds routes by verb and path.
pub(crate) struct Routes {
    paths: matchit::Router<Vec<(&'static Route, MethodDescriptor)>>,
}

/// What was found.
pub(crate) enum Found<'a> {
    Route(&'static Route, &'a MethodDescriptor, Vec<(String, String)>),
    /// The path is known with these verbs alone.
    Verbs(Vec<&'static str>),
    Nothing,
}

impl Routes {
    pub fn new(pool: &DescriptorPool) -> Result<Self> {
        let wrong = |what: String| Error::internal("BAD_DESCRIPTORS", what);
        let mut by_path: Vec<(&'static str, Vec<(&'static Route, MethodDescriptor)>)> = Vec::new();
        for route in ROUTES {
            let found =
                method(pool, route.method).ok_or_else(|| wrong(format!("no method {}", route.method)))?;
            match by_path.iter_mut().find(|(path, _)| *path == route.path) {
                Some((_, routes)) => routes.push((route, found)),
                None => by_path.push((route.path, vec![(route, found)])),
            }
        }
        let mut paths = matchit::Router::new();
        for (path, routes) in by_path {
            paths.insert(path, routes).map_err(|e| wrong(format!("{path}: {e}")))?;
        }
        Ok(Self { paths })
    }

    /// The route of a call; the parts of its path are decoded.
    pub fn find(&self, verb: &Method, path: &str) -> Found<'_> {
        let Ok(found) = self.paths.at(path) else { return Found::Nothing };
        let Some((route, method)) = found.value.iter().find(|(route, _)| route.verb == *verb) else {
            return Found::Verbs(found.value.iter().map(|(route, _)| route.verb.as_str()).collect());
        };
        let parts = found.params.iter().map(|(name, value)| (name.to_owned(), decoded(value))).collect();
        Found::Route(route, method, parts)
    }
}

/// A part of a path or a query as it was meant.
pub(crate) fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The parameters of a query, decoded, in their order.
pub(crate) fn parameters(query: Option<&str>) -> Vec<(String, String)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decoded(&text.replace('+', " "));
            (plain(name), plain(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let got = parameters(Some("q=fog+on%20the%2Bsea&&limit=3&x"));
        let expected = [("q", "fog on the+sea"), ("limit", "3"), ("x", "")];
        assert_eq!(got, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
