//! Answers over gRPC and on the command line, with the real encoder and the real generator.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{NOTES, Server, create, data_dir, models, reason, text_document, upsert};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use trove::proto::answer_response::Event;
use trove::proto::answer_service_client::AnswerServiceClient;
use trove::proto::{self, AnswerKind, AnswerMode, FinishReason, PassageUse, Role};

/// Share of plain questions in percent that must be answered right, or rightly not answered.
const MOSTLY: u64 = 80;
const GENERATOR: &str = "SmolLM2-135M-Instruct";

const DOCUMENTS: [(&str, &str); 4] = [
    ("a-cats", "Cats sleep for most of the day. They hunt mice at dusk. Why do cats purr?"),
    (
        "b-normans",
        "The Normans were descended from Norse raiders. Their leader Rollo swore fealty to King Charles III of West \
         Francia in the year 911. Normandy is a region in France.",
    ),
    ("c-sql", "An index makes a query fast. Joins combine rows of two tables."),
    ("d-bread", "Knead the dough for ten minutes. Bake the loaf until the crust is brown."),
];

/// Models with a generator; `make test` fetches them.
fn with_generator() -> Option<PathBuf> {
    let models = models()?;
    if models.join("models").join(GENERATOR).is_dir() {
        return Some(models);
    }
    assert!(std::env::var_os("CI").is_none(), "no {GENERATOR}: run `make test`");
    eprintln!("skipped: no {GENERATOR}; `make test` fetches it");
    None
}

async fn start(data: &Path, settings: &[(&str, &str)]) -> (Server, Channel) {
    let server = Server::start_with(data, settings).await;
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    upsert(&channel, DOCUMENTS.iter().map(|(id, text)| text_document(id, text)).collect()).await;
    (server, channel)
}

/// A server that generates.
async fn start_generator(data: &Path, settings: &[(&str, &str)]) -> (Server, Channel) {
    let mut all = vec![("TROVE__GENERATOR__MODELS", GENERATOR), ("TROVE__GENERATOR__CONTEXT_TOKENS", "2048")];
    all.extend_from_slice(settings);
    start(data, &all).await
}

fn question(text: &str) -> proto::AnswerRequest {
    proto::AnswerRequest {
        search: Some(proto::SearchRequest { collection: NOTES.to_owned(), ..Default::default() }),
        question: text.to_owned(),
        ..Default::default()
    }
}

/// A question that the generator is to answer.
fn written(text: &str) -> proto::AnswerRequest {
    proto::AnswerRequest { mode: AnswerMode::Generative as i32, ..question(text) }
}

fn message(role: Role, content: &str) -> proto::Message {
    proto::Message { role: role.into(), content: content.to_owned() }
}

struct Answer {
    retrieval: proto::Retrieval,
    deltas: Vec<String>,
    citations: Vec<proto::Citation>,
    done: proto::AnswerDone,
}

