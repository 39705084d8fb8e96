//! Snapshots over gRPC and through the program: made while writes go on, verified, restored, deleted.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::*;
use tonic::Code;
use tonic::transport::Channel;
use trove::proto;
use trove::proto::admin_service_client::AdminServiceClient;

fn admin(channel: &Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel.clone())
}

async fn create_snapshot(channel: &Channel, name: &str) -> proto::Snapshot {
    let request = proto::CreateSnapshotRequest { name: name.to_owned(), collections: Vec::new() };
    admin(channel).create_snapshot(request).await.unwrap().into_inner().snapshot.unwrap()
}

async fn restore(channel: &Channel, name: &str) -> Result<Vec<String>, tonic::Status> {
    let request = proto::RestoreSnapshotRequest { name: name.to_owned(), collections: Vec::new() };
    Ok(admin(channel).restore_snapshot(request).await?.into_inner().collections)
}

/// The program as a client: its exit code and what it printed on both outputs.
fn trove(server: &Server, args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(["--server", &server.url])
        .args(args)
        .env_remove("TROVE_SERVER")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
}

const FACTS: [(&str, &str); 4] = [
    ("bread", "Bread is baked until its crust is brown."),
    ("light", "A lighthouse warns sailors of rocks at night."),
    ("tide", "The tide rises twice a day."),
    ("goat", "Goats climb steep cliffs."),
];

async fn fill(channel: &Channel) {
    create(channel, NOTES).await;
    upsert(channel, FACTS.iter().map(|(id, text)| text_document(id, text)).collect()).await;
}

fn without_numbers(mut documents: Vec<proto::Document>) -> Vec<proto::Document> {
    documents.iter_mut().for_each(|d| d.passages.iter_mut().for_each(|p| p.document_id.clear()));
    documents
}

