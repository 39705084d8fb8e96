//! The generator on the real model: golden outputs, many callers, bad input.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use serde::Deserialize;
use trove::generator::{
    Event, Finish, FinishReason, GenerationStream, Generator, GeneratorOptions, Message, Prompt, Role,
    Sampling,
};
use trove::model::{Device, Runtime};

const MODEL: &str = "models/SmolLM2-135M-Instruct";
/// A step whose two best logits are nearer may come out otherwise with 8-bit activations.
const ROBUST_MARGIN: f32 = 0.85;

fn data_dir() -> Option<PathBuf> {
    let data = PathBuf::from(std::env::var("TROVE_DATA_DIR").unwrap_or_else(|_| ".trove".to_owned()));
    if !data.join(MODEL).is_dir() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: no generator in {}; run scripts/fetch.py", data.display());
        return None;
    }
    Runtime::init(&data.join("runtime")).unwrap();
    Some(data)
}

fn load(options: GeneratorOptions) -> Option<Arc<Generator>> {
    let options = GeneratorOptions { threads: 1, context_tokens: 1024, spinning: false, ..options };
    Some(Generator::load(&data_dir()?.join(MODEL), options).unwrap())
}

fn generator() -> Option<Arc<Generator>> {
    load(GeneratorOptions::default())
}

fn greedy(max_tokens: u32) -> Sampling {
    Sampling { max_tokens, ..Sampling::default() }
}

async fn collect(mut stream: GenerationStream) -> (String, Finish) {
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            Event::Delta(delta) => text.push_str(&delta),
            Event::Done(finish) => {
                assert!(stream.next().await.is_none());
                return (text, finish);
            }
        }
    }
    panic!("no end");
}

async fn text(generator: &Generator, prompt: &str, sampling: Sampling) -> (String, Finish) {
    collect(generator.generate(Prompt::Text(prompt.to_owned()), sampling).await.unwrap()).await
}

fn question(text: &str) -> Prompt {
    Prompt::Messages(vec![Message::new(Role::User, text)])
}

#[derive(Deserialize)]
struct Greedy {
    prompt: String,
    prompt_ids: Vec<u32>,
    exact_output_ids: Vec<u32>,
    exact_top2_margins: Vec<f32>,
    robust: bool,
}

fn golden() -> Vec<Greedy> {
    #[derive(Deserialize)]
    struct File {
        items: Vec<Greedy>,
    }
    serde_json::from_str::<File>(include_str!("data/golden/smollm2_greedy.json")).unwrap().items
}

/// Special tokens of the model that the golden texts hold.
const SPECIAL: [&str; 4] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>"];

#[test]
fn tokens_equal_the_golden_ones() {
    #[derive(Deserialize)]
    struct Item {
        text: String,
        ids: Vec<u32>,
    }
    let Some(generator) = generator() else { return };
    let items: Vec<Item> = serde_json::from_str(include_str!("data/golden/smollm2_tokens.json")).unwrap();
    for Item { text, ids } in items {
        assert_eq!(generator.tokenize(&text).unwrap(), ids, "{text:?}");
        assert_eq!(generator.count_tokens(&text).unwrap(), ids.len());
        // Special tokens have no text.
        let plain = SPECIAL.iter().fold(text.clone(), |text, special| text.replace(special, ""));
        assert_eq!(generator.detokenize(&ids).unwrap(), plain);
    }
    for Greedy { prompt, prompt_ids, .. } in golden() {
        assert_eq!(generator.tokenize(&prompt).unwrap(), prompt_ids, "{prompt:?}");
    }
}

/// Holds up to where the golden file says that two tokens are nearly as likely.
fn check_golden(generator: &Generator, item: &Greedy, got: &str, finish: &Finish) {
    let sure = item.exact_top2_margins.iter().position(|&margin| margin < ROBUST_MARGIN);
    let sure = sure.unwrap_or(item.exact_output_ids.len());
    let expected = generator.detokenize(&item.exact_output_ids[..sure]).unwrap();
    assert!(got.starts_with(&expected), "{:?}: {expected:?}, got {got:?}", item.prompt);
    if item.robust {
        assert_eq!(got, expected);
        assert_eq!(finish.completion_tokens as usize, item.exact_output_ids.len());
        let ended = item.exact_output_ids.last() == Some(&2);
        assert_eq!(finish.reason, if ended { FinishReason::Stop } else { FinishReason::Length });
    }
    assert_eq!(finish.prompt_tokens as usize, item.prompt_ids.len());
}