/// Reads an answer and checks what holds for every one.
async fn answer(channel: &Channel, request: proto::AnswerRequest) -> Result<Answer, Status> {
    let mut events = AnswerServiceClient::new(channel.clone()).answer(request).await?.into_inner();
    let first = events.message().await?.unwrap().event;
    let Some(Event::Retrieval(retrieval)) = first else {
        panic!("expected the retrieval first, got {first:?}")
    };
    let (mut deltas, mut citations) = (Vec::new(), Vec::<proto::Citation>::new());
    let done = loop {
        match events.message().await?.unwrap().event.unwrap() {
            Event::Delta(delta) => deltas.push(delta),
            Event::Citation(citation) => {
                let end = citation.answer_span.unwrap().end as usize;
                assert!(end <= deltas.concat().len(), "a citation comes after its text");
                citations.push(citation);
            }
            Event::Done(done) => break done,
            Event::Retrieval(_) => panic!("a second retrieval"),
        }
    };
    assert!(events.message().await?.is_none(), "nothing comes after the end");
    assert_eq!(deltas.concat(), done.text);
    assert_eq!(retrieval.passages.len(), retrieval.hits.len());
    let used = |p: &&proto::PackedPassage| matches!(p.r#use(), PassageUse::Whole | PassageUse::Cut);
    assert_eq!(retrieval.passages.iter().filter(used).count(), retrieval.used_count as usize);
    for citation in &citations {
        let index = citation.number as usize - 1;
        assert!(used(&&retrieval.passages[index]), "what is cited was used");
        assert_eq!(citation.passage, retrieval.hits[index].passage);
        let passage = citation.passage.as_ref().unwrap();
        assert!(!slice(&passage.text, citation.passage_span).is_empty());
        assert!(!slice(&done.text, citation.answer_span).is_empty());
    }
    Ok(Answer { retrieval, deltas, citations, done })
}

fn slice(text: &str, span: Option<proto::ByteSpan>) -> &str {
    let span = span.unwrap();
    &text[span.start as usize..span.end as usize]
}

#[tokio::test]
async fn extractive_answers_are_sentences_of_the_documents() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (_server, channel) = start(data.path(), &[]).await;

    let found = answer(&channel, question("When do cats hunt mice?")).await.unwrap();
    assert_eq!(found.retrieval.mode(), AnswerMode::Extractive);
    // The pronoun brings along what it stands for.
    let expected = "Cats sleep for most of the day. They hunt mice at dusk.";
    assert_eq!((found.done.text.as_str(), found.done.kind()), (expected, AnswerKind::Quoted));
    assert_eq!((found.done.finish_reason(), found.done.model.as_str()), (FinishReason::Stop, ""));
    let citation = &found.citations[0];
    assert_eq!(slice(&citation.passage.as_ref().unwrap().text, citation.passage_span), expected);
    assert_eq!(found.deltas.len(), 1);
    assert_eq!(found.done.support[0].number, citation.number);

    let one = proto::AnswerRequest { max_passages: 1, ..question("When do cats hunt mice?") };
    let one = answer(&channel, one).await.unwrap();
    let uses: Vec<PassageUse> = one.retrieval.passages.iter().map(|p| p.r#use()).collect();
    assert_eq!(
        uses,
        [PassageUse::Whole, PassageUse::OverLimit, PassageUse::OverLimit, PassageUse::OverLimit]
    );

    let other = answer(&channel, question("What is the boiling point of tungsten on Venus?")).await.unwrap();
    assert_eq!(other.done.finish_reason(), FinishReason::NotAnswerable);
    assert_eq!((other.done.text.as_str(), other.citations.len()), ("", 0));
    assert_eq!(other.done.kind(), AnswerKind::Refused);
    assert!(other.retrieval.answerability < other.retrieval.answerability_threshold);
    let forced = question("What is the boiling point of tungsten on Venus?");
    let forced = proto::AnswerRequest { answerability_threshold: Some(0.0), ..forced };
    assert_eq!(answer(&channel, forced).await.unwrap().done.finish_reason(), FinishReason::Stop);

    let mut nowhere = question("When do cats hunt mice?");
    let ids = proto::StringList { values: vec!["nobody".to_owned()] };
    let filter = proto::Filter { node: Some(proto::filter::Node::DocumentIds(ids)) };
    nowhere.search.as_mut().unwrap().filter = Some(filter);
    let nothing = answer(&channel, nowhere).await.unwrap();
    assert_eq!(nothing.done.finish_reason(), FinishReason::NoContext);
    assert!(nothing.retrieval.hits.is_empty() && nothing.done.text.is_empty());
}

#[tokio::test]
async fn a_follow_up_is_searched_with_the_question_before() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (_server, channel) = start(data.path(), &[]).await;
    let history = vec![
        message(Role::User, "Who led the Norse raiders?"),
        message(Role::Assistant, "Their leader was Rollo."),
    ];
    let follow_up = proto::AnswerRequest { history, ..question("To whom did he swear fealty in 911?") };
    let found = answer(&channel, follow_up.clone()).await.unwrap();
    assert_eq!(found.retrieval.query, "Who led the Norse raiders? To whom did he swear fealty in 911?");
    assert!(found.done.text.contains("King Charles III"), "{}", found.done.text);
    let mut named = follow_up;
    let query = proto::search_query::Query::Text("bread".to_owned());
    named.search.as_mut().unwrap().query = Some(proto::SearchQuery { query: Some(query) });
    let found = answer(&channel, named).await.unwrap();
    assert_eq!(found.retrieval.query, "bread");
    assert_eq!(found.retrieval.hits[0].passage.as_ref().unwrap().document_id, "d-bread");
}

