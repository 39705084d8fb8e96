//! Files of models.

use trove::model::{ModelDir, decoder, fuzz, gguf::Gguf};

use super::{put, with_folder};

pub const CONFIG_WORDS: &[&str] = &[
    "\"model_type\":\"bert\"",
    "\"roberta\"",
    "\"distilbert\"",
    "\"llama\"",
    "\"hidden_size\":",
    "\"head_dim\":",
    "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}",
    "\"linear\"",
    "\"longrope\"",
    "\"qwen2\"",
    "\"gemma3_text\"",
    "\"phi3\"",
    "\"smollm3\"",
    "\"sliding_window\":2",
    "\"layer_types\":[\"sliding_attention\"]",
    "\"pad_token_id\":",
    "null",
];
pub const DIR_WORDS: &[&str] = &[
    "\u{1e}",
    "sentence_transformers.models.Pooling",
    "\"path\":\"../x\"",
    "\"pooling_mode\":\"cls\"",
    "\"max_seq_length\":",
    "\"prompts\":{\"query\":\"q\"}",
    "\"default_prompt_name\":\"query\"",
];
pub const TOKENIZER_WORDS: &[&str] = &[
    "\"WordPiece\"",
    "\"BPE\"",
    "\"Unigram\"",
    "\"WordLevel\"",
    "\"added_tokens\":[]",
    "\"BertPreTokenizer\"",
    "\"BertNormalizer\"",
    "\"ByteLevel\"",
    "\"TemplateProcessing\"",
    "\"max_input_chars_per_word\":",
    "null",
];
pub const TEMPLATE_WORDS: &[&str] = &[
    "{% for m in messages %}",
    "{% endfor %}",
    "{% if ",
    "{% endif %}",
    "{{ ",
    " }}",
    "range(9999)",
    "messages[0]",
    ".split(' ')",
    "|join",
    "raise_exception('x')",
    "{% macro m() %}",
    "{{ m() }}",
    "{% endmacro %}",
    "{% set x = x ~ x %}",
    " * 9999",
];

/// Reads the header, all weights, and imports the file.
pub fn gguf(bytes: &[u8]) {
    with_folder(|folder| {
        let path = folder.join("model.gguf");
        put(&path, bytes);
        let Ok(file) = Gguf::open(&path) else { return };
        let names: Vec<String> = file.tensor_names().map(str::to_owned).collect();
        for name in names {
            let shape = file.tensor(&name).map(|tensor| tensor.shape()).unwrap_or_default();
            let _ = file.weights(&name, &shape);
        }
        let _ = decoder::import_gguf(&path, &folder.join("imported"));
    });
}

/// A llama of one block in single precision, with a tokenizer of either kind.
pub fn gguf_seeds() -> Vec<Vec<u8>> {
    vec![gguf_seed(false), gguf_seed(true)]
}

fn gguf_seed(is_sentencepiece: bool) -> Vec<u8> {
    let (uint32, int32, float32, string, array) = (4_u32, 5_u32, 6_u32, 8_u32, 9_u32);
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let strings = |values: &[&str]| {
        let mut bytes = [string.to_le_bytes().as_slice(), &(values.len() as u64).to_le_bytes()].concat();
        values.iter().for_each(|value| bytes.extend(text(value)));
        bytes
    };
    let three = |kind: u32, values: [[u8; 4]; 3]| {
        [kind.to_le_bytes().as_slice(), &3_u64.to_le_bytes(), &values.concat()].concat()
    };
    let number = |value: u32| value.to_le_bytes().to_vec();
    let model = if is_sentencepiece { "llama" } else { "gpt2" };
    let values = [
        ("general.architecture", string, text("llama")),
        ("llama.block_count", uint32, number(1)),
        ("llama.embedding_length", uint32, number(4)),
        ("llama.feed_forward_length", uint32, number(4)),
        ("llama.attention.head_count", uint32, number(2)),
        ("llama.attention.head_count_kv", uint32, number(1)),
        ("llama.context_length", uint32, number(8)),
        ("llama.rope.freq_base", float32, 10_000_f32.to_le_bytes().to_vec()),
        ("tokenizer.ggml.model", string, text(model)),
        ("tokenizer.ggml.pre", string, text("smollm")),
        ("tokenizer.ggml.tokens", array, strings(&["a", "b", "ab"])),
        ("tokenizer.ggml.merges", array, strings(&["a b"])),
        ("tokenizer.ggml.scores", array, three(float32, [-1_f32, -2.0, -3.0].map(f32::to_le_bytes))),
        ("tokenizer.ggml.token_type", array, three(int32, [1_i32; 3].map(i32::to_le_bytes))),
        ("tokenizer.ggml.eos_token_id", uint32, number(2)),
    ];
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd.weight", &[4, 3]),
        ("output_norm.weight", &[4]),
        ("blk.0.attn_norm.weight", &[4]),
        ("blk.0.attn_q.weight", &[4, 4]),
        ("blk.0.attn_k.weight", &[4, 2]),
        ("blk.0.attn_v.weight", &[4, 2]),
        ("blk.0.attn_output.weight", &[4, 4]),
        ("blk.0.ffn_norm.weight", &[4]),
        ("blk.0.ffn_gate.weight", &[4, 4]),
        ("blk.0.ffn_up.weight", &[4, 4]),
        ("blk.0.ffn_down.weight", &[4, 4]),
    ];
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((values.len() as u64).to_le_bytes());
    for (key, kind, value) in values {
        file.extend(text(key));
        file.extend(kind.to_le_bytes());
        file.extend(value);
    }
    let mut offset = 0_u64;
    for (name, dimensions) in tensors {
        file.extend(text(name));
        file.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|dimension| file.extend(dimension.to_le_bytes()));
        file.extend(0_u32.to_le_bytes());
        file.extend(offset.to_le_bytes());
        offset += (4 * dimensions.iter().product::<u64>()).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32) + offset as usize, 1);
    file
}

