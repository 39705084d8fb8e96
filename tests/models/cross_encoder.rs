//! Cross-encoders: a small BertForSequenceClassification with the real vocabulary and a RobertaForSequenceClassification
//! with a small one, both with weights from a counter, whose logits tests/data/make_tiny_cross_encoder.py computes by
//! itself.

use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorView};
use tonic::Code;
use trove::encoder::{Activation, CrossEncoder, Device, Precision, check_model};
use trove::error::Error;
use trove::model::Import;
use trove::proto::document_service_client::DocumentServiceClient;
use trove::proto::embedding_service_client::EmbeddingServiceClient;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, ModelKind, document, rerank};

use super::service::{Server, fine, reason, text};
use super::{copy, data, load, minilm, options, read_json, tiny, write};

const WIDTH: usize = 32;
const INNER: usize = 64;
const LAYERS: usize = 2;
const TOKENS: usize = 64;

/// What tells two kinds of models apart.
struct Family {
    name: &'static str,
    architecture: &'static str,
    vocabulary: usize,
    types: usize,
    padding: usize,
    /// Rows of the position table before the first token's.
    offset: usize,
    /// The two layers of the head.
    head: [&'static str; 2],
}

const BERT: Family = Family {
    name: "bert",
    architecture: "BertForSequenceClassification",
    vocabulary: 30522,
    types: 2,
    padding: 0,
    offset: 0,
    head: ["bert.pooler.dense", "classifier"],
};
const ROBERTA: Family = Family {
    name: "roberta",
    architecture: "RobertaForSequenceClassification",
    vocabulary: 268,
    types: 1,
    padding: 1,
    offset: 2,
    head: ["classifier.dense", "classifier.out_proj"],
};

/// Numbers from -0.5 to 0.5: SplitMix64 of a counter, its upper 24 bits.
fn uniform(seed: u64, count: usize) -> impl Iterator<Item = f64> {
    (0..count as u64).map(move |number| {
        let mut x = (number + (seed << 32) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        (x >> 40) as f64 / (1 << 24) as f64 - 0.5
    })
}

type Shape = (String, Vec<usize>, f64, f64);

fn norm(name: &str) -> [Shape; 2] {
    [(format!("{name}.weight"), vec![WIDTH], 0.2, 1.0), (format!("{name}.bias"), vec![WIDTH], 0.2, 0.0)]
}

fn dense(name: &str, rows: usize, columns: usize) -> [Shape; 2] {
    [
        (format!("{name}.weight"), vec![rows, columns], 1.0, 0.0),
        (format!("{name}.bias"), vec![rows], 0.2, 0.0),
    ]
}

/// Every tensor's name, shape, factor and summand, in the order of their seeds.
fn shapes(family: &Family) -> Vec<Shape> {
    let tables =
        [("word", family.vocabulary), ("position", family.offset + TOKENS), ("token_type", family.types)];
    let table = |(name, rows)| (format!("embeddings.{name}_embeddings.weight"), vec![rows, WIDTH], 1.0, 0.0);
    let mut all: Vec<Shape> = tables.map(table).into();
    all.extend(norm("embeddings.LayerNorm"));
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            all.extend(dense(&name(&format!("attention.{part}")), WIDTH, WIDTH));
        }
        all.extend(norm(&name("attention.output.LayerNorm")));
        all.extend(dense(&name("intermediate.dense"), INNER, WIDTH));
        all.extend(dense(&name("output.dense"), WIDTH, INNER));
        all.extend(norm(&name("output.LayerNorm")));
    }
    all.iter_mut().for_each(|shape| shape.0 = format!("{}.{}", family.name, shape.0));
    all.extend(dense(family.head[0], WIDTH, WIDTH));
    all.extend(dense(family.head[1], 1, WIDTH));
    all
}