#[tokio::test]
async fn bad_questions_get_a_reason_and_a_field() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (_server, channel) = start(data.path(), &[]).await;
    let base = || question("When do cats hunt?");
    let with = |change: fn(&mut proto::AnswerRequest)| {
        let mut request = base();
        change(&mut request);
        request
    };
    let user = || message(Role::User, "Who?");
    let history = |messages: Vec<proto::Message>| proto::AnswerRequest { history: messages, ..base() };
    let bad: Vec<(proto::AnswerRequest, Code, &str, &str)> = vec![
        (question(" \n"), Code::InvalidArgument, "EMPTY_QUESTION", "question"),
        (question(&"why ".repeat(20_000)), Code::InvalidArgument, "QUESTION_TOO_LONG", "question"),
        (history(vec![user()]), Code::InvalidArgument, "BAD_HISTORY", "history"),
        (history(vec![user(), user()]), Code::InvalidArgument, "BAD_HISTORY", "history[1].role"),
        (
            history(vec![user(), message(Role::Assistant, "")]),
            Code::InvalidArgument,
            "BAD_HISTORY",
            "history[1].content",
        ),
        (
            history(vec![message(Role::Unspecified, "x"), user()]),
            Code::InvalidArgument,
            "UNKNOWN_ENUM_VALUE",
            "history[0].role",
        ),
        (with(|r| r.mode = 9), Code::InvalidArgument, "UNKNOWN_ENUM_VALUE", "mode"),
        (with(|r| r.max_passages = 101), Code::InvalidArgument, "BAD_LIMIT", "max_passages"),
        (
            with(|r| r.support_threshold = Some(f32::NAN)),
            Code::InvalidArgument,
            "BAD_THRESHOLD",
            "support_threshold",
        ),
        (
            with(|r| r.sampling = Some(proto::SamplingOptions { top_p: Some(1.5), ..Default::default() })),
            Code::InvalidArgument,
            "BAD_SAMPLING",
            "sampling.top_p",
        ),
        (
            with(|r| r.search.as_mut().unwrap().unit = proto::SearchUnit::Sentence as i32),
            Code::InvalidArgument,
            "BAD_UNIT",
            "search.unit",
        ),
        (
            with(|r| r.search.as_mut().unwrap().limit = 5000),
            Code::InvalidArgument,
            "BAD_LIMIT",
            "search.limit",
        ),
        (with(|r| r.search = None), Code::InvalidArgument, "INVALID_COLLECTION_NAME", "search.collection"),
        (
            with(|r| r.search.as_mut().unwrap().collection = "gone".to_owned()),
            Code::NotFound,
            "UNKNOWN_COLLECTION",
            "",
        ),
        (with(|r| r.prompt_template = "gone".to_owned()), Code::NotFound, "UNKNOWN_PROMPT", ""),
        (with(|r| r.mode = AnswerMode::Generative as i32), Code::FailedPrecondition, "NO_GENERATOR", ""),
    ];
    for (request, code, wanted, field) in bad {
        let status = answer(&channel, request).await.err().unwrap();
        assert_eq!((status.code(), reason(&status).as_str()), (code, wanted), "{}", status.message());
        if code == Code::InvalidArgument {
            let details = status.get_error_details();
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
        }
    }
    let request = proto::GenerateRequest { messages: vec![user()], ..Default::default() };
    let status = AnswerServiceClient::new(channel).generate(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "NO_GENERATOR"));
    assert!(status.message().contains("generator.models"), "{}", status.message());
}

