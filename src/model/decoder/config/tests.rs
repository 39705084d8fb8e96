use serde_json::{Value, json};

use super::*;

fn read(more: &[(&str, Value)]) -> Result<DecoderConfig> {
    let mut file = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6,
        "num_attention_heads": 4, "vocab_size": 32, "max_position_embeddings": 16384, "rms_norm_eps": 1e-5,
    });
    for (key, value) in more {
        file[key] = value.clone();
    }
    DecoderConfig::from_json(file.to_string().as_bytes())
}

fn tables(config: &DecoderConfig) -> (Vec<f32>, Vec<f32>) {
    config.ropes[0].tables(config.context)
}

#[test]
fn both_spellings_of_the_rotary_embedding_give_the_same_table() {
    for (theta, scaling) in [
        (
            500_000.0,
            json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192 }),
        ),
        (20_000.0, json!({ "rope_type": "linear", "factor": 2.0 })),
        (30_000.0, json!({ "rope_type": "default" })),
    ] {
        let old = read(&[("rope_theta", json!(theta)), ("rope_scaling", scaling.clone())]).unwrap();
        let mut parameters = scaling;
        parameters["rope_theta"] = json!(theta);
        let new = read(&[("rope_parameters", parameters)]).unwrap();
        assert_eq!(new, old);
        assert_eq!(new.ropes[0].base, theta);
        let table = tables(&new);
        assert!(table == tables(&old) && table != tables(&read(&[]).unwrap()));
    }
    assert_eq!(read(&[]).unwrap().ropes[0].base, DEFAULT_ROPE_BASE);
    assert_eq!(read(&[("rope_parameters", Value::Null)]).unwrap(), read(&[]).unwrap());
    let part = json!({ "rope_theta": 10000.0, "partial_rotary_factor": 0.5 });
    assert_eq!(read(&[("rope_parameters", part)]).unwrap().ropes[0].pairs(), 4);
}

#[test]
fn windows_and_positions_by_block() {
    let windows = |more: &[(&str, Value)]| -> Vec<Option<usize>> {
        read(more).unwrap().blocks.iter().map(|block| block.window).collect()
    };
    let window = ("sliding_window", json!(8));
    let kind = |name: &str| ("model_type", json!(name));
    assert_eq!(windows(std::slice::from_ref(&window)), [None; 6], "llama has none");
    assert_eq!(windows(&[kind("mistral"), window.clone()]), [Some(8); 6]);
    assert_eq!(windows(&[kind("mistral"), ("sliding_window", Value::Null)]), [None; 6]);
    assert_eq!(windows(&[kind("qwen2"), window.clone(), ("use_sliding_window", json!(false))]), [None; 6]);
    let some =
        [kind("qwen2"), window.clone(), ("use_sliding_window", json!(true)), ("max_window_layers", json!(4))];
    assert_eq!(windows(&some), [None, None, None, None, Some(8), Some(8)]);
    assert_eq!(windows(&[kind("gemma2"), window.clone()]), [Some(8), None, Some(8), None, Some(8), None]);
    let types = [
        "full_attention",
        "sliding_attention",
        "full_attention",
        "full_attention",
        "full_attention",
        "full_attention",
    ];
    let typed = [kind("gemma3_text"), window.clone(), ("layer_types", json!(types))];
    assert_eq!(windows(&typed), [None, Some(8), None, None, None, None]);

    let gemma3 = read(&[kind("gemma3_text"), window, ("rope_theta", json!(1e6))]).unwrap();
    let ropes: Vec<_> = gemma3.blocks.iter().map(|block| gemma3.ropes[block.rope.unwrap()].base).collect();
    assert_eq!(ropes, [1e4, 1e4, 1e4, 1e4, 1e4, 1e6]);
    let smollm3 = read(&[kind("smollm3")]).unwrap();
    let ropes: Vec<_> = smollm3.blocks.iter().map(|block| block.rope).collect();
    assert_eq!(ropes, [Some(0), Some(0), Some(0), None, Some(0), Some(0)]);
}

#[test]
fn long_factors_limit_the_context_to_where_the_short_ones_hold() {
    let scaling = json!({ "type": "longrope", "short_factor": vec![1.5; 8], "long_factor": vec![4.0; 8] });
    let phi = [
        ("model_type", json!("phi3")),
        ("rope_scaling", scaling),
        ("original_max_position_embeddings", json!(4096)),
    ];
    let config = read(&phi).unwrap();
    assert_eq!((config.context, config.ropes[0].factors.as_slice()), (4096, [1.5; 8].as_slice()));
    assert!((config.ropes[0].magnitude - (1.0 + 4_f64.ln() / 4096_f64.ln()).sqrt()).abs() < 1e-12);
    assert_eq!(read(&phi[..2]).unwrap_err().reason, "UNSUPPORTED_MODEL", "no original context");
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (key, value, named) in [
        ("model_type", json!("mixtral"), "mixtral"),
        ("model_type", json!("gemma3"), "gemma3"),
        ("hidden_act", json!("relu2"), "relu2"),
        ("attention_bias", json!(true), "attention_bias"),
        ("mlp_bias", json!(true), "mlp_bias"),
        ("rope_scaling", json!({ "type": "yarn", "factor": 4.0 }), "yarn"),
        ("rope_scaling", json!({ "rope_type": "dynamic", "factor": 2.0 }), "dynamic"),
        ("rope_scaling", json!({ "rope_type": "linear" }), "factor"),
        ("layer_types", json!(vec!["chunked_attention"; 6]), "chunked_attention"),
        ("layer_types", json!(vec!["full_attention"; 2]), "6 layer_types"),
        ("layer_types", json!(vec!["sliding_attention"; 6]), "sliding_window"),
        ("quantization_config", json!({ "quant_method": "awq" }), "awq"),
        ("use_bidirectional_attention", json!(true), "see those behind them"),
        ("num_hidden_layers", json!(5000), "5000"),
        ("num_attention_heads", json!(0), "sizes"),
        ("num_key_value_heads", json!(3), "do not fit"),
        ("rope_theta", json!(-1.0), "positive"),
        ("partial_rotary_factor", json!(1.5), "part of a head"),
    ] {
        let error = read(&[(key, value)]).unwrap_err();
        assert_eq!(error.reason, "UNSUPPORTED_MODEL", "{key}");
        assert!(error.message.contains(named), "{key}: {}", error.message);
    }
    assert!(read(&[("model_type", json!("mixtral"))]).unwrap_err().message.contains("gemma3_text"));
    assert_eq!(DecoderConfig::from_json(b"{").unwrap_err().reason, "DAMAGED_MODEL");
}