/// Writes the model; `activation` is what sentence-transformers calls it, if anything.
fn model(family: &Family, data: &Path, activation: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tensors: Vec<_> = shapes(family)
        .into_iter()
        .zip(0..)
        .map(|((name, shape, factor, summand), seed)| {
            let count = shape.iter().product();
            let values = uniform(seed, count).map(|x| (x * factor + summand) as f32);
            (name, shape, values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    write(dir.path(), "model.safetensors", safetensors::serialize(views, None).unwrap());
    let mut config = serde_json::json!({
        "model_type": family.name, "architectures": [family.architecture], "id2label": {"0": "LABEL_0"},
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": 4, "num_hidden_layers": LAYERS,
        "max_position_embeddings": family.offset + TOKENS, "type_vocab_size": family.types,
        "vocab_size": family.vocabulary, "pad_token_id": family.padding, "layer_norm_eps": 1e-12, "hidden_act": "gelu"
    });
    if let Some(activation) = activation {
        config["sbert_ce_default_activation_function"] = activation.into();
    }
    write(dir.path(), "config.json", config.to_string());
    let tokenizer = if family.name == "bert" { minilm(data) } else { tiny() };
    std::fs::copy(tokenizer.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    dir
}

const IDENTITY: &str = "torch.nn.modules.linear.Identity";

fn golden(family: &Family) -> Vec<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/cross_encoder.json");
    read_json(&path)[family.name].as_array().unwrap().clone()
}

fn field(item: &serde_json::Value, name: &str) -> String {
    item[name].as_str().unwrap().to_owned()
}

fn load_cross_encoder(dir: &Path, device: Device, precision: Precision) -> Result<Arc<CrossEncoder>, Error> {
    CrossEncoder::load(dir, options(device, precision))
}

async fn agrees(family: &Family, model: &CrossEncoder, tolerance: f64) {
    for item in golden(family) {
        let scored = model.score(field(&item, "query"), vec![field(&item, "text")]).await.unwrap();
        let (expected, got) = (item["logit"].as_f64().unwrap(), f64::from(scored.scores[0]));
        assert!((expected - got).abs() < tolerance, "expected {expected}, got {got}: {item}");
        assert_eq!(scored.tokens as usize, item["input_ids"].as_array().unwrap().len(), "{item}");
        assert_eq!(scored.truncated == 1, item["truncated"].as_bool().unwrap(), "{item}");
    }
}

#[tokio::test]
async fn logits_are_those_that_numpy_computes() {
    let Some(data) = data() else { return };
    for family in [BERT, ROBERTA] {
        let dir = model(&family, &data, Some(IDENTITY));
        let exact = load_cross_encoder(dir.path(), Device::Cpu, Precision::Fp32).unwrap();
        assert_eq!((exact.info().activation, exact.info().max_tokens), (Activation::Identity, 64));
        agrees(&family, &exact, 2e-5).await;
        let quantized = load_cross_encoder(dir.path(), Device::Cpu, Precision::Int8).unwrap();
        agrees(&family, &quantized, 0.1).await;
        let fastest = load_cross_encoder(dir.path(), Device::Auto, Precision::Auto).unwrap();
        agrees(&family, &fastest, 0.05).await;
    }
}

#[tokio::test]
async fn texts_of_one_call_score_as_they_do_alone() {
    let Some(data) = data() else { return };
    let dir = model(&BERT, &data, Some(IDENTITY));
    let exact = load_cross_encoder(dir.path(), Device::Cpu, Precision::Fp32).unwrap();
    let items = golden(&BERT);
    let query = field(&items[0], "query");
    let texts: Vec<String> =
        items.iter().filter(|i| i["query"] == query.as_str()).map(|i| field(i, "text")).collect();
    let together = exact.score(query, texts).await.unwrap();
    for (score, item) in together.scores.iter().zip(items.iter().filter(|i| i["query"] == items[0]["query"]))
    {
        assert!(
            (f64::from(*score) - item["logit"].as_f64().unwrap()).abs() < 2e-5,
            "in a padded batch: {item}"
        );
    }
    let error = exact.score("a".to_owned(), vec!["b".to_owned(), " ".to_owned()]).await.unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), ("EMPTY_INPUT", Some("texts[1]")));
}

#[tokio::test]
async fn a_ready_made_or_imported_graph_scores_alike_and_the_activation_is_the_files() {
    let Some(data) = data() else { return };
    let dir = model(&BERT, &data, None);
    let models = tempfile::tempdir().unwrap();
    let import = Import {
        source: dir.path(),
        label: "a test",
        models: models.path(),
        name: "cross",
        replace: false,
        without_head: false,
    };
    import.run(|staged| check_model(staged, true)).unwrap();
    let imported = models.path().join("cross");
    let ready = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "onnx/model.onnx"] {
        write(ready.path(), name, std::fs::read(imported.join(name)).unwrap());
    }
    for dir in [imported.as_path(), ready.path()] {
        let model = load_cross_encoder(dir, Device::Cpu, Precision::Fp32).unwrap();
        assert_eq!(model.info().activation, Activation::Sigmoid);
        for item in golden(&BERT) {
            let scored = model.score(field(&item, "query"), vec![field(&item, "text")]).await.unwrap();
            let expected = 1.0 / (1.0 + (-item["logit"].as_f64().unwrap()).exp());
            assert!((f64::from(scored.scores[0]) - expected).abs() < 1e-5, "{item}");
        }
    }
}

