//! The hub's HTTP interface: what a repository holds, and the bytes of a file from a place on.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::variable;
use crate::error::{Error, ErrorKind, Result};

/// The hub that is asked unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that gives nothing for so long is taken for broken.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Times that a question is asked, where the answer may be another one the next time.
const ATTEMPTS: u32 = 3;
/// Before the second of them; twice as long before each of the next.
const PAUSE: Duration = Duration::from_millis(300);

/// A hub and who asks it.
pub(super) struct Hub {
    client: Client,
    /// For what is answered by a redirect, which tells of the file that it leads to.
    direct: Client,
    endpoint: Url,
    token: Option<String>,
}

/// A repository of models.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repository<'a> {
    pub owner: &'a str,
    pub name: &'a str,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub size: Option<u64>,
    /// SHA-256, which the hub tells of large files alone.
    pub sha256: Option<String>,
    /// What the hub knows the contents by: that SHA-256, or git's name for them.
    pub id: Option<String>,
}

/// A repository at a revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub commit: String,
    pub entries: Vec<Entry>,
}

/// A file's bytes as they come.
pub(super) struct Bytes {
    response: Response,
    /// Where in the file they begin: at its start where the hub sends no part of one.
    pub from: u64,
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// As the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, and the
    /// proxies' variables.
    ///
    /// # Errors
    /// `HUB_UNREACHABLE`.
    pub fn from_environment() -> Result<Self> {
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let bad = |e: String| {
            Error::invalid(
                "BAD_ENDPOINT",
                format!("HF_ENDPOINT: expected an http URL, got {endpoint:?}: {e}"),
            )
        };
        let url = Url::parse(&endpoint).map_err(|e| bad(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(bad("it is of another kind".to_owned()));
        }
        let builder = || {
            Client::builder()
                .user_agent(concat!("trove/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
        };
        // A renamed repository is told by a redirect within the hub.
        let within = reqwest::redirect::Policy::custom(|attempt| {
            let is_within =
                attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
            if is_within && attempt.previous().len() < 5 { attempt.follow() } else { attempt.stop() }
        });
        let failed = |e| unreachable("the hub", &e);
        Ok(Self {
            client: builder().build().map_err(failed)?,
            direct: builder().redirect(within).build().map_err(failed)?,
            endpoint: url,
            token: token(),
        })
    }

    /// What a repository holds at a revision, with what the hub says of each file.
    ///
    /// # Errors
    /// `UNKNOWN_REPOSITORY`, `HUB_REFUSED`, `HUB_UNREACHABLE`.
    pub async fn list(&self, repository: Repository<'_>, revision: &str) -> Result<Listing> {
        let Repository { owner, name } = repository;
        let mut url = self.url(&["api", "models", owner, name, "revision", revision])?;
        url.set_query(Some("blobs=true"));
        let what = repository.to_string();
        let response = self.ask(&what, || self.client.get(url.clone())).await?;
        let response = judged(response, &what, || {
            Error::not_found(
                "UNKNOWN_REPOSITORY",
                format!("the hub has no model {what} of revision {revision}"),
            )
        })?;
        let info: Info = response.json().await.map_err(|e| unreachable(&what, &e))?;
        let entry = |sibling: Sibling| {
            let Sibling { rfilename, size, blob_id, lfs } = sibling;
            let sha256 = lfs.as_ref().and_then(|lfs| lfs.sha256.clone()).filter(|hash| is_sha256(hash));
            let size = lfs.and_then(|lfs| lfs.size).or(size);
            let id = sha256.clone().or(blob_id).filter(|id| is_plain(id));
            Entry { name: rfilename, size, sha256, id }
        };
        let commit = info.sha.filter(|sha| is_plain(sha)).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "HUB_UNREACHABLE", format!("{what}: the hub names no commit"))
        })?;
        Ok(Listing { commit, entries: info.siblings.into_iter().map(entry).collect() })
    }

    /// Asks for what the listing did not tell of a file.
    ///
    /// # Errors
    /// `MODEL_FILE_MISSING`, `HUB_REFUSED`, `HUB_UNREACHABLE`.
    pub async fn complete(&self, repository: Repository<'_>, commit: &str, entry: Entry) -> Result<Entry> {
        if entry.size.is_some() && entry.id.is_some() {
            return Ok(entry);
        }
        let url = self.file(repository, commit, &entry.name)?;
        let what = format!("{repository}/{}", entry.name);
        let response = self.ask(&what, || self.direct.head(url.clone())).await?;
        let response = judged(response, &what, || missing(&what))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        // Of the file that a redirect leads to, where it is one.
        let tag = header("x-linked-etag")
            .or_else(|| header("etag"))
            .map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        let size =
            header("x-linked-size").or_else(|| header("content-length")).and_then(|size| size.parse().ok());
        let sha256 = entry.sha256.or_else(|| tag.filter(|tag| is_sha256(tag)).map(str::to_owned));
        let id = entry.id.or_else(|| tag.filter(|tag| is_plain(tag)).map(str::to_owned));
        Ok(Entry { size: entry.size.or(size), sha256, id, name: entry.name })
    }