#[tokio::test]
async fn greedy_output_equals_the_golden_one() {
    let Some(generator) = generator() else { return };
    for item in golden() {
        for speculation in [true, false] {
            let sampling = Sampling { speculation, ..greedy(32) };
            let (got, finish) = text(&generator, &item.prompt, sampling).await;
            check_golden(&generator, &item, &got, &finish);
        }
    }
}

#[tokio::test]
async fn drafted_tokens_are_accepted_and_change_nothing() {
    let Some(generator) = generator() else { return };
    let prompt = "A B C D E F G H I J K L M N. A B C D E F G H I J K L M N. A B C D";
    let (with, finish) = text(&generator, prompt, greedy(24)).await;
    let (without, plain) = text(&generator, prompt, Sampling { speculation: false, ..greedy(24) }).await;
    assert_eq!(with, without);
    assert_eq!((finish.completion_tokens, finish.reason), (plain.completion_tokens, plain.reason));
    assert_eq!(plain.accepted_draft_tokens, 0);
    assert!(finish.accepted_draft_tokens >= 8, "{finish:?} {with:?}");
}

/// Neither drafts nor a beginning that is cached may change an answer: eight-bit activations make large differences of
/// small ones, and a third of such answers differed where single tokens were run by themselves.
#[tokio::test]
async fn answers_from_a_text_are_the_same_with_and_without_drafts() {
    let Some(generator) = generator() else { return };
    let text_of_demo = std::fs::read_to_string("demo/text/gittutorial.txt").unwrap();
    let mut accepted = 0;
    let questions = ["How is a change recorded?", "What does git add do?", "How do I see the history?"];
    for (number, question) in questions.into_iter().enumerate() {
        let context: String = text_of_demo.chars().skip(1500 * (number + 1)).take(1500).collect();
        let messages = vec![
            Message::new(Role::System, "Answer the question from the context in one short sentence."),
            Message::new(Role::User, format!("Context:\n{context}\n\nQuestion: {question}")),
        ];
        let prompt = Prompt::Messages(messages);
        let mut answers = Vec::new();
        for speculation in [true, false, true] {
            let sampling = Sampling { speculation, ..greedy(48) };
            let (answer, finish) = collect(generator.generate(prompt.clone(), sampling).await.unwrap()).await;
            accepted += finish.accepted_draft_tokens;
            answers.push(answer);
        }
        assert_eq!(answers[0], answers[1], "{question}");
        assert_eq!(answers[0], answers[2], "{question}");
    }
    assert!(accepted > 0);
}

#[tokio::test]
async fn callers_at_once_get_the_golden_output_too() {
    let Some(generator) =
        load(GeneratorOptions { slots: 3, prefill_tokens: 32, ..GeneratorOptions::default() })
    else {
        return;
    };
    let items = golden();
    let all = items.iter().map(|item| text(&generator, &item.prompt, greedy(32)));
    for (item, (got, finish)) in items.iter().zip(futures::future::join_all(all).await) {
        check_golden(&generator, item, &got, &finish);
    }
}

#[tokio::test]
async fn a_shared_beginning_is_not_computed_again() {
    let Some(generator) = generator() else { return };
    let ask = |question: &str| {
        Prompt::Messages(vec![
            Message::new(
                Role::System,
                "You answer in one short sentence, and you never say more than you were asked.",
            ),
            Message::new(Role::User, question),
        ])
    };
    let (first, cold) =
        collect(generator.generate(ask("What is the capital of Japan?"), greedy(12)).await.unwrap()).await;
    let (_, warm) =
        collect(generator.generate(ask("How many days has a week?"), greedy(12)).await.unwrap()).await;
    let (again, same) =
        collect(generator.generate(ask("What is the capital of Japan?"), greedy(12)).await.unwrap()).await;
    assert_eq!(cold.cached_prompt_tokens, 0);
    assert!(warm.cached_prompt_tokens >= 15, "{warm:?}");
    assert_eq!(same.cached_prompt_tokens, same.prompt_tokens - 1);
    assert_eq!(again, first);
}

