//! The page, built from `web/` and kept in the program.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use include_dir::{Dir, include_dir};
use tonic::body::Body;

use crate::failure::bytes_response;

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../web/dist");

/// What a browser may load: what the server itself sends, and nothing that stands in the page's text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files by their paths below `/ui/`.
pub(crate) struct Page {
    files: HashMap<&'static str, File>,
}

struct File {
    bytes: &'static [u8],
    etag: HeaderValue,
}

impl Page {
    pub fn new() -> Self {
        let file = |file: &'static include_dir::File<'static>| {
            let bytes = file.contents();
            let hash = blake3::hash(bytes).to_hex();
            let etag = format!("\"{}\"", hash.get(..16).unwrap_or_default());
            let etag = HeaderValue::from_str(&etag).unwrap_or_else(|_| HeaderValue::from_static("\"0\""));
            Some((file.path().to_str()?, File { bytes, etag }))
        };
        Self { files: FILES.files().filter_map(file).collect() }
    }

    /// A file; the page itself for every other path, which the page reads.
    pub fn get(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let name = if self.files.contains_key(path) { path } else { "index.html" };
        // The page names its files beside itself, so that it has no deeper addresses.
        let Some(file) = self.files.get(name).filter(|_| !path.contains('/')) else {
            return crate::failure::Failure::new(
                StatusCode::NOT_FOUND,
                "NO_PAGE",
                "this program has no page",
            )
            .response();
        };
        let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == file.etag);
        let (status, bytes) = match is_known {
            true => (StatusCode::NOT_MODIFIED, Bytes::new()),
            false => (StatusCode::OK, Bytes::from_static(file.bytes)),
        };
        let mut response = bytes_response(status, media_type(name), bytes);
        let headers = response.headers_mut();
        headers.insert(header::ETAG, file.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