async fn best(channel: &Channel, text: &str) -> String {
    ids(&found(channel, query(text)).await)[0].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_snapshot_holds_comes_back_here_and_on_another_server() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    fill(&channel).await;
    let before = without_numbers(list(&channel).await);
    let (code, text) = trove(&server, &["snapshots", "create", "first"]);
    assert!(code == 0 && text.contains("first") && text.contains("documents    4"), "{text}");
    assert_eq!(trove(&server, &["snapshots", "create", "first"]).0, 1);

    delete(&channel, &["bread"]).await;
    upsert(&channel, vec![text_document("tide", "Something else altogether."), text_document("new", "New.")])
        .await;
    let second = create_snapshot(&channel, "").await;
    assert_eq!((second.document_count, second.scheduled, second.collections.len()), (4, false, 1));
    let (code, text) = trove(&server, &["snapshots", "list"]);
    assert!(code == 0 && text.find(&second.name).unwrap() < text.find("first").unwrap(), "{text}");
    let page = |page_token| proto::ListSnapshotsRequest { page_size: 1, page_token };
    let one = admin(&channel).list_snapshots(page(String::new())).await.unwrap().into_inner();
    let two = admin(&channel).list_snapshots(page(one.next_page_token)).await.unwrap().into_inner();
    assert_eq!(
        (one.snapshots[0].name.as_str(), two.snapshots[0].name.as_str()),
        (second.name.as_str(), "first")
    );
    assert_eq!(two.next_page_token, "");
    assert_eq!(trove(&server, &["snapshots", "verify", "first"]).0, 0);

    let (code, text) = trove(&server, &["snapshots", "restore", "first"]);
    assert_eq!((code, text.as_str()), (0, "restored notes\n"));
    assert_eq!(without_numbers(list(&channel).await), before);
    for text in ["what colour has a loaf", "beacons for ships"] {
        let mut request = query(text);
        let hits = found(&channel, request.clone()).await;
        assert_eq!(hits.len(), 4);
        request.exact = true;
        assert_eq!(ids(&found(&channel, request).await), ids(&hits));
    }
    assert_eq!(best(&channel, "a loaf in the oven").await, "bread");
    let request = proto::SearchRequest { mode: proto::SearchMode::Keyword.into(), ..query("crust") };
    assert_eq!(ids(&found(&channel, request).await), ["bread"]);
    // The restored collection takes writes, and a restart finds it so.
    upsert(&channel, vec![text_document("later", "Written after the restore.")]).await;
    drop(server);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    assert_eq!(list(&channel).await.len(), 5);
    assert_eq!(best(&channel, "a loaf in the oven").await, "bread");

    let elsewhere = data_dir(&models);
    let other = Server::start(elsewhere.path()).await;
    std::fs::copy(
        data.path().join("snapshots/first.snapshot"),
        elsewhere.path().join("snapshots/f.snapshot"),
    )
    .unwrap();
    let channel = other.channel().await;
    assert_eq!(restore(&channel, "f").await.unwrap(), [NOTES]);
    assert_eq!(without_numbers(list(&channel).await), before);
    assert_eq!(best(&channel, "beacons for ships").await, "light");
    let (code, text) = trove(&other, &["--json", "snapshots", "delete", "f"]);
    assert!(code == 0 && text.contains("\"deleted\": \"f\""), "{text}");
    assert!(trove(&other, &["snapshots", "list"]).1.starts_with("no snapshots"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_names_and_bad_files_change_nothing() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    fill(&channel).await;
    create_snapshot(&channel, "good").await;
    for name in ["../good", "/etc/passwd", "a/b", "..", "good.snapshot", "a\0b"] {
        let request = proto::CreateSnapshotRequest { name: name.to_owned(), ..Default::default() };
        let created = admin(&channel).create_snapshot(request).await.unwrap_err();
        let restored = restore(&channel, name).await.unwrap_err();
        let request = proto::DeleteSnapshotRequest { name: name.to_owned() };
        let deleted = admin(&channel).delete_snapshot(request).await.unwrap_err();
        let request = proto::VerifySnapshotRequest { name: name.to_owned() };
        let verified = admin(&channel).verify_snapshot(request).await.unwrap_err();
        for status in [created, restored, deleted, verified] {
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::InvalidArgument, "INVALID_SNAPSHOT_NAME")
            );
        }
    }
    let request =
        proto::RestoreSnapshotRequest { name: "good".to_owned(), collections: vec!["../x".to_owned()] };
    let status = admin(&channel).restore_snapshot(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_COLLECTION_NAME");
    assert_eq!(restore(&channel, "none").await.unwrap_err().code(), Code::NotFound);
    let request = proto::ListSnapshotsRequest { page_token: "after:x".to_owned(), page_size: 0 };
    assert_eq!(reason(&admin(&channel).list_snapshots(request).await.unwrap_err()), "BAD_PAGE_TOKEN");

    let mut bytes = std::fs::read(data.path().join("snapshots/good.snapshot")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(data.path().join("snapshots/bad.snapshot"), &bytes).unwrap();
    let before = list(&channel).await;
    let status = restore(&channel, "bad").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::DataLoss, "SNAPSHOT_DAMAGED"));
    assert_eq!(list(&channel).await, before);
    let (code, text) = trove(&server, &["snapshots", "verify", "bad"]);
    assert!(code == 1 && text.contains("SNAPSHOT_DAMAGED") && text.contains("checksum"), "{text}");
}

fn snapshots_in(data: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data.join("snapshots")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".snapshot"));
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_makes_snapshots_and_deletes_its_oldest() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    fill(&channel).await;
    create_snapshot(&channel, "by-hand").await;
    drop(server);
    let settings = [("TROVE__SNAPSHOTS__INTERVAL_HOURS", "1"), ("TROVE__SNAPSHOTS__KEEP", "1")];
    // One is due at the start where there is none; another start soon after makes no second one.
    let mut first = Vec::new();
    for round in 0..2 {
        let server = Server::start_with(data.path(), &settings).await;
        let channel = server.channel().await;
        for _ in 0..200 {
            first = snapshots_in(data.path());
            if first.len() == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(first.len() == 2 && first[1].starts_with("scheduled-"), "{first:?}");
        // Time to make a second one, which must not be.
        tokio::time::sleep(Duration::from_millis(500 * round)).await;
        let request = proto::ListSnapshotsRequest::default();
        let listed = admin(&channel).list_snapshots(request).await.unwrap().into_inner().snapshots;
        assert_eq!(listed.iter().map(|s| s.scheduled).collect::<Vec<_>>(), [true, false]);
    }
    assert_eq!(snapshots_in(data.path()), first);
}

const MANY: usize = 300;

/// Ids of an export, or why it ended.
async fn exported(channel: &Channel) -> Result<Vec<String>, tonic::Status> {
    use proto::export_documents_response::Part;
    let request = proto::ExportDocumentsRequest { collection: NOTES.to_owned(), filter: None };
    let mut stream = documents(channel).export_documents(request).await?.into_inner();
    let mut ids = Vec::new();
    while let Some(message) = stream.message().await? {
        match message.part {
            Some(Part::Document(stored)) => ids.push(stored.document.unwrap_or_default().id),
            Some(Part::Damaged(damaged)) => panic!("{damaged:?}"),
            _ => {}
        }
    }
    Ok(ids)
}