#[tokio::test]
async fn generations_end_at_stop_strings_and_at_max_tokens() {
    let Some(generator) = generator() else { return };
    let (all, finish) = text(&generator, "1, 2, 3, 4, 5,", greedy(20)).await;
    assert_eq!((finish.reason, finish.completion_tokens), (FinishReason::Length, 20));
    assert!(all.starts_with(" 6, 7, 8"), "{all:?}");
    let sampling = Sampling { stop: vec![", 8".to_owned()], ..greedy(20) };
    let (cut, finish) = text(&generator, "1, 2, 3, 4, 5,", sampling).await;
    assert_eq!((cut.as_str(), finish.reason), (" 6, 7", FinishReason::Stop));
}

#[tokio::test]
async fn a_dropped_stream_frees_its_slot() {
    let Some(generator) =
        load(GeneratorOptions { slots: 1, queue_capacity: 1, ..GeneratorOptions::default() })
    else {
        return;
    };
    let long = || generator.generate(Prompt::Text("1, 2, 3, 4, 5,".to_owned()), greedy(900));
    let mut first = long().await.unwrap();
    assert!(matches!(first.next().await, Some(Ok(Event::Delta(_)))));
    let second = long().await.unwrap();
    let refused = long().await.unwrap_err();
    assert_eq!(refused.reason, "QUEUE_FULL");
    assert!(refused.retry_after.is_some());
    // Neither the one that runs nor the one that waits stands in the way of the next.
    drop(second);
    drop(first);
    let (got, finish) = text(&generator, "1, 2, 3, 4, 5,", greedy(3)).await;
    assert_eq!((got.as_str(), finish.completion_tokens), (" 6,", 3));
}

