#!/usr/bin/env python3
"""Make tests/data/tiny-dense: a BERT model with random weights in sentence-transformers' layout, and its vectors.

Its transformer, its pooling and two dense layers are each in a folder of their own, and its vectors are cut to their
leading components. torch and transformers compute the states; mean, layers, cut and length are computed here as
sentence-transformers' modules do (it is not needed). Needs torch, transformers and safetensors.
"""
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "tiny-dense"
TRANSFORMER, POOLING, LAYERS = "0_Transformer", "pooling/of tokens", ["2_Dense", "3_Dense"]
WIDTH, INNER, KEPT = 16, 12, 6
ACTIVATIONS = {"Identity": lambda x: x, "Tanh": torch.tanh, "ReLU": torch.relu, "Sigmoid": torch.sigmoid}
TEXTS = ["the lake is late", "a 🙂é the", "lake", "The ABC of lakes, and what is there to see by them in the late summer."]


def write(name: str, value) -> None:
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def dense(folder: str, layer: torch.nn.Linear, activation: str) -> None:
    module = "linear" if activation == "Identity" else "activation"
    write(f"{folder}/config.json", {"in_features": layer.in_features, "out_features": layer.out_features,
                                    "bias": layer.bias is not None,
                                    "activation_function": f"torch.nn.modules.{module}.{activation}"})
    named = {f"linear.{name}": value.detach().contiguous() for name, value in layer.named_parameters()}
    save_file(named, FOLDER / folder / "model.safetensors")


def main() -> None:
    torch.manual_seed(5)
    shutil.rmtree(FOLDER, ignore_errors=True)
    tokenizer = Tokenizer.from_file(str(HERE / "tiny-roberta" / "tokenizer.json"))
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=WIDTH, num_hidden_layers=1,
                        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64, pad_token_id=1,
                        initializer_range=0.4)
    model = BertModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(FOLDER / TRANSFORMER)
    (FOLDER / TRANSFORMER / "tokenizer.json").write_text(tokenizer.to_str())
    write(f"{TRANSFORMER}/sentence_bert_config.json", {"max_seq_length": 60, "do_lower_case": False})
    write(f"{POOLING}/config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    first, second = torch.nn.Linear(WIDTH, INNER), torch.nn.Linear(INNER, WIDTH // 2, bias=False)
    dense(LAYERS[0], first, "Tanh")
    dense(LAYERS[1], second, "Identity")
    kinds = ["Transformer", "Pooling", "Dense", "Dense", "Normalize"]
    paths = [TRANSFORMER, POOLING, *LAYERS, "4_Normalize"]
    write("modules.json", [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                           for i, (kind, path) in enumerate(zip(kinds, paths))])
    write("config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None, "truncate_dim": KEPT})
    items = []
    with torch.no_grad():
        for text in TEXTS:
            ids = torch.tensor([tokenizer.encode(text).ids])
            pooled = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1)
            item = {"text": text, "pooled": pooled[0].tolist()}
            for name, activation in ACTIVATIONS.items():
                item[name] = second(activation(first(pooled)))[0].tolist()
            scaled = torch.nn.functional.normalize(pooled, dim=1)
            item["scaled_before"] = second(torch.tanh(first(scaled)))[0].tolist()
            items.append(item)
    (FOLDER / "expected.json").write_text(json.dumps(items) + "\n")


if __name__ == "__main__":
    main()