/// Ids of a listing of several pages, or why it ended.
async fn listed_in_pages(channel: &Channel) -> Result<Vec<String>, tonic::Status> {
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListDocumentsRequest {
            collection: NOTES.to_owned(),
            page_size: 70,
            page_token,
            view: proto::DocumentView::Full.into(),
            ..Default::default()
        };
        let page = documents(channel).list_documents(request).await?.into_inner();
        assert!(page.damaged.is_empty(), "{:?}", page.damaged);
        ids.extend(page.documents.into_iter().map(|document| document.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(ids);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_one_state_while_snapshots_are_restored() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let ids: Vec<String> = (0..MANY).map(|n| format!("note-{n:03}")).collect();
    for some in ids.chunks(50) {
        upsert(&channel, some.iter().map(|id| text_document(id, "The tide rises twice a day.")).collect())
            .await;
    }
    create_snapshot(&channel, "all").await;
    let restores = tokio::spawn({
        let channel = channel.clone();
        async move {
            for _ in 0..12 {
                restore(&channel, "all").await.unwrap();
            }
        }
    });
    let mut outdated = 0;
    let mut rounds = 0;
    while !restores.is_finished() || rounds == 0 {
        rounds += 1;
        assert_eq!(exported(&channel).await.unwrap(), ids, "an export is whole");
        match listed_in_pages(&channel).await {
            Ok(listed) => assert_eq!(listed, ids, "a listing is whole"),
            Err(status) => {
                assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "LISTING_OUTDATED"));
                outdated += 1;
            }
        }
        for id in ids.iter().step_by(37) {
            let request = proto::GetDocumentRequest {
                collection: NOTES.to_owned(),
                document_id: id.clone(),
                ..Default::default()
            };
            documents(&channel).get_document(request).await.unwrap();
        }
        let hits =
            found(&channel, proto::SearchRequest { limit: 20, keep_repeats: true, ..query("tide") }).await;
        assert_eq!(hits.len(), 20);
    }
    restores.await.unwrap();
    eprintln!("{rounds} rounds, {outdated} listings outdated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_export_is_of_the_moment_of_its_beginning() {
    use proto::export_documents_response::Part;
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    // So long that most of the export is not on its way yet when the writes come.
    let text = "The tide rises twice a day. ".repeat(2000);
    let ids: Vec<String> = (0..40).map(|n| format!("note-{n:03}")).collect();
    for some in ids.chunks(10) {
        upsert(&channel, some.iter().map(|id| text_document(id, &text)).collect()).await;
    }
    let request = proto::ExportDocumentsRequest { collection: NOTES.to_owned(), filter: None };
    let mut stream = documents(&channel).export_documents(request).await.unwrap().into_inner();
    assert!(matches!(stream.message().await.unwrap().unwrap().part, Some(Part::Collection(_))));
    let gone: Vec<&str> = ids.iter().step_by(3).map(String::as_str).collect();
    assert_eq!(delete(&channel, &gone).await, gone.len() as i64);
    upsert(&channel, vec![text_document("note-001", "New."), text_document("note-zzz", "New.")]).await;
    let described = proto::Document { title: "Tides".to_owned(), ..text_document("note-002", &text) };
    upsert(&channel, vec![described]).await;
    let compact = proto::CompactCollectionRequest { name: NOTES.to_owned() };
    let mut collections =
        trove::proto::collection_service_client::CollectionServiceClient::new(channel.clone());
    collections.compact_collection(compact).await.unwrap();
    let force = proto::DeleteCollectionRequest { name: NOTES.to_owned(), force: true, ..Default::default() };
    collections.delete_collection(force).await.unwrap();
    let (mut exported, mut bytes) = (Vec::new(), 0);
    while let Some(message) = stream.message().await.unwrap() {
        match message.part.unwrap() {
            Part::Document(stored) => {
                let document = stored.document.unwrap();
                assert_eq!((document.title.as_str(), stored.text_bytes), ("", text.len() as u64));
                exported.push(document.id);
            }
            Part::Text(text) => bytes += text.len(),
            Part::Damaged(damaged) => panic!("{damaged:?}"),
            Part::Collection(_) | Part::Passages(_) => {}
        }
    }
    assert_eq!((exported, bytes), (ids.clone(), ids.len() * text.len()));
}