/// Weights of an encoder, and of a decoder.
pub fn safetensors(bytes: &[u8]) {
    let (config, _) = fuzz::safetensors_seed();
    fuzz::safetensors(&config, bytes);
    with_folder(|folder| {
        put(&folder.join("config.json"), LLAMA);
        put(&folder.join("model.safetensors"), bytes);
        let _ = decoder::import_safetensors(folder, &folder.join("imported"));
    });
}

/// A small decoder's configuration.
const LLAMA: &[u8] = br#"{"model_type":"llama","hidden_size":4,"intermediate_size":4,"num_hidden_layers":1,
    "num_attention_heads":2,"num_key_value_heads":1,"vocab_size":3,"max_position_embeddings":8,
    "rms_norm_eps":1e-5,"rope_theta":10000,"rope_scaling":{"rope_type":"llama3","factor":8}}"#;

pub fn safetensors_seeds() -> Vec<Vec<u8>> {
    vec![fuzz::safetensors_seed().1]
}

/// A configuration, beside weights that fit the first of the seeds.
pub fn config(bytes: &[u8]) {
    let (_, weights) = fuzz::safetensors_seed();
    fuzz::safetensors(bytes, &weights);
    fuzz::decoder_config(bytes);
}

pub fn config_seeds() -> Vec<Vec<u8>> {
    vec![fuzz::safetensors_seed().0, LLAMA.to_vec()]
}

/// The small files of a model directory, each after the other, between bytes of 0x1e.
const DIR_FILES: [&str; 7] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "trove.json",
];

pub fn dir(bytes: &[u8]) {
    with_folder(|folder| {
        let model = folder.join("model");
        let made = std::fs::create_dir_all(model.join("1_Pooling"));
        made.unwrap_or_else(|error| panic!("cannot make {}: {error}", model.display()));
        put(&model.join("model.safetensors"), &fuzz::safetensors_seed().1);
        let mut parts = bytes.split(|byte| *byte == 0x1e);
        for name in DIR_FILES {
            match parts.next() {
                Some(part) if !part.is_empty() => put(&model.join(name), part),
                _ => drop(std::fs::remove_file(model.join(name))),
            }
        }
        let _ = decoder::DecoderDir::is_at(&model);
        if let Ok(loaded) = ModelDir::load(&model) {
            let _ = (loaded.model.query_prompt(), loaded.model.passage_prompt(), loaded.model.vocabulary());
        }
    });
}

pub fn dir_seeds() -> Vec<Vec<u8>> {
    let parts = [
        fuzz::safetensors_seed().0,
        br#"[{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"},
            {"idx":1,"path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
            {"idx":2,"path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#
            .to_vec(),
        br#"{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":false}"#.to_vec(),
        br#"{"max_seq_length":2}"#.to_vec(),
        br#"{"prompts":{"query":"query: "},"default_prompt_name":"query"}"#.to_vec(),
        b"{}".to_vec(),
    ];
    vec![parts.join(&0x1e)]
}

pub fn graph(bytes: &[u8]) {
    fuzz::graph(bytes);
}

/// A graph that gathers rows of a table.
pub fn graph_seeds() -> Vec<Vec<u8>> {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let node = [field(1, b"table"), field(1, b"input_ids"), field(2, b"out"), field(4, b"Gather")].concat();
    let table = [field(1, &[2, 2]), vec![2 << 3, 1], field(8, b"table"), field(9, &[0; 16])].concat();
    let graph = [field(1, &node), field(5, &table)].concat();
    let external = [field(1, b"location"), field(2, b"x.data")].concat();
    let outside = [field(8, b"table"), field(13, &external), vec![14 << 3, 1]].concat();
    let other = [field(1, &node), field(5, &outside)].concat();
    vec![field(7, &graph), field(7, &other)]
}

pub fn tokenizer(bytes: &[u8]) {
    trove::encoder::fuzz::tokenizer(bytes);
}

pub fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let bert = br###"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
        {"id":1,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
        {"id":2,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
        "pre_tokenizer":{"type":"BertPreTokenizer"},
        "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},
        {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}],"pair":[
        {"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":0}}],"special_tokens":{
        "[CLS]":{"id":"[CLS]","ids":[1],"tokens":["[CLS]"]},"[SEP]":{"id":"[SEP]","ids":[2],"tokens":["[SEP]"]}}},
        "decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","unk_token":"[UNK]",
        "continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2,"a":3,"##b":4,"hello":5}}}"###;
    let bpe = br#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
        "post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}"#;
    vec![bert.to_vec(), bpe.to_vec()]
}

pub fn template(bytes: &[u8]) {
    if let Ok(source) = std::str::from_utf8(bytes) {
        trove::generator::fuzz::template(source);
    }
}

pub fn template_seeds() -> Vec<Vec<u8>> {
    let chat = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m.content.strip() }}\
        {% elif loop.first %}{{ m['content'] | trim }}{% endif %}{% endfor %}{% if add_generation_prompt %}:{% endif %}";
    vec![chat.as_bytes().to_vec(), b"{% macro m(x) %}{{ x * 3 }}{% endmacro %}{{ m('a') }}".to_vec()]
}
