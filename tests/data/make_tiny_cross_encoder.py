#!/usr/bin/env python3
"""Make tests/data/golden/cross_encoder.json: logits of small cross-encoders with random weights, one of each family.

They are a BertForSequenceClassification and a RobertaForSequenceClassification. The weights are no file: tests/models/cross_encoder.rs makes the same ones from the same counter. Tokens, token types
and truncation are those of the tokenizers library; numpy computes the logits in 64-bit floats. Needs numpy and
tokenizers. Argument: the tokenizer.json of all-MiniLM-L6-v2, which the first has; the second has that of tiny-roberta.
"""
import dataclasses
import json
import math
import pathlib
import sys

import numpy as np
from tokenizers import Tokenizer

WIDTH, INNER, HEADS, LAYERS, TOKENS = 32, 64, 4, 2, 64
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


@dataclasses.dataclass
class Family:
    """What tells two kinds of models apart."""

    name: str
    vocabulary: int
    types: int
    # Rows of the position table before the first token's.
    offset: int
    # Special tokens around a pair.
    special: int
    # The two layers of the head.
    head: tuple


FAMILIES = [
    Family("bert", 30522, 2, 0, 3, ("bert.pooler.dense", "classifier")),
    Family("roberta", 268, 1, 2, 4, ("classifier.dense", "classifier.out_proj")),
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


def shapes(family: Family) -> list:
    """Every tensor's name, shape, factor and summand, in the order of their seeds."""
    tables = (("word", family.vocabulary), ("position", family.offset + TOKENS), ("token_type", family.types))
    all_ = [(f"embeddings.{name}_embeddings.weight", (rows, WIDTH), 1.0, 0.0) for name, rows in tables]

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
    all_ = [(f"{family.name}.{name}", *rest) for name, *rest in all_]
    return all_ + dense(family.head[0], WIDTH, WIDTH) + dense(family.head[1], 1, WIDTH)


def make_weights(family: Family) -> dict:
    weights = {}
    for seed, (name, shape, factor, summand) in enumerate(shapes(family)):
        values = uniform(seed, int(np.prod(shape))) * factor + summand
        # As the file holds them.
        weights[name] = values.astype(np.float32).astype(np.float64).reshape(shape)
    return weights


def logit(family: Family, w: dict, ids: list, types: list) -> float:
    erf = np.vectorize(math.erf)

    def dense(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
        return x * w[name + ".weight"] + w[name + ".bias"]

    e = family.name + ".embeddings."
    positions = np.arange(len(ids)) + family.offset
    x = w[e + "word_embeddings.weight"][ids] + w[e + "position_embeddings.weight"][positions]
    x = norm(x + w[e + "token_type_embeddings.weight"][types], e + "LayerNorm")
    for layer in range(LAYERS):
        base = f"{family.name}.encoder.layer.{layer}."
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
    first, second = family.head
    return float(dense(np.tanh(dense(x[:1], first)), second)[0, 0])


def score(family: Family, tokenizer: Tokenizer) -> list:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    weights, items = make_weights(family), []
    for query, text in PAIRS:
        fits = len(tokenizer.encode(query, add_special_tokens=False).ids) + family.special < TOKENS
        tokenizer.enable_truncation(TOKENS, strategy="only_second" if fits else "longest_first")
        pair = tokenizer.encode(query, text)
        tokenizer.no_truncation()
        whole = len(tokenizer.encode(query, text).ids)
        types = [0] * len(pair.ids) if family.types == 1 else pair.type_ids
        items.append({"query": query, "text": text, "input_ids": pair.ids, "token_type_ids": types,
                      "truncated": whole > len(pair.ids), "logit": logit(family, weights, pair.ids, types)})
    return items


def main() -> None:
    here = pathlib.Path(__file__).parent
    paths = {"bert": sys.argv[1], "roberta": str(here / "tiny-roberta" / "tokenizer.json")}
    scored = {family.name: score(family, Tokenizer.from_file(paths[family.name])) for family in FAMILIES}
    path = here / "golden" / "cross_encoder.json"
    path.write_text(json.dumps(scored, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
