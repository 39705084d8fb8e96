//! Families whose weights are turned into a graph: the real model's weights under the names of each give its vectors.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use trove::encoder::EmbedOptions;

use super::{TEXTS, copy, cosine, data, load, minilm, read_json, refused, vectors, write};

const WIDTH: usize = 384;

type Tensors = HashMap<String, (Vec<usize>, Vec<u8>)>;

fn tensors(dir: &Path) -> Tensors {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let own = |(name, view): (String, TensorView<'_>)| (name, (view.shape().to_vec(), view.data().to_vec()));
    file.tensors().into_iter().map(own).collect()
}

fn store(dir: &Path, tensors: &Tensors) {
    let dtype = |name: &str| if name.ends_with("position_ids") { Dtype::I64 } else { Dtype::F32 };
    let views = tensors
        .iter()
        .map(|(name, (shape, data))| (name, TensorView::new(dtype(name), shape.clone(), data).unwrap()));
    write(dir, "model.safetensors", safetensors::serialize(views, None).unwrap());
}

fn configure(dir: &Path, changes: &[(&str, serde_json::Value)]) {
    let mut config = read_json(&dir.join("config.json"));
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    write(dir, "config.json", config.to_string());
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

async fn same_vectors(a: &Path, b: &Path) {
    let (a, b) = (load(a).unwrap(), load(b).unwrap());
    let a = vectors(&a, &TEXTS, EmbedOptions::document()).await;
    let b = vectors(&b, &TEXTS, EmbedOptions::document()).await;
    for (a, b) in a.iter().zip(&b) {
        assert!(cosine(a, b) > 0.999_999, "cosine {}", cosine(a, b));
    }
}

#[tokio::test]
async fn roberta_counts_positions_from_an_offset() {
    let Some(data) = data() else { return };
    let dir = copy(&minilm(&data));
    let mut all = tensors(&minilm(&data));
    let (shape, rows) = all.get_mut("embeddings.position_embeddings.weight").unwrap();
    // Two rows that no token may use, of values that would show.
    let unused = bytes(&[9.0; 2 * WIDTH]);
    *rows = [unused.as_slice(), rows].concat();
    shape[0] += 2;
    let named: Tensors = all.into_iter().map(|(name, tensor)| (format!("roberta.{name}"), tensor)).collect();
    store(dir.path(), &named);
    configure(
        dir.path(),
        &[
            ("model_type", "roberta".into()),
            ("max_position_embeddings", 514.into()),
            ("pad_token_id", 1.into()),
        ],
    );
    same_vectors(&minilm(&data), dir.path()).await;
}

#[tokio::test]
async fn distilbert_has_names_of_its_own_and_no_token_types() {
    let Some(data) = data() else { return };
    let dir = copy(&minilm(&data));
    let mut all = tensors(&minilm(&data));
    let types = floats(&all.remove("embeddings.token_type_embeddings.weight").unwrap().1);
    let (_, rows) = all.get_mut("embeddings.position_embeddings.weight").unwrap();
    let mut positions = floats(rows);
    for row in positions.chunks_exact_mut(WIDTH) {
        row.iter_mut().zip(&types).for_each(|(x, t)| *x += t);
    }
    *rows = bytes(&positions);
    let names = [
        ("encoder.layer", "distilbert.transformer.layer"),
        ("attention.self.query", "attention.q_lin"),
        ("attention.self.key", "attention.k_lin"),
        ("attention.self.value", "attention.v_lin"),
        ("attention.output.dense", "attention.out_lin"),
        ("attention.output.LayerNorm", "sa_layer_norm"),
        ("intermediate.dense", "ffn.lin1"),
        ("output.dense", "ffn.lin2"),
        ("output.LayerNorm", "output_layer_norm"),
    ];
    let renamed = |name: String| {
        let name = if name.starts_with("embeddings") { format!("distilbert.{name}") } else { name };
        if name.contains("embeddings") {
            return name;
        }
        names.iter().fold(name, |name, (from, to)| name.replacen(from, to, 1))
    };
    store(dir.path(), &all.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect());
    let config = serde_json::json!({
        "model_type": "distilbert", "dim": WIDTH, "hidden_dim": 1536, "n_heads": 12, "n_layers": 6,
        "max_position_embeddings": 512, "vocab_size": 30522, "activation": "gelu", "pad_token_id": 0
    });
    write(dir.path(), "config.json", config.to_string());
    same_vectors(&minilm(&data), dir.path()).await;
}

#[tokio::test]
async fn half_precision_weights_and_old_names_are_read() {
    let Some(data) = data() else { return };
    let dir = copy(&minilm(&data));
    let all = tensors(&minilm(&data));
    let renamed = |name: String| {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    };
    let all: Tensors = all.into_iter().map(|(name, t)| (format!("bert.{}", renamed(name)), t)).collect();
    let halves: HashMap<_, _> = all
        .iter()
        .filter(|(name, _)| !name.ends_with("position_ids"))
        .map(|(name, (shape, data))| {
            let data: Vec<u8> =
                floats(data).iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
            (name.clone(), (shape.clone(), data))
        })
        .collect();
    let views = halves
        .iter()
        .map(|(name, (shape, data))| (name, TensorView::new(Dtype::F16, shape.clone(), data).unwrap()));
    write(dir.path(), "model.safetensors", safetensors::serialize(views, None).unwrap());
    same_vectors(&minilm(&data), dir.path()).await;
}

#[test]
fn other_families_need_a_graph_and_are_told_so() {
    let Some(data) = data() else { return };
    let dir = copy(&minilm(&data));
    configure(dir.path(), &[("model_type", "mpnet".into())]);
    let error = refused(dir.path());
    assert_eq!(error.reason, "UNSUPPORTED_MODEL");
    for word in ["mpnet", "bert", "roberta", "distilbert", "onnx/model.onnx"] {
        assert!(error.message.contains(word), "{error}");
    }
    configure(dir.path(), &[("model_type", "llama".into())]);
    assert!(refused(dir.path()).message.contains("writes text"));
}
