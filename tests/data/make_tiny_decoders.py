"""Makes the tiny decoders of tests/data/decoders: random weights of each family as `transformers` writes them, GGUF files
of some of them, and the logits that `transformers` computes for both.

    pip install torch==2.15.0 transformers==5.24.0 gguf==0.19.0 sentencepiece==0.2.3 accelerate numpy
    python tests/data/make_tiny_decoders.py

Every run writes the same files with the same versions.
"""

import io
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch
import transformers

OUT = Path(__file__).parent / "decoders"
VOCABULARY = 96
IDS = [(7 * n * n + 3 * n + 5) % VOCABULARY for n in range(40)]
# Before the first window ends, at its ends, and behind.
ROWS = [0, 1, 7, 8, 20, 39]

COMMON = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=48,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
LONG = dict(
    rope_type="longrope",
    rope_theta=10000.0,
    partial_rotary_factor=0.5,
    short_factor=[1.0 + n / 8 for n in range(8)],
    long_factor=[2.0 + n for n in range(8)],
    original_max_position_embeddings=64,
)
T = transformers
MODELS = {
    "llama": T.LlamaConfig(**COMMON, num_hidden_layers=2, tie_word_embeddings=False),
    "llama3": T.LlamaConfig(
        **COMMON, num_hidden_layers=2, head_dim=16, rope_parameters=LLAMA3, tie_word_embeddings=True
    ),
    "mistral": T.MistralConfig(**COMMON, num_hidden_layers=2, head_dim=16, sliding_window=8),
    "smollm3": T.SmolLM3Config(**COMMON, num_hidden_layers=4, tie_word_embeddings=True),
    "qwen2": T.Qwen2Config(**COMMON, num_hidden_layers=2, tie_word_embeddings=True),
    "qwen2_windows": T.Qwen2Config(
        **COMMON,
        num_hidden_layers=3,
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=1,
        tie_word_embeddings=False,
    ),
    "qwen3": T.Qwen3Config(**COMMON, num_hidden_layers=2, head_dim=16, tie_word_embeddings=False),
    "phi3": T.Phi3Config(**COMMON, num_hidden_layers=2, sliding_window=None),
    "phi3_long": T.Phi3Config(
        **{**COMMON, "num_attention_heads": 2, "num_key_value_heads": 1},
        num_hidden_layers=2,
        sliding_window=16,
        original_max_position_embeddings=64,
        rope_parameters=LONG,
        tie_word_embeddings=True,
    ),
    "gemma2": T.Gemma2Config(
        **COMMON, num_hidden_layers=2, head_dim=16, sliding_window=8, query_pre_attn_scalar=24,
        attn_logit_softcapping=2.0, final_logit_softcapping=1.5,
    ),
    "gemma3": T.Gemma3TextConfig(
        **COMMON,
        num_hidden_layers=3,
        head_dim=16,
        sliding_window=8,
        query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
        },
    ),
}
# Written in two files with an index.
SHARDED = "qwen3"
# Written as GGUF too, with the names and orders of llama.cpp's converter.
GGUF = {
    "llama": "llama",
    "llama3": "llama",
    "smollm3": "smollm3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3_long": "phi3",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
}
# Those whose GGUF `transformers` reads as it is; of qwen3 it does not read the width of heads.
READ_BACK = ["llama", "qwen2"]
INTERLEAVED = ["llama", "smollm3"]
# Formats of ggml and bytes of a block; the last ones are super-blocks of 256.
FORMATS = {
    "Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210,
}


def logits(model) -> list:
    with torch.no_grad():
        all_rows = model.eval()(torch.tensor([IDS])).logits[0]
    return [[float(f"{x:.7g}") for x in all_rows[row].tolist()] for row in ROWS]


def randomize(model, seed: int) -> None:
    """Weights large enough that every part matters, in values that bfloat16 holds."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            is_norm = "norm" in name
            about = (0.0 if "gemma" in type(model).__name__.lower() else 1.0) if is_norm else 0.0
            scale = 0.3 if is_norm or name.endswith("bias") else (1.0 if "embed" in name else 0.25)
            value.copy_((about + scale * noise).to(torch.bfloat16).float())


def write_safetensors(name: str, config) -> object:
    directory = OUT / name
    shutil.rmtree(directory, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
    randomize(model, seed=sum(name.encode()))
    limit = "60KB" if name == SHARDED else "1GB"
    model.to(torch.bfloat16).save_pretrained(directory, max_shard_size=limit)
    (directory / "generation_config.json").unlink(missing_ok=True)
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )


def permuted(weights: np.ndarray, heads: int) -> np.ndarray:
    """As `LlamaModel.permute` of llama.cpp's converter: pairs that are halves apart become neighbours."""
    shape = (heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape)


