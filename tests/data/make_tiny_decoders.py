"""Makes the tiny decoders of tests/data/decoders: random weights of each family as `transformers` writes them, GGUF files
of some of them, and the logits that `transformers` computes for both.

    pip install torch==2.15.0 transformers==5.24.0 gguf==0.19.0 numpy safetensors
    python tests/data/make_tiny_decoders.py

Every run writes the same files with the same versions.
"""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

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
# Read back by `transformers` from GGUF, with the names and orders of llama.cpp's converter.
GGUF = ["llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3"]


def logits(model) -> list:
    with torch.no_grad():
        all_rows = model.eval().float()(torch.tensor([IDS])).logits[0]
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


def main() -> None:
    OUT.mkdir(exist_ok=True)
    golden = {"ids": IDS, "rows": ROWS, "transformers": transformers.__version__, "logits": {}}
    for name, config in MODELS.items():
        golden["logits"][name] = logits(write_safetensors(name, config))
        print(name, (OUT / name).stat().st_size)
    (OUT / "logits.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