#[tokio::test]
async fn a_bad_prompt_template_stops_the_start() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    std::fs::create_dir(data.path().join("prompts")).unwrap();
    std::fs::write(data.path().join("prompts/mine.toml"), "user = '{{ question }}'").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_trove"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        .env("TROVE__GENERATOR__MODELS", "none")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("BAD_PROMPT") && stderr.contains("mine.toml"), "{stderr}");
}

#[tokio::test]
async fn generated_answers_stream_and_cite() {
    let Some(models) = with_generator() else { return };
    let data = data_dir(&models);
    let (_server, channel) = start_generator(data.path(), &[]).await;
    // This generator answers worse than quotations do, so it writes only where it is asked to.
    let quoted = answer(&channel, question("Who was the leader of the Normans?")).await.unwrap();
    assert_eq!((quoted.retrieval.mode(), quoted.done.kind()), (AnswerMode::Extractive, AnswerKind::Quoted));
    assert!(quoted.done.text.contains("Rollo"), "{}", quoted.done.text);

    let written =
        proto::AnswerRequest { include_draft: true, ..written("Who was the leader of the Normans?") };
    let found = answer(&channel, written).await.unwrap();
    assert_eq!((found.retrieval.mode(), found.done.model.as_str()), (AnswerMode::Generative, GENERATOR));
    assert!(found.done.text.contains("Rollo"), "{}", found.done.text);
    assert!(found.done.draft.contains("Rollo"), "{}", found.done.draft);
    assert_eq!(found.citations[0].passage.as_ref().unwrap().document_id, "b-normans");
    let usage = found.done.usage.unwrap();
    assert_eq!(usage.prompt_tokens, found.retrieval.prompt_tokens, "what was counted is what ran");
    assert!(usage.completion_tokens > 0);

    // Where no sentence is supported the answer is quoted; what was written is told only to who asks for it.
    let strict = proto::AnswerRequest {
        support_threshold: Some(1.0),
        answerability_threshold: Some(0.0),
        ..self::written("What is the boiling point of tungsten on Venus?")
    };
    let fallen = answer(&channel, strict.clone()).await.unwrap();
    assert_eq!((fallen.done.finish_reason(), fallen.done.kind()), (FinishReason::Stop, AnswerKind::Quoted));
    assert_eq!((fallen.done.model.as_str(), fallen.done.draft.as_str()), (GENERATOR, ""));
    assert!(!fallen.citations.is_empty());
    assert!(DOCUMENTS.iter().any(|(_, text)| text.contains(fallen.done.text.lines().next().unwrap())));
    let told = answer(&channel, proto::AnswerRequest { include_draft: true, ..strict }).await.unwrap();
    assert!(!told.done.draft.is_empty() && told.done.text == fallen.done.text);

    let extractive = proto::AnswerRequest {
        mode: AnswerMode::Extractive as i32,
        ..question("Who was the leader of the Normans?")
    };
    assert_eq!(answer(&channel, extractive).await.unwrap().retrieval.prompt_tokens, 0);
    let unknown =
        proto::AnswerRequest { model: "gone".to_owned(), ..question("Who was the leader of the Normans?") };
    let status = answer(&channel, unknown).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "UNKNOWN_MODEL"));
}

