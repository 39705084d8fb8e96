//! Filters, languages and titles as the users of the service meet them.

mod common;

use common::*;
use tonic::transport::Channel;
use trove::proto::collection_service_client::CollectionServiceClient;
use trove::proto::field_condition::Test;
use trove::proto::filter::Node;
use trove::proto::metadata_value::Kind;
use trove::proto::{self, DocumentStatus, SearchMode};

fn value(kind: Kind) -> proto::MetadataValue {
    proto::MetadataValue { kind: Some(kind) }
}

/// Notes of the years 2000 to 2029, each with an author and tags.
fn notes() -> Vec<proto::Document> {
    let note = |year: i64| {
        let tags = vec![format!("decade{}", year / 10 % 10), "all".to_owned()];
        let metadata = [
            ("year", value(Kind::IntValue(year))),
            ("author", string(["ada", "grace", "edsger"][year as usize % 3])),
            ("tags", value(Kind::StringList(proto::StringList { values: tags }))),
            ("draft", value(Kind::BoolValue(year % 2 == 0))),
        ];
        proto::Document {
            metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            ..text_document(&format!("notes/{year}"), &format!("What the harbour was like in {year}."))
        }
    };
    (2000..2030).map(note).collect()
}

fn filter(node: Node) -> proto::Filter {
    proto::Filter { node: Some(node) }
}

fn field(key: &str, test: Test) -> proto::Filter {
    filter(Node::Field(proto::FieldCondition { key: key.to_owned(), test: Some(test) }))
}

fn all(filters: Vec<proto::Filter>) -> proto::Filter {
    filter(Node::All(proto::FilterList { filters }))
}

fn years(ids: impl IntoIterator<Item = String>) -> Vec<i64> {
    let mut years: Vec<i64> = ids.into_iter().map(|id| id["notes/".len()..].parse().unwrap()).collect();
    years.sort_unstable();
    years
}

/// Years of the notes that searches of each mode and a listing find with a filter, which must be the same.
async fn matching(channel: &Channel, filter: proto::Filter) -> Vec<i64> {
    let request = proto::ListDocumentsRequest {
        collection: NOTES.to_owned(),
        filter: Some(filter.clone()),
        ..Default::default()
    };
    let page = documents(channel).list_documents(request).await.unwrap().into_inner();
    let listed = years(page.documents.into_iter().map(|document| document.id));
    for mode in [SearchMode::Vector, SearchMode::Keyword, SearchMode::Hybrid] {
        let request = proto::SearchRequest {
            filter: Some(filter.clone()),
            mode: mode.into(),
            limit: 100,
            ..query("harbour")
        };
        let hits = found(channel, request).await;
        assert_eq!(years(ids(&hits).into_iter().map(str::to_owned)), listed, "{mode:?} {filter:?}");
    }
    listed
}

#[tokio::test]
async fn filters_agree_with_each_other_and_with_what_was_written_last() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let mut server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    upsert(&channel, notes()).await;
    let from = |gte: f64, lt: f64| {
        field("year", Test::Range(proto::Range { gte: Some(gte), lt: Some(lt), ..Default::default() }))
    };
    let author = |name: &str| field("author", Test::Equals(string(name)));
    let prefix = |prefix: &str| filter(Node::DocumentIdPrefix(prefix.to_owned()));
    assert_eq!(matching(&channel, from(2003.5, 2006.0)).await, [2004, 2005]);
    assert_eq!(
        matching(&channel, all(vec![author("ada"), from(2010.0, 2020.0)])).await,
        [2010, 2013, 2016, 2019]
    );
    assert_eq!(matching(&channel, prefix("notes/202")).await, (2020..2030).collect::<Vec<_>>());
    let not_ada = filter(Node::Not(Box::new(author("ada"))));
    assert_eq!(
        matching(&channel, all(vec![not_ada, prefix("notes/200")])).await,
        [2000, 2002, 2003, 2005, 2006, 2008, 2009]
    );
    assert_eq!(matching(&channel, field("tags", Test::Equals(string("decade2")))).await.len(), 10);
    let strings =
        proto::StringRange { gt: Some("ada".to_owned()), lte: Some("f".to_owned()), ..Default::default() };
    let edsger =
        matching(&channel, all(vec![field("author", Test::StringRange(strings)), from(2000.0, 2009.0)]));
    assert_eq!(edsger.await, [2000, 2003, 2006]);
    // A number is no string, whatever it looks like.
    assert!(matching(&channel, field("year", Test::Equals(string("2004")))).await.is_empty());
    assert_eq!(
        matching(&channel, field("draft", Test::Equals(value(Kind::BoolValue(true))))).await.len(),
        15
    );

    let mut changed = notes();
    changed.truncate(3);
    for document in &mut changed {
        document.metadata.insert("author".to_owned(), string("barbara"));
    }
    // One of them has another text too.
    changed[0].content = text_document("x", "The harbour is new.").content;
    let results = upsert(&channel, changed).await;
    let status = |at: usize| results[at].status();
    assert_eq!((status(0), status(1)), (DocumentStatus::Indexed, DocumentStatus::Updated));
    assert_eq!(delete(&channel, &["notes/2001"]).await, 1);
    assert_eq!(matching(&channel, author("barbara")).await, [2000, 2002]);
    assert_eq!(matching(&channel, all(vec![author("ada"), prefix("notes/200")])).await, [2004, 2007]);

    // The process is killed, and another one reads what there is.
    drop(server);
    server = Server::start(data.path()).await;
    let channel = server.channel().await;
    assert_eq!(matching(&channel, author("barbara")).await, [2000, 2002]);
    assert_eq!(matching(&channel, field("year", Test::Exists(false))).await, [0i64; 0]);
    let deleted =
        proto::DeleteDocumentsRequest { collection: NOTES.to_owned(), filter: Some(author("grace")) };
    let deleted = documents(&channel).delete_documents(deleted).await.unwrap().into_inner().deleted_count;
    assert_eq!((deleted, matching(&channel, author("grace")).await.len()), (9, 0));

    let nan = field("year", Test::Range(proto::Range { gt: Some(f64::NAN), ..Default::default() }));
    let request =
        proto::ListDocumentsRequest { collection: NOTES.to_owned(), filter: Some(nan), ..Default::default() };
    assert_eq!(reason(&documents(&channel).list_documents(request).await.unwrap_err()), "NOT_FINITE");
}