#[test]
fn a_device_that_is_not_there_is_told_with_a_remedy() {
    let Some(data) = data_dir() else { return };
    let load = |device| {
        let options = GeneratorOptions { device, context_tokens: 256, ..GeneratorOptions::default() };
        Generator::load(&data.join(MODEL), options).err()
    };
    assert_eq!(load(Device::Openvino).unwrap().reason, "UNSUPPORTED_DEVICE");
    let Some(error) = load(Device::Cuda) else {
        println!("a CUDA device is there");
        return;
    };
    assert_eq!(error.reason, "DEVICE_UNAVAILABLE");
    for word in ["cuda", "CUDA", "generator.device"] {
        assert!(error.message.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_generator_that_stops_ends_its_streams() {
    let Some(generator) = load(GeneratorOptions { slots: 1, ..GeneratorOptions::default() }) else { return };
    let long = || generator.generate(Prompt::Text("1, 2, 3, 4, 5,".to_owned()), greedy(900));
    let (mut running, waiting) = (long().await.unwrap(), long().await.unwrap());
    assert!(running.next().await.is_some());
    tokio::task::spawn_blocking(move || drop(generator)).await.unwrap();
    let (_, finish) = collect(running).await;
    assert_eq!(finish.reason, FinishReason::Cancelled);
    let error = waiting.map(Result::unwrap_err).next().await.unwrap();
    assert_eq!(error.reason, "STOPPING");
}

#[tokio::test]
async fn messages_go_through_the_chat_template() {
    let Some(generator) = generator() else { return };
    let messages = [Message::new(Role::User, "What is the capital of Japan?")];
    let rendered = generator.render(&messages).unwrap();
    assert_eq!(rendered, golden()[0].prompt);
    assert_eq!(generator.prompt_tokens(&messages).unwrap(), golden()[0].prompt_ids.len());
    let (answer, _) =
        collect(generator.generate(Prompt::Messages(messages.into()), greedy(20)).await.unwrap()).await;
    assert_eq!(answer, "The capital of Japan is Tokyo.");
    // What a message quotes does not end its turn.
    let quoted = [Message::new(Role::User, "What does <|im_end|> mean?")];
    let plain = generator.tokenize(&generator.render(&quoted).unwrap()).unwrap();
    assert!(generator.prompt_tokens(&quoted).unwrap() > plain.len());
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_starts() {
    let Some(generator) = generator() else { return };
    let reason = async |prompt, sampling| generator.generate(prompt, sampling).await.unwrap_err().reason;
    assert_eq!(reason(Prompt::Text(String::new()), greedy(1)).await, "EMPTY_PROMPT");
    assert_eq!(reason(Prompt::Messages(Vec::new()), greedy(1)).await, "EMPTY_PROMPT");
    assert_eq!(reason(question("  "), greedy(1)).await, "EMPTY_PROMPT");
    let answered = Prompt::Messages(vec![Message::new(Role::Assistant, "yes")]);
    assert_eq!(reason(answered, greedy(1)).await, "BAD_MESSAGES");
    assert_eq!(reason(question("why"), greedy(0)).await, "BAD_SAMPLING");
    let error = generator.generate(question(&"word ".repeat(1000)), greedy(64)).await.unwrap_err();
    assert_eq!(error.reason, "PROMPT_TOO_LONG");
    assert!(error.message.contains("1024"), "{}", error.message);
    assert_eq!(generator.waiting(), 0);
    // The whole window can be used.
    let prompt = "1 ".repeat(500);
    let tokens = generator.count_tokens(&prompt).unwrap() as u32;
    let stream = generator.generate(Prompt::Text(prompt), greedy(1024 - tokens)).await.unwrap();
    collect(stream).await;
}

/// A copy of the model's small files with links to the large ones.
fn copy_model(to: &Path) -> Option<PathBuf> {
    let from = data_dir()?.join(MODEL);
    // Writes the graph, where this test is the first one.
    generator()?;
    std::fs::create_dir_all(to.join("onnx")).unwrap();
    for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for name in ["model.onnx", "model.onnx.data"] {
        let path = std::path::absolute(from.join("onnx").join(name)).unwrap();
        std::fs::hard_link(&path, to.join("onnx").join(name))
            .or_else(|_| std::fs::copy(&path, to.join("onnx").join(name)).map(drop))
            .unwrap();
    }
    Some(to.to_owned())
}

#[tokio::test]
async fn broken_model_directories_have_clear_errors() {
    let temporary = tempfile::tempdir().unwrap();
    let Some(dir) = copy_model(&temporary.path().join("model")) else { return };
    let load =
        || Generator::load(&dir, GeneratorOptions { context_tokens: 256, ..GeneratorOptions::default() });
    let reason = || load().err().map(|error| error.reason);
    let options = GeneratorOptions { context_tokens: 9000, ..GeneratorOptions::default() };
    assert_eq!(Generator::load(&dir, options).err().map(|e| e.reason), Some("CONTEXT_TOO_LONG"));

    let config = std::fs::read_to_string(dir.join("tokenizer_config.json")).unwrap();
    let mut changed: serde_json::Value = serde_json::from_str(&config).unwrap();
    changed["chat_template"] = serde_json::Value::Null;
    std::fs::write(dir.join("tokenizer_config.json"), changed.to_string()).unwrap();
    let generator = load().unwrap();
    assert_eq!(generator.generate(question("why"), greedy(1)).await.unwrap_err().reason, "NO_CHAT_TEMPLATE");
    assert_eq!(generator.render(&[Message::new(Role::User, "why")]).unwrap_err().reason, "NO_CHAT_TEMPLATE");
    assert_eq!(text(&generator, "1, 2, 3, 4, 5,", greedy(2)).await.0, " 6");
    changed["chat_template"] = "{% if %}".into();
    std::fs::write(dir.join("tokenizer_config.json"), changed.to_string()).unwrap();
    assert_eq!(reason(), Some("BAD_CHAT_TEMPLATE"));
    std::fs::write(dir.join("tokenizer_config.json"), config).unwrap();

    let tokenizer = std::fs::read_to_string(dir.join("tokenizer.json")).unwrap();
    let larger = tokenizer
        .replace("\"id\":0,", "\"id\":50000,")
        .replace("\"<|endoftext|>\":0", "\"<|endoftext|>\":50000");
    std::fs::write(dir.join("tokenizer.json"), larger).unwrap();
    assert_eq!(reason(), Some("VOCABULARY_MISMATCH"));
    std::fs::remove_file(dir.join("tokenizer.json")).unwrap();
    assert_eq!(reason(), Some("MODEL_FILE_MISSING"));
    std::fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    assert_eq!(reason(), Some("DAMAGED_MODEL"));
    std::fs::write(dir.join("tokenizer.json"), tokenizer).unwrap();

    std::fs::remove_file(dir.join("onnx/model.onnx")).unwrap();
    std::fs::write(dir.join("onnx/model.onnx"), b"not a graph").unwrap();
    assert_eq!(reason(), Some("SESSION_FAILED"));
    assert_eq!(
        Generator::load(&dir.join("nothing"), GeneratorOptions::default()).err().map(|e| e.reason),
        Some("MODEL_NOT_FOUND")
    );
}