    /// A file from a place on; from its start where the hub sends no part of it.
    ///
    /// # Errors
    /// `MODEL_FILE_MISSING`, `HUB_REFUSED`, `HUB_UNREACHABLE`.
    pub async fn open(
        &self,
        repository: Repository<'_>,
        commit: &str,
        name: &str,
        from: u64,
    ) -> Result<Bytes> {
        let url = self.file(repository, commit, name)?;
        let what = format!("{repository}/{name}");
        let request = || {
            let request = self.client.get(url.clone());
            if from == 0 { request } else { request.header(RANGE, format!("bytes={from}-")) }
        };
        let response = judged(self.ask(&what, request).await?, &what, || missing(&what))?;
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        let from = if response.status() == StatusCode::PARTIAL_CONTENT { start.unwrap_or(from) } else { 0 };
        Ok(Bytes { response, from })
    }

    fn file(&self, repository: Repository<'_>, commit: &str, name: &str) -> Result<Url> {
        let place = [repository.owner, repository.name, "resolve", commit];
        self.url(&place.into_iter().chain(name.split('/')).collect::<Vec<_>>())
    }

    fn url(&self, parts: &[&str]) -> Result<Url> {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| {
                Error::invalid("BAD_ENDPOINT", format!("expected an http URL, got {}", self.endpoint))
            })?
            .pop_if_empty()
            .extend(parts);
        Ok(url)
    }

    /// Sends a request, and again where that may help.
    async fn ask(&self, what: &str, request: impl Fn() -> reqwest::RequestBuilder) -> Result<Response> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let mut request = request();
            if let Some(token) = &self.token {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            match request.send().await {
                Ok(response) if attempt == ATTEMPTS || !is_passing(response.status()) => return Ok(response),
                Err(error) if attempt == ATTEMPTS || error.is_builder() => {
                    return Err(unreachable(what, &error));
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        Err(Error::internal("HUB_UNREACHABLE", "no attempt was made"))
    }
}

impl Bytes {
    /// What comes next; nothing at the end.
    ///
    /// # Errors
    /// `HUB_UNREACHABLE` where the connection breaks.
    pub async fn next(&mut self, what: &str) -> Result<Option<bytes::Bytes>> {
        self.response.chunk().await.map_err(|e| unreachable(what, &e))
    }
}

impl std::fmt::Display for Repository<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// The answer, unless it is a refusal.
fn judged(response: Response, what: &str, unknown: impl FnOnce() -> Error) -> Result<Response> {
    let status = response.status();
    let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
    match status {
        _ if status.is_success() || status.is_redirection() => Ok(response),
        StatusCode::NOT_FOUND => Err(unknown()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::precondition(
            "HUB_REFUSED",
            format!(
                "the hub refuses {what} ({status} {code}): it may need a token in HF_TOKEN, or not exist"
            ),
        )),
        _ => Err(Error::new(
            ErrorKind::Unavailable,
            "HUB_UNREACHABLE",
            format!("{what} was not fetched: the hub answers {status}"),
        )),
    }
}

fn missing(what: &str) -> Error {
    Error::not_found("MODEL_FILE_MISSING", format!("expected the file {what} on the hub, got none"))
}

/// Whether the same request may be answered otherwise soon.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

fn unreachable(what: &str, error: &reqwest::Error) -> Error {
    // The innermost cause tells what happened; the address may hold a signature.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Error::new(ErrorKind::Unavailable, "HUB_UNREACHABLE", format!("{what} was not fetched: {cause}"))
}

/// Whether a text is a SHA-256 in hexadecimal.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a text can be a file's name.
fn is_plain(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn token() -> Option<String> {
    let is_off = variable("HF_HUB_DISABLE_IMPLICIT_TOKEN")
        .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()));
    if is_off {
        return None;
    }
    let path =
        || variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| Some(super::cache::home()?.join("token")));
    let file = || std::fs::read_to_string(path()?).ok();
    variable("HF_TOKEN").or_else(file).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}