#[tokio::test]
async fn a_collection_has_a_language_and_titles_are_words_too() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    let mut collections = CollectionServiceClient::new(channel.clone());
    let notes = |language: &str| {
        Some(proto::Collection {
            name: NOTES.to_owned(),
            language: language.to_owned(),
            ..Default::default()
        })
    };
    let request = proto::CreateCollectionRequest { collection: notes("klingon") };
    let error = collections.create_collection(request).await.unwrap_err();
    assert_eq!(reason(&error), "UNKNOWN_LANGUAGE");
    assert!(error.message().contains("german, greek"), "{}", error.message());
    let other = notes("").map(|notes| proto::Collection { name: "other".to_owned(), ..notes });
    let request = proto::CreateCollectionRequest { collection: other };
    let created = collections.create_collection(request).await.unwrap().into_inner().collection.unwrap();
    assert_eq!(created.language, "auto");
    let request = proto::CreateCollectionRequest { collection: notes("english") };
    let created = collections.create_collection(request).await.unwrap().into_inner().collection.unwrap();
    assert_eq!(created.language, "english");

    let titled = proto::Document {
        title: "Der Leuchtturm".to_owned(),
        ..text_document("a", "Viele Häuser am Hafen.")
    };
    upsert(&channel, vec![titled.clone(), text_document("b", "Boote auf See.")]).await;
    let words = async |text: &str| {
        let hits =
            found(&channel, proto::SearchRequest { mode: SearchMode::Keyword.into(), ..query(text) }).await;
        ids(&hits).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(words("Haus").await.is_empty());
    assert_eq!(words("leuchtturm").await, ["a"]);
    let update = |language: &str| proto::UpdateCollectionRequest {
        collection: notes(language),
        update_mask: Some(prost_types::FieldMask { paths: vec!["language".to_owned()] }),
    };
    let updated = collections.update_collection(update("german")).await.unwrap().into_inner();
    assert_eq!(updated.collection.unwrap().language, "german");
    assert_eq!(words("das Haus").await, ["a"]);
    assert_eq!(
        reason(&collections.update_collection(update("deutsch")).await.unwrap_err()),
        "UNKNOWN_LANGUAGE"
    );

    let renamed = proto::Document { title: "Die Mole".to_owned(), ..titled };
    assert_eq!(upsert(&channel, vec![renamed]).await[0].status(), DocumentStatus::Indexed);
    assert_eq!(words("Mole").await, ["a"]);
    assert!(words("Leuchtturm").await.is_empty());
    let compact = proto::CompactCollectionRequest { name: NOTES.to_owned() };
    collections.compact_collection(compact).await.unwrap();
    assert_eq!(words("Mole Boot").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hits_match_their_filter_while_metadata_changes() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let with = |author: &str| -> Vec<proto::Document> {
        let mut notes = notes();
        notes.iter_mut().for_each(|note| drop(note.metadata.insert("author".to_owned(), string(author))));
        notes
    };
    upsert(&channel, with("ada")).await;
    let writer = tokio::spawn({
        let (channel, ada, grace) = (channel.clone(), with("ada"), with("grace"));
        async move {
            for _ in 0..20 {
                upsert(&channel, grace.clone()).await;
                upsert(&channel, ada.clone()).await;
            }
        }
    });
    let author = |document: &proto::Document| document.metadata["author"].clone();
    while !writer.is_finished() {
        for name in ["ada", "grace"] {
            let filter = field("author", Test::Equals(string(name)));
            for mode in [SearchMode::Vector, SearchMode::Keyword, SearchMode::Hybrid] {
                let request = proto::SearchRequest {
                    filter: Some(filter.clone()),
                    mode: mode.into(),
                    limit: 10,
                    ..query("harbour")
                };
                for hit in found(&channel, request).await {
                    assert_eq!(hit.metadata["author"], string(name), "{mode:?}");
                }
            }
            let request = proto::ListDocumentsRequest {
                collection: NOTES.to_owned(),
                filter: Some(filter),
                view: proto::DocumentView::Full.into(),
                ..Default::default()
            };
            let page = documents(&channel).list_documents(request).await.unwrap().into_inner();
            assert!(page.documents.iter().all(|document| author(document) == string(name)));
        }
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collections_are_listed_beside_those_that_come_and_go() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    let coming_and_going = tokio::spawn({
        let channel = channel.clone();
        async move {
            for _ in 0..60 {
                create(&channel, "guest").await;
                let request =
                    proto::DeleteCollectionRequest { name: "guest".to_owned(), ..Default::default() };
                CollectionServiceClient::new(channel.clone()).delete_collection(request).await.unwrap();
            }
        }
    });
    while !coming_and_going.is_finished() {
        let request = proto::ListCollectionsRequest::default();
        let listed = CollectionServiceClient::new(channel.clone()).list_collections(request).await.unwrap();
        let names: Vec<String> = listed.into_inner().collections.into_iter().map(|c| c.name).collect();
        assert!(names.contains(&NOTES.to_owned()));
    }
    coming_and_going.await.unwrap();
}
