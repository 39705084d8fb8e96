#!/usr/bin/env python3
"""Make tests/data/golden/cross_encoder.json: logits of a small BertForSequenceClassification with random weights.

The weights are no file: tests/models/cross_encoder.rs makes the same ones from the same counter. Tokens, token types
and truncation are those of the tokenizers library; numpy computes the logits in 64-bit floats. Needs numpy and
tokenizers. Argument: the tokenizer.json of all-MiniLM-L6-v2.
"""
import json
import math
import pathlib
import sys

import numpy as np
from tokenizers import Tokenizer

WIDTH, INNER, HEADS, LAYERS, POSITIONS, VOCABULARY = 32, 64, 4, 2, 64, 30522
EPSILON = 1e-12
LONG = " ".join(f"word {n} of a long text" for n in range(40))
PAIRS = [
    ("where are backups kept", "Backups are kept on the second disk for thirty days."),
    ("where are backups kept", "A man is eating food."),
    ("a", "b"),
    ("naïve café", "日本語 🙂, and more."),
    ("where are backups kept", LONG),
    (LONG, "short"),
    (LONG, LONG),
]


def uniform(seed: int, count: int) -> np.ndarray:
    """Numbers from -0.5 to 0.5: SplitMix64 of a counter, its upper 24 bits."""
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5


def shapes() -> list:
    """Every tensor's name, shape, factor and summand, in the order of their seeds."""
    all_ = [(f"embeddings.{name}_embeddings.weight", (rows, WIDTH), 1.0, 0.0)
            for name, rows in (("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2))]

    def norm(name):
        return [(name + ".weight", (WIDTH,), 0.2, 1.0), (name + ".bias", (WIDTH,), 0.2, 0.0)]

    def dense(name, rows, columns):
        return [(name + ".weight", (rows, columns), 1.0, 0.0), (name + ".bias", (rows,), 0.2, 0.0)]

    all_ += norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        base = f"encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            all_ += dense(base + part, WIDTH, WIDTH)
        all_ += norm(base + "attention.output.LayerNorm")
        all_ += dense(base + "intermediate.dense", INNER, WIDTH) + dense(base + "output.dense", WIDTH, INNER)
        all_ += norm(base + "output.LayerNorm")
    all_ = [("bert." + name, *rest) for name, *rest in all_ + dense("pooler.dense", WIDTH, WIDTH)]
    return all_ + dense("classifier", 1, WIDTH)


def make_weights() -> dict:
    weights = {}
    for seed, (name, shape, factor, summand) in enumerate(shapes()):
        values = uniform(seed, int(np.prod(shape))) * factor + summand
        # As the file holds them.
        weights[name] = values.astype(np.float32).astype(np.float64).reshape(shape)
    return weights


def logit(w: dict, ids: list, types: list) -> float:
    erf = np.vectorize(math.erf)

    def dense(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
        return x * w[name + ".weight"] + w[name + ".bias"]

    e = "bert.embeddings."
    x = w[e + "word_embeddings.weight"][ids] + w[e + "position_embeddings.weight"][: len(ids)]
    x = norm(x + w[e + "token_type_embeddings.weight"][types], e + "LayerNorm")
    for layer in range(LAYERS):
        base = f"bert.encoder.layer.{layer}."
        q, k, v = (dense(x, base + "attention.self." + part) for part in ("query", "key", "value"))
        size = WIDTH // HEADS
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
        attended = dense(np.concatenate(heads, -1), base + "attention.output.dense")
        x = norm(x + attended, base + "attention.output.LayerNorm")
        up = dense(x, base + "intermediate.dense")
        up = up * 0.5 * (1 + erf(up / math.sqrt(2)))
        x = norm(x + dense(up, base + "output.dense"), base + "output.LayerNorm")
    return float(dense(np.tanh(dense(x[:1], "bert.pooler.dense")), "classifier")[0, 0])


def main() -> None:
    tokenizer = Tokenizer.from_file(sys.argv[1])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    weights, items = make_weights(), []
    for query, text in PAIRS:
        # Three special tokens stand around a pair.
        fits = len(tokenizer.encode(query, add_special_tokens=False).ids) + 3 < POSITIONS
        tokenizer.enable_truncation(POSITIONS, strategy="only_second" if fits else "longest_first")
        pair = tokenizer.encode(query, text)
        tokenizer.no_truncation()
        whole = len(tokenizer.encode(query, text).ids)
        items.append({"query": query, "text": text, "input_ids": pair.ids, "token_type_ids": pair.type_ids,
                      "truncated": whole > len(pair.ids), "logit": logit(weights, pair.ids, pair.type_ids)})
    path = pathlib.Path(__file__).parent / "golden" / "cross_encoder.json"
    path.write_text(json.dumps(items, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
