//! Who may call: keys, scopes, TLS; what must not be reached; what must not be told.

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use common::raw::{bearer, bytes, call, open, with};
use common::{NOTES, data_dir, make_key, models, program, reason, text_document};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use trove::access::{METHODS, Reach, Scope};
use trove::proto;

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

/// A server whose log goes to a file.
struct Server {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(data: &Path, settings: &[&str]) -> Self {
        let log = data.join("server.log");
        let mut command = program(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(data).args([
            "--set",
            "generator.models=none",
            "--log-filter",
            "trace,ort=warn,sled=info",
        ]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let file = std::fs::File::create(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("got {line:?}"));
        Self { child, address: address.parse().unwrap(), log }
    }

    async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        // The port is bound before the models are loaded, so that the first connection may wait.
        Endpoint::from_shared(url).unwrap().connect().await.unwrap()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < PATIENCE, "{text:?} is not in the log");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), reason(&status))
}

fn is_denied<T>(result: &Result<T, Status>) -> bool {
    result.as_ref().is_err_and(|s| matches!(s.code(), Code::PermissionDenied | Code::Unauthenticated))
}

/// Requests that name a collection, one for each method that reaches some.
fn naming(collection: &str) -> Vec<(&'static str, Vec<u8>)> {
    let name = || collection.to_owned();
    let described = || Some(proto::Collection { name: name(), ..Default::default() });
    let search = || proto::SearchRequest { collection: name(), ..common::query("x") };
    let start = proto::ingest_documents_request::Part::Start(proto::IngestStart {
        collection: name(),
        ..Default::default()
    });
    let import = proto::import_documents_request::Part::Start(proto::ImportStart {
        collection: name(),
        encode: true,
        ..Default::default()
    });
    vec![
        (
            "/trove.v1.AdminService/CreateSnapshot",
            bytes(&proto::CreateSnapshotRequest { collections: vec![name()], name: String::new() }),
        ),
        ("/trove.v1.AdminService/DeleteSnapshot", bytes(&proto::DeleteSnapshotRequest { name: name() })),
        ("/trove.v1.AdminService/ListSnapshots", bytes(&proto::ListSnapshotsRequest::default())),
        ("/trove.v1.AdminService/RestoreSnapshot", {
            bytes(&proto::RestoreSnapshotRequest { name: name(), collections: vec![name()] })
        }),
        ("/trove.v1.AdminService/VerifySnapshot", bytes(&proto::VerifySnapshotRequest { name: name() })),
        ("/trove.v1.AnswerService/Answer", {
            let question = "where?".to_owned();
            bytes(&proto::AnswerRequest { search: Some(search()), question, ..Default::default() })
        }),
        (
            "/trove.v1.CollectionService/CreateCollection",
            bytes(&proto::CreateCollectionRequest { collection: described() }),
        ),
        ("/trove.v1.CollectionService/GetCollection", bytes(&proto::GetCollectionRequest { name: name() })),
        (
            "/trove.v1.CollectionService/UpdateCollection",
            bytes(&proto::UpdateCollectionRequest { collection: described(), update_mask: None }),
        ),
        (
            "/trove.v1.CollectionService/CompactCollection",
            bytes(&proto::CompactCollectionRequest { name: name() }),
        ),
        (
            "/trove.v1.DocumentService/UpsertDocuments",
            bytes(&proto::UpsertDocumentsRequest {
                collection: name(),
                documents: vec![text_document("a", "A note.")],
                ..Default::default()
            }),
        ),
        (
            "/trove.v1.DocumentService/IngestDocuments",
            bytes(&proto::IngestDocumentsRequest { part: Some(start) }),
        ),
        (
            "/trove.v1.DocumentService/ExportDocuments",
            bytes(&proto::ExportDocumentsRequest { collection: name(), filter: None }),
        ),
        (
            "/trove.v1.DocumentService/ImportDocuments",
            bytes(&proto::ImportDocumentsRequest { part: Some(import) }),
        ),
        (
            "/trove.v1.DocumentService/GetDocument",
            bytes(&proto::GetDocumentRequest {
                collection: name(),
                document_id: "a".to_owned(),
                ..Default::default()
            }),
        ),
        (
            "/trove.v1.DocumentService/ListDocuments",
            bytes(&proto::ListDocumentsRequest { collection: name(), ..Default::default() }),
        ),
        (
            "/trove.v1.DocumentService/DeleteDocuments",
            bytes(&proto::DeleteDocumentsRequest { collection: name(), ..Default::default() }),
        ),
        ("/trove.v1.SearchService/Search", bytes(&search())),
        (
            "/trove.v1.SearchService/BatchSearch",
            bytes(&proto::BatchSearchRequest { requests: vec![search()] }),
        ),
        (
            "/trove.v1.SearchService/Compare",
            bytes(&proto::CompareRequest {
                collection: name(),
                left: common::query("x").query,
                right: common::query("y").query,
            }),
        ),
        (
            "/trove.v1.CollectionService/DeleteCollection",
            bytes(&proto::DeleteCollectionRequest { name: name(), force: true, ..Default::default() }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_decide_who_may_do_what_and_are_never_told() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path(), &[]);
    let channel = server.channel().await;
    let info = "/trove.v1.AdminService/GetServerInfo";
    assert!(call(&channel, info, vec![], &[]).await.is_ok(), "open without keys");
    let key = |name, scope, collections: &[&str]| make_key(data.path(), name, scope, collections);
    let (read, write, admin) = (key("r", "read", &[]), key("w", "write", &[]), key("a", "admin", &[]));
    let limited = key("limited", "admin", &[NOTES]);

    // Health is open, nothing else is.
    let mut health = HealthClient::new(channel.clone());
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let unknown = format!("trove_{}_{}", "0".repeat(16), "0".repeat(64));
    for method in METHODS {
        let path = method.path;
        let shown = |key: &str| [("authorization", bearer(key))];
        let (code, why) = refused(call(&channel, path, vec![], &[]).await);
        assert_eq!((code, why.as_str()), (Code::Unauthenticated, "API_KEY_MISSING"), "{path}");
        for wrong in [unknown.as_str(), "x", &read[..read.len() - 1]] {
            let [(name, value)] = shown(wrong);
            let (code, why) = refused(call(&channel, path, vec![], &[(name, &value)]).await);
            assert_eq!((code, why.as_str()), (Code::Unauthenticated, "API_KEY_INVALID"), "{path}");
        }
        for (key, scope) in [(&read, Scope::Read), (&write, Scope::Write), (&admin, Scope::Admin)] {
            let result = call(&channel, path, vec![], &[("x-api-key", key)]).await;
            assert_eq!(is_denied(&result), method.scope > scope, "{path} {scope:?} {result:?}");
            if method.scope > scope {
                assert_eq!(refused(result), (Code::PermissionDenied, "SCOPE_TOO_LOW".to_owned()));
            }
        }
    }
    let unlisted = call(&channel, "/trove.v1.SearchService/None", vec![], &[("x-api-key", &admin)]).await;
    assert_eq!(refused(unlisted).1, "METHOD_NOT_ALLOWED");

    // A key that is for one collection reaches no other one, and cannot tell whether it exists.
    let listed: Vec<_> = METHODS
        .iter()
        .filter(|m| m.reach != Reach::Nothing && !m.path.ends_with("/ListCollections"))
        .collect();
    let named = naming("other");
    assert_eq!(listed.len(), named.len(), "a method that names a collection is not tried");
    let create = "/trove.v1.CollectionService/CreateCollection";
    for exists in [false, true] {
        for (path, message) in named.clone() {
            let result = call(&channel, path, message.clone(), &[("x-api-key", &limited)]).await;
            assert_eq!(
                refused(result),
                (Code::PermissionDenied, "COLLECTION_NOT_ALLOWED".to_owned()),
                "{path}"
            );
        }
        if !exists {
            let (_, message) = named.iter().find(|(path, _)| *path == create).unwrap();
            call(&channel, create, message.clone(), &[("x-api-key", &admin)]).await.unwrap();
        }
    }
    for (path, message) in naming(NOTES) {
        let result = call(&channel, path, message, &[("x-api-key", &limited)]).await;
        let reach = METHODS.iter().find(|m| m.path == path).unwrap().reach;
        assert_eq!(is_denied(&result), reach == Reach::Everything, "{path} {result:?}");
        if path.ends_with("/UpsertDocuments") {
            let list = "/trove.v1.CollectionService/ListCollections";
            let names = async |key: &str| {
                let page = call(&channel, list, vec![], &[("x-api-key", key)]).await.unwrap();
                let page = proto::ListCollectionsResponse::decode(page.as_slice()).unwrap();
                page.collections.into_iter().map(|c| c.name).collect::<Vec<_>>()
            };
            assert_eq!(names(&limited).await, [NOTES]);
            assert_eq!(names(&admin).await, [NOTES, "other"]);
        }
    }

    // Revocation: the next call fails, and a stream ends at its next answer.
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let messages = with(messages, &[("authorization", &bearer(&read))]);
    let embed = proto::EmbedRequest { inputs: vec!["text".to_owned()], options: None };
    let embed = bytes(&proto::EmbedStreamRequest { request: Some(embed) });
    sender.send(embed.clone()).await.unwrap();
    let mut stream = open(&channel, "/trove.v1.EmbeddingService/EmbedStream", messages).await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    let output = run(&["keys", "revoke", "r", "--data-dir", data.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let result = call(&channel, info, vec![], &[("x-api-key", &read)]).await;
    assert_eq!(refused(result), (Code::Unauthenticated, "API_KEY_REVOKED".to_owned()));
    sender.send(embed).await.unwrap();
    assert_eq!(refused(stream.message().await), (Code::Unauthenticated, "API_KEY_REVOKED".to_owned()));

    // The program shows a key that is in its environment, and tells what is wrong with one.
    let url = format!("http://{}", server.address);
    let listed = |key: &str| {
        program(&["collections", "list", "--json", "--server", &url])
            .env("TROVE_API_KEY", key)
            .output()
            .unwrap()
    };
    assert!(String::from_utf8_lossy(&listed(&write).stdout).contains("other"));
    let output = listed(&read);
    assert!(String::from_utf8_lossy(&output.stderr).contains("API_KEY_REVOKED"));
    let help = program(&["info", "--help"]).env("TROVE_API_KEY", &write).output().unwrap();
    let mut told = String::from_utf8_lossy(&help.stdout).into_owned();
    told += &String::from_utf8_lossy(&output.stderr);
    let keys = run(&["keys", "list", "--json", "--data-dir", data.path().to_str().unwrap()]);
    told += &String::from_utf8_lossy(&keys.stdout);
    assert!(told.contains("limited") && told.contains("revoked"));

    // No secret is in the log, however much is logged, nor in what the program says.
    told += &server.log();
    assert!(told.contains("call admitted"), "the log is not detailed enough for this test");
    for key in [&read, &write, &admin, &limited] {
        let secret = key.rsplit('_').next().unwrap();
        assert!(!told.contains(&secret[..16]), "a secret was told");
    }
}

/// An authority with the files of a server and a client.
struct Authority {
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let signed = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        Self { ca, server: signed(&["localhost", "127.0.0.1"]), client: signed(&["client"]) }
    }

    fn client_tls(&self, with_certificate: bool) -> ClientTlsConfig {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca));
        let (certificate, key) = &self.client;
        if with_certificate { config.identity(Identity::from_pem(certificate, key)) } else { config }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked_on_both_sides_and_replaced_without_a_restart() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (first, second) = (Authority::new(), Authority::new());
    let file = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
    let install = |authority: &Authority| {
        for (path, text) in
            [(&certificate, &authority.server.0), (&key, &authority.server.1), (&ca, &authority.ca)]
        {
            std::fs::write(path, text).unwrap();
        }
    };
    install(&first);
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let settings = [
        format!("tls.certificate={certificate}"),
        format!("tls.key={key}"),
        format!("tls.client_ca={ca}"),
        format!("metrics.listen={http}"),
    ];
    let server = Server::start(data.path(), &settings.each_ref().map(String::as_str));
    let url = format!("https://localhost:{}", server.address.port());
    let info = async |endpoint: Endpoint| {
        let channel = endpoint.connect_lazy();
        call(&channel, "/trove.v1.AdminService/GetServerInfo", vec![], &[]).await
    };
    let secure = |tls| Endpoint::from_shared(url.clone()).unwrap().tls_config(tls).unwrap();
    info(secure(first.client_tls(true))).await.unwrap();
    assert!(info(secure(first.client_tls(false))).await.is_err(), "a client needs a certificate");
    assert!(info(secure(second.client_tls(true))).await.is_err(), "the server's certificate is checked");
    let plain = Endpoint::from_shared(url.replace("https", "http")).unwrap();
    assert!(info(plain).await.is_err());

    // The program as a client, with options and with what is missing.
    let (client, client_key) = (file("client.pem"), file("client.key"));
    std::fs::write(&client, &first.client.0).unwrap();
    std::fs::write(&client_key, &first.client.1).unwrap();
    let address = format!("localhost:{}", server.address.port());
    let with_ca = ["info", "--server", &address, "--tls-ca", &ca];
    let identity = ["--tls-client-certificate", &client, "--tls-client-key", &client_key];
    let output = run(&[&with_ca[..], &identity[..]].concat());
    assert!(output.status.success(), "{output:?}");
    assert!(!run(&with_ca).status.success());
    assert_eq!(run(&[&with_ca[..], &identity[..2]].concat()).status.code(), Some(2));
    let plain = ["--server", &url.replace("https", "http")];
    assert_eq!(run(&[&with_ca[..1], &plain, &with_ca[3..]].concat()).status.code(), Some(2));

    // What does not fit together changes nothing; what does holds for the next connection.
    std::fs::write(&certificate, &second.server.0).unwrap();
    server.wait_for_log("the certificates in use stay");
    info(secure(first.client_tls(true))).await.unwrap();
    install(&second);
    let started = Instant::now();
    while info(secure(second.client_tls(true))).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the new certificates are not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(info(secure(first.client_tls(true))).await.is_err());

    let mut stream = tokio::net::TcpStream::connect(&http).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut scrape = String::new();
    stream.read_to_string(&mut scrape).await.unwrap();
    let value = |name: &str| {
        let line = scrape.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default();
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(value("trove_tls_certificate_expire_time_seconds") > now);
    assert!(value("trove_tls_handshake_failures_total{reason=\"refused\"}") >= 2.0, "{scrape}");
    assert!(value("trove_tls_reloads_total{outcome=\"failed\"}") >= 1.0);
    assert!(value("trove_tls_reloads_total{outcome=\"ok\"}") >= 1.0);
}

#[test]
fn a_server_that_is_open_to_the_network_warns_or_refuses() {
    let data = tempfile::tempdir().unwrap();
    // No model is there, so that no server gets as far as serving.
    let serve = |listen: &str, strict: &str| {
        let strict = format!("access.strict={strict}");
        let path = data.path().to_str().unwrap();
        let output = run(&["serve", "--listen", listen, "--data-dir", path, "--set", &strict]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(serve("0.0.0.0:0", "true").contains("error: UNPROTECTED"));
    let warned = serve("0.0.0.0:0", "false");
    assert!(warned.contains("WARN") && warned.contains("read, change and delete everything"));
    make_key(data.path(), "a", "read", &[]);
    assert!(serve("0.0.0.0:0", "true").contains("error: UNPROTECTED"), "there is no TLS yet");
    let warned = serve("0.0.0.0:0", "false");
    assert!(warned.contains("in the clear") && !warned.contains("delete everything"));
    assert!(!serve("127.0.0.1:0", "true").contains("UNPROTECTED"));
}

/// Names as an attacker sends them.
const HOSTILE: [&str; 12] = [
    "..",
    "../outside",
    "../../../../etc/passwd",
    "/etc/passwd",
    "notes/../../outside",
    "..\\outside",
    "\0",
    "notes\0.txt",
    "~/.ssh/id_rsa",
    "file:///etc/passwd",
    "%2e%2e%2foutside",
    "CON",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_reaches_a_file() {
    let Some(models) = models() else { return };
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    std::fs::create_dir(&data).unwrap();
    common::borrow_models(&models, &data);
    std::fs::write(root.path().join("outside"), "the treasure is buried").unwrap();
    let server = common::Server::start(&data).await;
    let channel = server.channel().await;
    common::create(&channel, NOTES).await;
    let long = "../".repeat(100_000);
    for hostile in HOSTILE.into_iter().chain([long.as_str()]) {
        for (path, message) in
            naming(hostile).into_iter().filter(|(path, _)| !path.ends_with("/ListSnapshots"))
        {
            let (code, why) = refused(call(&channel, path, message, &[]).await);
            let expected: &[_] = match path.starts_with("/trove.v1.AdminService/") {
                // A snapshot may be called CON, and there is none of that name.
                true => &["INVALID_COLLECTION_NAME", "INVALID_SNAPSHOT_NAME", "UNKNOWN_SNAPSHOT"],
                false => &["INVALID_COLLECTION_NAME"],
            };
            assert!(expected.contains(&why.as_str()), "{path}: {code} {why}");
        }
        // Models and prompts are looked up among those that were loaded at the start.
        let collection =
            proto::Collection { name: "x".to_owned(), model: hostile.to_owned(), ..Default::default() };
        let create = bytes(&proto::CreateCollectionRequest { collection: Some(collection) });
        let options = |model: &str, prompt: Option<&str>| {
            let prompt_name = prompt.map(str::to_owned);
            Some(proto::EmbedOptions { model: model.to_owned(), prompt_name, ..Default::default() })
        };
        let embed = |options| bytes(&proto::EmbedRequest { inputs: vec!["x".to_owned()], options });
        let message = proto::Message { role: proto::Role::User as i32, content: "x".to_owned() };
        let generate = proto::GenerateRequest {
            model: hostile.to_owned(),
            messages: vec![message],
            ..Default::default()
        };
        let answer = proto::AnswerRequest {
            search: Some(common::query("x")),
            question: "x?".to_owned(),
            mode: proto::AnswerMode::Generative as i32,
            prompt_template: hostile.to_owned(),
            ..Default::default()
        };
        let tokenize = proto::TokenizeRequest {
            model: hostile.to_owned(),
            inputs: vec!["x".to_owned()],
            ..Default::default()
        };
        for (path, message) in [
            ("/trove.v1.CollectionService/CreateCollection", create),
            ("/trove.v1.EmbeddingService/Embed", embed(options(hostile, None))),
            ("/trove.v1.EmbeddingService/Embed", embed(options("", Some(hostile)))),
            ("/trove.v1.EmbeddingService/Tokenize", bytes(&tokenize)),
            ("/trove.v1.AnswerService/Generate", bytes(&generate)),
            ("/trove.v1.AnswerService/Answer", bytes(&answer)),
        ] {
            let (code, why) = refused(call(&channel, path, message, &[]).await);
            let known = matches!(code, Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition);
            assert!(known && !why.is_empty(), "{path} {:?}: {code} {why}", &hostile[..hostile.len().min(50)]);
        }
        // A format is never looked up as a file or given to a program.
        let file = common::data_document("file", b"text", hostile);
        let result = common::upsert(&channel, vec![file]).await.remove(0);
        let refused = if hostile.len() > 256 { "TEXT_TOO_LONG" } else { "UNSUPPORTED_FORMAT" };
        assert_eq!(result.error_reason, refused, "{hostile:?}");
        // Ids, titles and sources are plain texts: they come back as they were sent, or are refused.
        let document = proto::Document {
            title: hostile.to_owned(),
            source_uri: hostile.to_owned(),
            ..text_document(&format!("a{hostile}"), "A text of its own.")
        };
        let result = common::upsert(&channel, vec![document.clone()]).await.remove(0);
        if result.error_code != 0 {
            assert_eq!(result.error_reason, "INVALID_DOCUMENT_ID", "{hostile:?}");
            continue;
        }
        let stored = common::get(&channel, &document.id).await.unwrap();
        assert_eq!((&stored.title, &stored.source_uri), (&document.title, &document.source_uri));
        assert_eq!(common::text_of(&stored), "A text of its own.");
    }
    let mut names: Vec<_> =
        std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["data", "outside"]);
    let hits = common::found(&channel, common::query("the treasure is buried")).await;
    assert!(hits.iter().all(|hit| !hit.passage.as_ref().unwrap().text.contains("treasure")));
}
