#!/usr/bin/env python3
"""Make tests/data/tiny-roberta: a RoBERTa-style encoder with random weights, as a plain ONNX graph.

The graph is laid out as exporters do it: int64 inputs, positions counted from the padding id on over the tokens that
are no padding, an additive mask, unfused attention. expected.json holds vectors that numpy computes from the same
weights. Needs numpy, onnx and tokenizers.
"""
import json
import math
import pathlib

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

WIDTH, INNER, HEADS, LAYERS, POSITIONS, PADDING = 16, 32, 2, 2, 66, 1
EPSILON = 1e-5
FOLDER = pathlib.Path(__file__).parent / "tiny-roberta"
TEXTS = ["the lake is cold", "naïve café 日本語 🙂 👩‍👩‍👧", "a", "boats  wait,\tin the harbour."]


def make_tokenizer() -> Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "i"), ("Ġi", "s"), ("l", "a"), ("Ġ", "la"), ("k", "e")]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True,
                                                            add_prefix_space=False)
    return tokenizer


def make_weights(vocabulary: int) -> dict:
    random = np.random.default_rng(7)
    shapes = {"words": (vocabulary, WIDTH), "positions": (POSITIONS, WIDTH), "types": (1, WIDTH)}
    for layer in range(LAYERS):
        for part in "qkvo":
            shapes[f"{layer}.{part}"] = (WIDTH, WIDTH)
        shapes[f"{layer}.up"] = (WIDTH, INNER)
        shapes[f"{layer}.down"] = (INNER, WIDTH)
    weights = {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in ["norm"] + [f"{layer}.{part}" for layer in range(LAYERS) for part in ("norm1", "norm2")]:
        weights[name + ".g"] = random.normal(1, 0.1, WIDTH).astype(np.float32)
        weights[name + ".b"] = random.normal(0, 0.1, WIDTH).astype(np.float32)
    return weights


def run(weights: dict, ids: list) -> np.ndarray:
    """One row, without padding, in 64-bit floats."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    erf = np.vectorize(math.erf)

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * w[name + ".g"] + w[name + ".b"]

    x = norm(w["words"][ids] + w["positions"][np.arange(len(ids)) + PADDING + 1] + w["types"][0], "norm")
    for layer in range(LAYERS):
        q, k, v = (x @ w[f"{layer}.{part}"] for part in "qkv")
        size = WIDTH // HEADS
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
        x = norm(x + np.concatenate(heads, -1) @ w[f"{layer}.o"], f"{layer}.norm1")
        up = x @ w[f"{layer}.up"]
        x = norm(x + (up * 0.5 * (1 + erf(up / math.sqrt(2)))) @ w[f"{layer}.down"], f"{layer}.norm2")
    return x


def make_graph(weights: dict) -> bytes:
    nodes, constants = [], dict(weights)

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(name, value):
        constants[name] = value
        return name

    zero = constant("zero", np.array([0], np.int64))
    padding = constant("padding", np.array(PADDING, np.int64))
    equal = node("Equal", ["input_ids", padding], "is_padding")
    real = node("Cast", [node("Not", [equal], "is_token")], "is_token64", to=TensorProto.INT64)
    axis = constant("axis", np.array(1, np.int64))
    counted = node("Mul", [node("CumSum", [real, axis], "count"), real], "counted")
    numbers = node("Add", [counted, padding], "position_numbers")
    words = node("Gather", ["words", "input_ids"], "word_rows")
    x = node("Add", [words, node("Gather", ["types", "token_type_ids"], "type_rows")], "typed")
    x = node("Add", [x, node("Gather", ["positions", numbers], "position_rows")], "summed")

    def norm(x, name, output):
        return node("LayerNormalization", [x, name + ".g", name + ".b"], output, axis=-1, epsilon=EPSILON)

    x = norm(x, "norm", "embedded")
    wide = node("Unsqueeze", ["attention_mask", constant("axes", np.array([1, 2], np.int64))], "mask4")
    mask = node("Cast", [wide], "mask_float", to=TensorProto.FLOAT)
    one, least = constant("one", np.array(1, np.float32)), constant("least", np.array(-1e9, np.float32))
    mask = node("Mul", [node("Sub", [one, mask], "masked"), least], "mask_bias")
    size = WIDTH // HEADS
    split = constant("split", np.array([0, 0, HEADS, size], np.int64))
    join = constant("join", np.array([0, 0, WIDTH], np.int64))
    scale = constant("scale", np.array(1 / math.sqrt(size), np.float32))
    half, root = constant("half", np.array(0.5, np.float32)), constant("root", np.array(math.sqrt(2), np.float32))
    for layer in range(LAYERS):
        parts = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            product = node("MatMul", [x, f"{layer}.{part}"], f"{layer}.{part}.product")
            heads = node("Reshape", [product, split], f"{layer}.{part}.heads")
            parts[part] = node("Transpose", [heads], f"{layer}.{part}.turned", perm=order)
        scores = node("Mul", [node("MatMul", [parts["q"], parts["k"]], f"{layer}.raw"), scale], f"{layer}.scaled")
        scores = node("Softmax", [node("Add", [scores, mask], f"{layer}.biased")], f"{layer}.scores", axis=-1)
        seen = node("MatMul", [scores, parts["v"]], f"{layer}.seen")
        seen = node("Transpose", [seen], f"{layer}.back", perm=[0, 2, 1, 3])
        seen = node("MatMul", [node("Reshape", [seen, join], f"{layer}.joined"), f"{layer}.o"], f"{layer}.attended")
        x = norm(node("Add", [x, seen], f"{layer}.sum1"), f"{layer}.norm1", f"{layer}.middle")
        up = node("MatMul", [x, f"{layer}.up"], f"{layer}.widened")
        bell = node("Erf", [node("Div", [up, root], f"{layer}.divided")], f"{layer}.erf")
        bell = node("Mul", [node("Add", [bell, one], f"{layer}.raised"), half], f"{layer}.halved")
        down = node("MatMul", [node("Mul", [up, bell], f"{layer}.gelu"), f"{layer}.down"], f"{layer}.narrowed")
        last = layer + 1 == LAYERS
        output = "last_hidden_state" if last else f"{layer}.out"
        x = norm(node("Add", [x, down], f"{layer}.sum2"), f"{layer}.norm2", output)
    first = node("Gather", [x, zero], "first", axis=1)
    node("Squeeze", [first, axis_list(constants)], "pooler_output")
    axes = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes)
         for name in ("input_ids", "attention_mask", "token_type_ids")],
        [helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, ["batch", WIDTH]),
         helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, axes + [WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, producer_name="make_tiny_roberta", opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def axis_list(constants: dict) -> str:
    constants["axes1"] = np.array([1], np.int64)
    return "axes1"


def main() -> None:
    tokenizer = make_tokenizer()
    weights = make_weights(tokenizer.get_vocab_size())
    (FOLDER / "onnx").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "onnx" / "model.onnx").write_bytes(make_graph(weights))
    config = {"model_type": "roberta", "hidden_size": WIDTH, "intermediate_size": INNER, "num_attention_heads": HEADS,
              "num_hidden_layers": LAYERS, "max_position_embeddings": POSITIONS, "type_vocab_size": 1,
              "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": PADDING, "layer_norm_eps": EPSILON,
              "hidden_act": "gelu"}
    (FOLDER / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    items = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        states = run(weights, ids)
        items.append({"text": text, "input_ids": ids, "cls": states[0].tolist(), "mean": states.mean(0).tolist(),
                      "max": states.max(0).tolist(), "last_token": states[-1].tolist(),
                      "static_mean": weights["words"][ids[1:-1]].mean(0).tolist()})
    (FOLDER / "expected.json").write_text(json.dumps(items) + "\n")


if __name__ == "__main__":
    main()
