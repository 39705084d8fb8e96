use super::Scope;
use Reach::{Everything, Named, Nothing};
use Scope::{Admin, Read, Write};

/// Which collections a method reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// None.
    Nothing,
    /// Those that its request names, each of which the service checks, or a list that the service cuts.
    Named,
    /// All of them, so that a key that is limited to some may not call it.
    Everything,
}

/// What a caller needs for a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Path of the call: `/package.Service/Method`.
    pub path: &'static str,
    /// Least scope of the key.
    pub scope: Scope,
    /// Which collections it reaches.
    pub reach: Reach,
    /// Whether the caller may send messages without end.
    pub is_stream: bool,
}

const fn unary(path: &'static str, scope: Scope, reach: Reach) -> Method {
    Method { path, scope, reach, is_stream: false }
}

const fn stream(path: &'static str, scope: Scope, reach: Reach) -> Method {
    Method { path, scope, reach, is_stream: true }
}

/// Every method but those of health, which is open to all. A method that is not here is refused once there is a key.
pub const METHODS: &[Method] = &[
    stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Read, Nothing),
    unary("/trove.v1.AdminService/CreateSnapshot", Admin, Everything),
    unary("/trove.v1.AdminService/DeleteSnapshot", Admin, Everything),
    unary("/trove.v1.AdminService/GetServerInfo", Read, Nothing),
    unary("/trove.v1.AdminService/ListSnapshots", Admin, Everything),
    unary("/trove.v1.AdminService/RestoreSnapshot", Admin, Everything),
    unary("/trove.v1.AdminService/VerifySnapshot", Admin, Everything),
    unary("/trove.v1.AnswerService/Answer", Read, Named),
    unary("/trove.v1.AnswerService/Generate", Read, Nothing),
    unary("/trove.v1.CollectionService/CompactCollection", Admin, Everything),
    unary("/trove.v1.CollectionService/CreateCollection", Admin, Named),
    unary("/trove.v1.CollectionService/DeleteCollection", Admin, Named),
    unary("/trove.v1.CollectionService/GetCollection", Read, Named),
    unary("/trove.v1.CollectionService/ListCollections", Read, Named),
    unary("/trove.v1.CollectionService/UpdateCollection", Admin, Named),
    unary("/trove.v1.DocumentService/DeleteDocuments", Write, Named),
    unary("/trove.v1.DocumentService/ExportDocuments", Read, Named),
    unary("/trove.v1.DocumentService/GetDocument", Read, Named),
    stream("/trove.v1.DocumentService/ImportDocuments", Write, Named),
    stream("/trove.v1.DocumentService/IngestDocuments", Write, Named),
    unary("/trove.v1.DocumentService/ListDocuments", Read, Named),
    unary("/trove.v1.DocumentService/UpsertDocuments", Write, Named),
    unary("/trove.v1.EmbeddingService/Classify", Read, Nothing),
    unary("/trove.v1.EmbeddingService/Detokenize", Read, Nothing),
    unary("/trove.v1.EmbeddingService/Embed", Read, Nothing),
    unary("/trove.v1.EmbeddingService/EmbedSparse", Read, Nothing),
    stream("/trove.v1.EmbeddingService/EmbedStream", Read, Nothing),
    unary("/trove.v1.EmbeddingService/Rerank", Read, Nothing),
    unary("/trove.v1.EmbeddingService/Tokenize", Read, Nothing),
    unary("/trove.v1.SearchService/BatchSearch", Read, Named),
    unary("/trove.v1.SearchService/Compare", Read, Named),
    unary("/trove.v1.SearchService/Search", Read, Named),
];

/// The entry of a path.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}