def llama3_factors(config) -> np.ndarray:
    """`rope_freqs` of llama.cpp's converter."""
    rope = config.rope_parameters
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    factors = []
    for pair in range(config.head_dim // 2):
        wavelength = 2 * np.pi * rope["rope_theta"] ** (2 * pair / config.head_dim)
        if wavelength < high:
            factors.append(1.0)
        elif wavelength > low:
            factors.append(rope["factor"])
        else:
            smooth = (rope["original_max_position_embeddings"] / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write_gguf(name: str, model) -> None:
    config, architecture = model.config, GGUF[name]
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_dimension_count(int(head * rope.get("partial_rotary_factor", 1.0)))
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    # No converter writes these; the tiny models differ from what llama.cpp takes for granted.
    if architecture == "gemma3":
        writer.add_uint32("gemma3.attention.sliding_window_pattern", 2)
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        scale = config.max_position_embeddings / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(original))))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], dtype=np.float32))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], dtype=np.float32))
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for tensor, value in model.state_dict().items():
        if tensor == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = value.float().numpy()
        if architecture.startswith("gemma") and tensor.endswith("norm.weight"):
            array = array + 1
        for part, heads in (("q_proj.weight", config.num_attention_heads), ("k_proj.weight", config.num_key_value_heads)):
            if architecture in INTERLEAVED and tensor.endswith(part):
                array = permuted(array, heads)
        array = array if array.ndim == 1 else array.astype(np.float16)
        writer.add_tensor(names.get_name(tensor, try_suffixes=(".weight", ".bias")), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_back(name: str, expected: list) -> None:
    """What `transformers` computes of the GGUF file; weights are rounded to 16-bit floats there."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        OUT, gguf_file=f"{name}.gguf", dtype=torch.float32, attn_implementation="eager"
    )
    difference = np.abs(np.array(logits(model)) - np.array(expected)).max()
    assert difference < 1e-3, f"{name}: the GGUF file gives logits that differ by {difference}"


def blocks() -> dict:
    """Random blocks of each format and what ggml's own definition makes of them, by the package `gguf`."""
    random = np.random.default_rng(7)
    golden = {}
    for name, size in FORMATS.items():
        kind = gguf.GGMLQuantizationType[name]
        rows = random.integers(0, 256, (3, size), dtype=np.uint8)
        halves = [208] if name == "Q6_K" else ([0, 2] if name in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else [0])
        for at in halves:
            rows[:, at : at + 2] = random.normal(size=3).astype(np.float16).view(np.uint8).reshape(3, 2)
        values = gguf.quants.dequantize(rows, kind)
        golden[name] = {
            "type": int(kind),
            "bytes": [bytes(row).hex() for row in rows],
            "values": [[float(f"{x:.8g}") for x in row] for row in values.tolist()],
        }
    return golden


TEXTS = [
    "path.join() joins all given path segments together.",
    " Two  spaces, and a newline:\nnext line",
    "The path.resolve() method: '/foo/bar' \u00e9\u4e2d\U0001f600",
    "1234567890 ... windows\\style",
    "",
]


def write_sentencepiece() -> dict:
    """A tokenizer as GGUF files have it, and what SentencePiece makes of texts."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((Path(__file__).parent / "node-path.md").read_text().splitlines()),
        model_writer=model, vocab_size=500, model_type="bpe", byte_fallback=True, character_coverage=0.99,
        normalization_rule_name="identity", remove_extra_whitespaces=False, num_threads=1, minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    count = processor.vocab_size()
    kind = lambda i: (
        gguf.TokenType.UNKNOWN if processor.is_unknown(i) else gguf.TokenType.CONTROL if processor.is_control(i)
        else gguf.TokenType.BYTE if processor.is_byte(i) else gguf.TokenType.NORMAL
    )
    writer = gguf.GGUFWriter(OUT / "sentencepiece.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([processor.id_to_piece(i) for i in range(count)])
    writer.add_token_scores([processor.get_score(i) for i in range(count)])
    writer.add_token_types([int(kind(i)) for i in range(count)])
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return {"vocabulary": count, "ids": [[text, processor.encode(text)] for text in TEXTS]}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    golden = {"ids": IDS, "rows": ROWS, "transformers": transformers.__version__, "logits": {}}
    for name, config in MODELS.items():
        model = write_safetensors(name, config)
        golden["logits"][name] = logits(model)
        if name in GGUF:
            write_gguf(name, model)
        if name in READ_BACK:
            read_back(name, golden["logits"][name])
    write = lambda name, value: (OUT / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")
    write("logits.json", golden)
    write("blocks.json", blocks())
    write("sentencepiece.json", write_sentencepiece())


if __name__ == "__main__":
    main()