#[tokio::test]
async fn the_context_window_is_never_overrun() {
    let Some(models) = with_generator() else { return };
    let data = data_dir(&models);
    let (_server, channel) = start_generator(
        data.path(),
        &[("TROVE__GENERATOR__CONTEXT_TOKENS", "360"), ("TROVE__ANSWER__MAX_TOKENS", "24")],
    )
    .await;
    let long = |subject: &str| {
        let sentence = |n| format!("{subject} number {n} sleeps in the old barn near the river Ölper. ");
        (0..12).map(sentence).collect::<String>()
    };
    let documents =
        ["Cat", "Dog", "Owl"].map(|subject| text_document(&subject.to_lowercase(), &long(subject)));
    upsert(&channel, documents.to_vec()).await;
    let turn = |n: usize| {
        let earlier = format!("Where do the animals of barn {n} sleep when it rains?");
        [
            message(Role::User, &earlier),
            message(Role::Assistant, "They sleep in the old barn near the river."),
        ]
    };
    let request = proto::AnswerRequest {
        history: (0..6).flat_map(turn).collect(),
        max_passages: 3,
        answerability_threshold: Some(0.0),
        ..written("Where does Cat number 3 sleep?")
    };
    let found = answer(&channel, request.clone()).await.unwrap();
    let retrieval = &found.retrieval;
    assert_eq!(retrieval.context_tokens, 360);
    assert!(retrieval.prompt_tokens + 24 <= 360, "{}", retrieval.prompt_tokens);
    assert_eq!(found.done.usage.unwrap().prompt_tokens, retrieval.prompt_tokens);
    assert!(retrieval.dropped_history_count > 0 && retrieval.dropped_history_count.is_multiple_of(2));
    let cut = retrieval.passages.iter().zip(&retrieval.hits).find(|(p, _)| p.r#use() == PassageUse::Cut);
    let (packed, hit) =
        cut.unwrap_or_else(|| panic!("one passage does not fit whole: {:?}", retrieval.passages));
    let text = &hit.passage.as_ref().unwrap().text;
    let part = slice(text, packed.span);
    assert!(part.ends_with('.') && part.len() < text.len(), "{part:?}");
    assert!(
        retrieval
            .passages
            .iter()
            .any(|p| p.r#use() == PassageUse::NoRoom || p.r#use() == PassageUse::OverLimit)
    );

    let limited = proto::AnswerRequest { max_context_tokens: 40, history: Vec::new(), ..request };
    let found = answer(&channel, limited).await.unwrap();
    let tokens: u32 = found.retrieval.passages.iter().map(|p| p.tokens).sum();
    assert!(tokens > 0 && tokens <= 40, "{tokens}");

    let endless = proto::AnswerRequest { ..written(&"Where does the cat sleep? ".repeat(80)) };
    let status = answer(&channel, endless).await.err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "PROMPT_TOO_LONG"));
}