#[test]
fn each_kind_is_refused_as_the_other() {
    let Some(data) = data() else { return };
    let dir = model(&BERT, &data, None);
    let error = load(dir.path()).err().unwrap();
    assert_eq!(error.reason, "WRONG_MODEL_KIND");
    assert!(error.message.contains("expected an encoder, got a cross-encoder"), "{}", error.message);
    for dir in [minilm(&data), tiny()] {
        let error = load_cross_encoder(&dir, Device::Cpu, Precision::Fp32).err().unwrap();
        assert_eq!(error.reason, "WRONG_MODEL_KIND");
    }
    // A classifier of several labels scores no pairs, and its states are no vectors.
    let mut config = read_json(&dir.path().join("config.json"));
    config["id2label"] = serde_json::json!({"0": "no", "1": "yes"});
    write(dir.path(), "config.json", config.to_string());
    let as_cross_encoder = load_cross_encoder(dir.path(), Device::Cpu, Precision::Fp32).err().unwrap();
    for error in [as_cross_encoder, load(dir.path()).err().unwrap()] {
        assert!(error.reason == "UNSUPPORTED_MODEL" && error.message.contains("of 2 labels"), "{error}");
    }
    // A head that is not there is damage.
    let dir = copy(&minilm(&data));
    let mut config = read_json(&dir.path().join("config.json"));
    config["architectures"] = serde_json::json!(["BertForSequenceClassification"]);
    config["num_labels"] = 1.into();
    write(dir.path(), "config.json", config.to_string());
    let error = load_cross_encoder(dir.path(), Device::Cpu, Precision::Fp32).err().unwrap();
    assert_eq!(error.reason, "DAMAGED_MODEL");
}

#[tokio::test]
async fn rerank_and_search_over_grpc() {
    let Some(fetched) = data() else { return };
    let data = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(fetched.join("runtime"), data.path().join("runtime")).unwrap();
    let models = data.path().join("models");
    let cross = model(&BERT, &fetched, Some(IDENTITY));
    for (source, name) in [(minilm(&fetched).as_path(), "mini"), (cross.path(), "cross")] {
        Import { source, label: "a test", models: &models, name, replace: false, without_head: false }
            .run(fine)
            .unwrap();
    }
    let server = Server::start_with(data.path(), "mini", "cross").await;
    let loaded = server.models().await;
    let kinds: Vec<_> = loaded.iter().map(|m| (m.id.as_str(), m.kind(), m.activation())).collect();
    assert_eq!(kinds[1], ("cross", ModelKind::CrossEncoder, proto::Activation::Identity));

    let mut embedding = EmbeddingServiceClient::new(server.channel.clone());
    let items = golden(&BERT);
    let asked = |model: &str, texts: Vec<String>, limit| {
        let query = field(&items[0], "query");
        proto::RerankRequest { model: model.to_owned(), query, texts, limit }
    };
    let texts = vec![field(&items[1], "text"), field(&items[0], "text"), field(&items[4], "text")];
    let response = embedding.rerank(asked("", texts.clone(), 2)).await.unwrap().into_inner();
    assert_eq!(response.results.iter().map(|r| r.index).collect::<Vec<_>>(), [2, 1]);
    assert!((f64::from(response.results[1].score) - items[0]["logit"].as_f64().unwrap()).abs() < 2e-5);
    assert!(response.model.starts_with("cross@"));
    assert_eq!(response.usage.unwrap().truncated_inputs, 1);
    for (model, texts, expected) in [
        ("mini", texts.clone(), (Code::NotFound, "UNKNOWN_MODEL")),
        ("", vec![], (Code::InvalidArgument, "EMPTY_REQUEST")),
        ("", vec![String::new()], (Code::InvalidArgument, "EMPTY_INPUT")),
    ] {
        let error = embedding.rerank(asked(model, texts, 0)).await.unwrap_err();
        assert_eq!(reason(&error), (expected.0, expected.1.to_owned()));
    }

    let document = |(id, item): (usize, &serde_json::Value)| proto::Document {
        id: id.to_string(),
        content: Some(document::Content::Text(field(item, "text"))),
        ..Default::default()
    };
    server.create("texts", "mini").await.unwrap();
    let documents = items[..2].iter().enumerate().map(document).collect();
    let request =
        proto::UpsertDocumentsRequest { collection: "texts".to_owned(), documents, ..Default::default() };
    DocumentServiceClient::new(server.channel.clone()).upsert_documents(request).await.unwrap();
    let search = |query: &str, method| proto::SearchRequest {
        collection: "texts".to_owned(),
        query: Some(proto::SearchQuery { query: Some(text(query)) }),
        rerank: Some(proto::Rerank { method: Some(method), depth: 0 }),
        ..Default::default()
    };
    let by = |id: &str| rerank::Method::CrossEncoder(id.to_owned());
    let mut searches = SearchServiceClient::new(server.channel.clone());
    let query = field(&items[0], "query");
    let hits = searches.search(search(&query, by("cross"))).await.unwrap().into_inner().hits;
    for hit in &hits {
        let item = &items[hit.passage.as_ref().unwrap().document_id.parse::<usize>().unwrap()];
        assert!((f64::from(hit.rerank_score.unwrap()) - item["logit"].as_f64().unwrap()).abs() < 2e-5);
    }
    assert!(hits.len() == 2 && hits[0].rerank_score > hits[1].rerank_score);
    let error = searches.search(search(&query, by("mini"))).await.unwrap_err();
    assert_eq!(reason(&error), (Code::NotFound, "UNKNOWN_MODEL".to_owned()));
}