fn generation(prompt: &str, max_tokens: u32) -> proto::GenerateRequest {
    proto::GenerateRequest {
        messages: vec![message(Role::User, prompt)],
        sampling: Some(proto::SamplingOptions { max_tokens, ..Default::default() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn generations_are_bounded_canceled_and_have_deadlines() {
    let Some(models) = with_generator() else { return };
    let data = data_dir(&models);
    let settings = [("TROVE__GENERATOR__SLOTS", "1"), ("TROVE__GENERATOR__QUEUE_CAPACITY", "1")];
    let (_server, channel) = start_generator(data.path(), &settings).await;
    let mut client = AnswerServiceClient::new(channel);
    let counting = "Count from 1 to 1000, one number after the other.";

    let mut running = client.generate(generation(counting, 1800)).await.unwrap().into_inner();
    assert!(running.message().await.unwrap().is_some());
    let mut waiting = client.generate(generation("Say hello.", 4)).await.unwrap().into_inner();
    let status = client.generate(generation("Say hello.", 4)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(status.get_error_details().retry_info().is_some());

    drop(running);
    let end = async {
        loop {
            let event = waiting.message().await.unwrap().unwrap().event.unwrap();
            if let proto::generate_response::Event::Done(done) = event {
                return done;
            }
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), end).await.expect("the slot was not freed");
    assert!(done.usage.unwrap().completion_tokens <= 4);

    let mut hurried = Request::new(generation(counting, 1800));
    hurried.set_timeout(Duration::from_millis(1500));
    let mut events = client.generate(hurried).await.unwrap().into_inner();
    let status = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the generation outlived its deadline"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let bad = |sampling: proto::SamplingOptions| proto::GenerateRequest {
        sampling: Some(sampling),
        ..generation("Say hello.", 4)
    };
    let hot = bad(proto::SamplingOptions { temperature: Some(-1.0), ..Default::default() });
    let status = client.generate(hot).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "BAD_SAMPLING"));
    assert_eq!(
        status.get_error_details().bad_request().unwrap().field_violations[0].field,
        "sampling.temperature"
    );
    let status = client.generate(generation("x", 1 << 20)).await.unwrap_err();
    assert_eq!(reason(&status), "PROMPT_TOO_LONG");
    let late = vec![message(Role::User, "x"), message(Role::System, "y"), message(Role::User, "z")];
    let late = proto::GenerateRequest { messages: late, ..Default::default() };
    assert_eq!(reason(&client.generate(late).await.unwrap_err()), "BAD_MESSAGES");
}

/// Runs a command against a server.
fn trove(server: &Server, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trove"))
        .env("TROVE_SERVER", &server.url)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_answers_and_shows_its_sources() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let (server, _channel) = start(data.path(), &[]).await;
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();

    let asked = trove(&server, &["ask", "When do cats hunt mice?", "--collection", NOTES], "");
    let shown = text(&asked);
    assert_eq!(asked.status.code(), Some(0));
    assert!(shown.starts_with("Cats sleep for most of the day. They hunt mice at dusk.\n"), "{shown}");
    assert!(shown.contains("1. a-cats"), "{shown}");

    let asked = trove(&server, &["ask", "When do cats hunt mice?", "--collection", NOTES, "--json"], "");
    let json: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(json["finish_reason"], "stop");
    assert_eq!(json["passages"][0]["passage"]["document_id"], "a-cats");
    assert_eq!(json["citations"][0]["number"], 1);

    let asked = trove(&server, &["ask", "What is the boiling point of tungsten?", "--collection", NOTES], "");
    assert_eq!(asked.status.code(), Some(1));
    assert!(text(&asked).contains("not answerable from these documents"));

    let lines = "Good morning!\nWho led the Norse raiders?\n/nonsense\nTo whom did he swear fealty in 911?\n/sources\n/quit\nnever read\n";
    let chat = trove(&server, &["chat", "--collection", NOTES], lines);
    let shown = text(&chat);
    assert_eq!(chat.status.code(), Some(0));
    assert!(shown.contains("King Charles III") && shown.contains("b-normans"), "{shown}");
    // A greeting is no question, and each answer has its sources below it.
    assert!(shown.starts_with("Hello.") && shown.matches("b-normans").count() >= 3, "{shown}");
    assert!(String::from_utf8_lossy(&chat.stderr).contains("unknown command /nonsense"));

    let generated = trove(&server, &["generate", "Hello"], "");
    assert_eq!(generated.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&generated.stderr).contains("NO_GENERATOR"));
}

/// Plain questions on small folders, and follow-ups, by the command that measures them (docs/EVALUATION.md has all of them).
#[tokio::test(flavor = "multi_thread")]
async fn plain_questions_are_answered_right_or_not_at_all() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/questions");
    let (mut right, mut asked, mut wrong) = (0, 0, 0);
    for name in ["facts", "harbour"] {
        let documents = folder.join(name);
        let indexed = trove(&server, &["index", documents.to_str().unwrap(), "--collection", name], "");
        assert_eq!(indexed.status.code(), Some(0), "{}", String::from_utf8_lossy(&indexed.stderr));
        let questions = folder.join(format!("{name}.jsonl"));
        let ran = trove(&server, &["--json", "eval", questions.to_str().unwrap(), "--collection", name], "");
        let json: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        let count = |key: &str| json[key].as_u64().unwrap();
        assert_eq!(count("unheld_figures"), 0, "{json:#}");
        right += count("right") + count("refused_rightly");
        wrong += count("wrong") + count("invented");
        asked += count("answerable") + count("unanswerable");
    }
    assert!(asked >= 48 && right * 100 >= asked * MOSTLY, "{right} right, {wrong} wrong of {asked}");
}
