#!/usr/bin/env python3
"""Trains src/encoder/reader.safetensors: an adapter of all-MiniLM-L6-v2 that looks for the answer to a question in a text.

Usage: train_reader.py MODEL_DIR SQUAD2_DIR COVIDQA_DIR OUT.safetensors [--epochs 3]

MODEL_DIR is that of all-MiniLM-L6-v2 in safetensors; the other two hold corpus.jsonl and queries.jsonl of squad2 and covidqa
(docs/EVALUATION.md). Only the calibration halves of `trove eval` are read, less the last questions of each, which
scripts/fit_answers.py is for. An hour on one core. Needs torch, numpy, tokenizers, safetensors and blake3.

The task is SQuAD 2.0's (Rajpurkar et al., 2018): which tokens begin and end the answer, or that there is none, as Devlin et al.
(2019) put it on BERT, and a logit of the first token for whether there is one. All matrices get a product of two narrow ones (Hu
et al., 2021), biases and layer norms are trained whole; the word and position embeddings stay. Beside the questions as they are,
an epoch has some on fewer sentences, without the title, asked of another paragraph, and with another number or name in them, which
makes them unanswerable."""
import argparse
import json
import math
import random
import re
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from blake3 import blake3
from fit_answers import area
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

SEED = 1  # of the halves, the default of `trove eval`
TRAINED = {"squad2": 2600, "covidqa": 580}  # questions of the calibration half; the rest is for fit_answers.py
RANK, SCALE, RATE, DROPOUT = 16, 2.0, 1e-3, 0.1
MAX_TOKENS, BATCH_TOKENS = 320, 2048
CLS, SEP = 101, 102
HEADS, LAYERS, WIDTH = 12, 6, 384
MATRICES = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "o": "attention.output.dense", "wide": "intermediate.dense", "narrow": "output.dense",
}
NORMS = {"norm1": "attention.output.LayerNorm", "norm2": "output.LayerNorm"}
SENTENCE_END = re.compile(r"(?<=[.!?])[\"”')]?\s+(?=[\"“(]?[A-Z0-9])")
NUMBER = re.compile(r"\b\d[\d,.]*\b")
NAME = re.compile(r"\b[A-Z][a-zA-Z]+(?: [A-Z][a-zA-Z]+)*\b")


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def calibration(folder, name):
    questions = read(f"{folder}/queries.jsonl")
    questions.sort(key=lambda q: blake3(f"{SEED} {q['id']}".encode()).digest())
    half = questions[: len(questions) // 2]
    return half[: TRAINED[name]], half[TRAINED[name] :]


def sentences(text):
    spans, start = [], 0
    for match in SENTENCE_END.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    return [(a, b) for a, b in spans + [(start, len(text))] if b > a]


class Examples:
    """Dictionaries of question, text, title, spans of answers in the text, and whether it has one."""

    def __init__(self, squad, covid, rng):
        self.rng = rng
        self.paragraphs = {d["id"]: d for d in read(f"{squad}/corpus.jsonl")}
        self.papers = {d["id"]: d["text"] for d in read(f"{covid}/corpus.jsonl")}
        self.of_title = {}
        for d in self.paragraphs.values():
            self.of_title.setdefault(d["title"], []).append(d["id"])
        (squad, self.squad_held), (self.covid, self.covid_held) = calibration(squad, "squad2"), calibration(covid, "covidqa")
        self.squad = self.of_squad(squad)

    def of_squad(self, questions):
        examples = []
        for q in questions:
            d = self.paragraphs[q["context_id"]]
            found = [m.span() for a in q.get("answers", []) for m in re.finditer(re.escape(a), d["text"])]
            if q["answerable"] and not found:
                continue
            examples.append(dict(q=q["text"], text=d["text"], title=d["title"].replace("_", " "), id=d["id"],
                                 spans=found if q["answerable"] else [], y=int(q["answerable"])))
        return examples

    def of_covid(self, questions, negatives):
        """Windows of the papers around the answers, and others of the same paper."""
        examples, rng = [], self.rng
        for q in questions:
            for paper, a, b in q["spans"][:1]:
                text = self.papers[paper]
                low = max(0, a - rng.randint(50, 400))
                high = min(len(text), max(b + 100, low + rng.randint(350, 750)))
                while 0 < low < a and text[low - 1] not in ".\n":
                    low += 1
                if a < 0 or b - low > 1400:
                    continue
                examples.append(dict(q=q["text"], text=text[low:high], title="", spans=[(a - low, b - low)], y=1))
                start = rng.randrange(max(1, len(text) - 1000))
                other = text[start : start + rng.randint(300, 700)]
                if rng.random() < negatives and not any(answer in other for answer in q["answers"]):
                    examples.append(dict(q=q["text"], text=other, title="", spans=[], y=0))
        return examples

    def epoch(self):
        rng, examples = self.rng, []
        for example in self.squad:
            e = self.cropped(example) if rng.random() < 0.7 else example
            if rng.random() < 0.5:
                e = dict(e, title="")
            made = [self.changed(e) if e["y"] and rng.random() < 0.35 else None,
                    self.elsewhere(e) if e["y"] and rng.random() < 0.35 else None]
            examples += [e] + [m for m in made if m]
        return examples + self.of_covid(self.covid, 0.5)

    def cropped(self, e):
        rng, found = self.rng, sentences(e["text"])
        if len(found) < 2:
            return e
        i = rng.randrange(len(found))
        j = min(len(found), i + rng.randint(1, 4))
        if e["spans"]:
            a = rng.choice(e["spans"])[0]
            k = next((n for n, (x, y) in enumerate(found) if x <= a < y), 0)
            i, j = max(0, k - rng.randint(0, 2)), min(len(found), k + 1 + rng.randint(0, 2))
        low, high = found[i][0], found[j - 1][1]
        kept = [(a - low, b - low) for a, b in e["spans"] if a >= low and b <= high]
        return e if e["spans"] and not kept else dict(e, text=e["text"][low:high], spans=kept)

    def changed(self, e):
        """Another number or name in the question."""
        rng, q = self.rng, e["q"]
        numbers = list(NUMBER.finditer(q))
        places = numbers + [m for m in NAME.finditer(q) if m.start() > 0 and m.group() != "I"]
        if not places:
            return None
        place = rng.choice(places)
        if place in numbers:
            digits = place.group().replace(",", "").rstrip(".")
            if not digits.isdigit():
                return None
            new = str(int(digits) + rng.choice([-30, -12, -7, -3, -2, -1, 1, 2, 4, 9, 20, 50]))
        else:
            here = rng.random() < 0.5
            text = e["text"] if here else self.paragraphs[rng.choice(list(self.paragraphs))]["text"]
            answers = [e["text"][a:b] for a, b in e["spans"]]
            names = [m.group() for m in NAME.finditer(text) if m.start() > 0 and m.group() not in q]
            names = [n for n in names if not here or not any(n in answer for answer in answers)]
            if not names:
                return None
            new = rng.choice(names)
        return dict(e, q=q[: place.start()] + new + q[place.end() :], spans=[], y=0)

    def elsewhere(self, e):
        """The question asked of another paragraph of its article."""
        others = [i for i in self.of_title[self.paragraphs[e["id"]]["title"]] if i != e["id"]]
        answers = [e["text"][a:b] for a, b in e["spans"]]
        for _ in range(5):
            text = self.paragraphs[self.rng.choice(others)]["text"] if others else ""
            if text and not any(answer in text for answer in answers):
                return dict(e, text=text, spans=[], y=0)
        return None


class Adapted(nn.Module):
    def __init__(self, weight, bias):
        super().__init__()
        self.register_buffer("weight", weight)
        self.down = nn.Parameter(torch.randn(RANK, weight.shape[1]) / math.sqrt(weight.shape[1]))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], RANK))
        self.bias = nn.Parameter(bias.clone())

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + SCALE * F.linear(F.linear(x, self.down), self.up)


def norm(weights, name):
    layer = nn.LayerNorm(WIDTH, eps=1e-12)
    layer.weight.data = weights[f"{name}.weight"].clone()
    layer.bias.data = weights[f"{name}.bias"].clone()
    return layer


class Layer(nn.Module):
    def __init__(self, weights, number):
        super().__init__()
        prefix = f"encoder.layer.{number}."
        for short, name in MATRICES.items():
            setattr(self, short, Adapted(weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"]))
        for short, name in NORMS.items():
            setattr(self, short, norm(weights, prefix + name))

    def forward(self, x, mask):
        rows, length, _ = x.shape
        heads = lambda y: y.view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2)
        attended = F.scaled_dot_product_attention(heads(self.q(x)), heads(self.k(x)), heads(self.v(x)), attn_mask=mask)
        attended = self.o(attended.transpose(1, 2).reshape(rows, length, WIDTH))
        x = self.norm1(x + F.dropout(attended, DROPOUT, self.training))
        return self.norm2(x + F.dropout(self.narrow(F.gelu(self.wide(x))), DROPOUT, self.training))


class Reader(nn.Module):
    def __init__(self, weights):
        super().__init__()
        table = lambda name: weights[f"embeddings.{name}_embeddings.weight"]
        self.register_buffer("words", table("word"))
        self.register_buffer("positions", table("position"))
        self.types = nn.Parameter(table("token_type").clone())
        self.norm = norm(weights, "embeddings.LayerNorm")
        self.layers = nn.ModuleList(Layer(weights, number) for number in range(LAYERS))
        self.head = nn.Linear(WIDTH, 3)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, ids, types, lengths):
        inside = torch.arange(ids.shape[1])[None] < lengths[:, None]
        x = self.norm(self.words[ids] + self.positions[: ids.shape[1]][None] + self.types[types])
        x = F.dropout(x, DROPOUT, self.training)
        for layer in self.layers:
            x = layer(x, inside[:, None, None, :])
        values = self.head(x)
        allowed = (types == 1) & inside
        allowed[:, 0] = True
        spans = values[..., :2].masked_fill(~allowed[..., None], -1e4)
        return spans[..., 0], spans[..., 1], values[:, 0, 2]


class Tokens:
    def __init__(self, model):
        self.tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def __call__(self, text):
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        return encoded.ids, encoded.offsets

    def item(self, e):
        """Ids, types, spans of answers in tokens, and whether there is one."""
        question = self(e["q"])[0][:48]
        title = self(e["title"])[0][:12] + self(":")[0] if e["title"] else []
        ids, offsets = self(e["text"])
        room = MAX_TOKENS - 3 - len(question) - len(title)
        low = 0
        if len(ids) > room and e["spans"]:
            at = next((k for k, o in enumerate(offsets) if o[1] > e["spans"][0][0]), 0)
            low = max(0, min(len(ids) - room, at - random.randint(20, room - 20)))
        ids, offsets = ids[low : low + room], offsets[low : low + room]
        first = 2 + len(question) + len(title)
        spans = []
        for a, b in e["spans"]:
            inside = [k for k, o in enumerate(offsets) if o[1] > a and o[0] < b]
            if inside:
                spans.append((first + inside[0], first + inside[-1]))
        types = [0] * (len(question) + 2) + [1] * (len(title) + len(ids) + 1)
        return [CLS, *question, SEP, *title, *ids, SEP], types, spans, float(bool(e["y"] and spans))


def batches(items):
    order = list(range(len(items)))
    random.shuffle(order)
    order = [k for i in range(0, len(order), 256) for k in sorted(order[i : i + 256], key=lambda k: len(items[k][0]))]
    found, current, longest = [], [], 0
    for k in order:
        length = len(items[k][0])
        if current and max(longest, length) * (len(current) + 1) > BATCH_TOKENS:
            found.append(current)
            current, longest = [], 0
        current.append(items[k])
        longest = max(longest, length)
    random.shuffle(found)
    return found + ([current] if current else [])


def run(model, batch):
    longest = max(len(item[0]) for item in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    types = torch.zeros_like(ids)
    for row, (tokens, kinds, _, _) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        types[row, : len(kinds)] = torch.tensor(kinds)
    return model(ids, types, torch.tensor([len(item[0]) for item in batch]))


def loss_of(model, batch):
    starts, ends, answers = run(model, batch)
    loss = F.binary_cross_entropy_with_logits(answers, torch.tensor([item[3] for item in batch]))
    starts, ends = starts.log_softmax(1), ends.log_softmax(1)
    for row, (_, _, spans, answered) in enumerate(batch):
        spans = spans if answered else [(0, 0)]
        scores = torch.stack([starts[row, a] + ends[row, z] for a, z in spans])
        loss = loss - 0.5 * torch.logsumexp(scores, 0) / len(batch)
    return loss


def check(model, items, what):
    """The area under the ROC curve of the first token's logit on questions that were not trained on."""
    model.eval()
    scores, labels = [], []
    with torch.no_grad():
        for batch in batches(items):
            scores += run(model, batch)[2].tolist()
            labels += [item[3] for item in batch]
    model.train()
    print(f"{what}: area under the curve {area(np.array(scores), np.array(labels) > 0):.3f}", flush=True)


def adapter(model, base):
    tensors = {}
    half = lambda tensor: tensor.detach().to(torch.float16).contiguous()
    for number, layer in enumerate(model.layers):
        for short, name in MATRICES.items():
            part, full = getattr(layer, short), f"encoder.layer.{number}.{name}"
            tensors[f"{full}.weight.up"] = half(part.up * SCALE)
            tensors[f"{full}.weight.down"] = half(part.down)
            tensors[f"{full}.bias"] = half(part.bias)
        for short, name in NORMS.items():
            part, full = getattr(layer, short), f"encoder.layer.{number}.{name}"
            tensors[f"{full}.weight"], tensors[f"{full}.bias"] = half(part.weight), half(part.bias)
    tensors["embeddings.LayerNorm.weight"], tensors["embeddings.LayerNorm.bias"] = half(model.norm.weight), half(model.norm.bias)
    tensors["embeddings.token_type_embeddings.weight"] = half(model.types)
    tensors["reader.weight"], tensors["reader.bias"] = half(model.head.weight), half(model.head.bias)
    return tensors, {"base": base}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "squad2", "covidqa", "out"):
        parser.add_argument(name)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    random.seed(5)
    torch.manual_seed(5)
    tokens = Tokens(args.model)
    examples = Examples(args.squad2, args.covidqa, random.Random(5))
    held = [tokens.item(e) for e in examples.of_squad(examples.squad_held)]
    model = Reader(load_file(f"{args.model}/model.safetensors"))
    wide = [p for name, p in model.named_parameters() if name.endswith((".up", ".down"))]
    others = [p for name, p in model.named_parameters() if not name.endswith((".up", ".down"))]
    optimizer = torch.optim.AdamW([{"params": wide, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=RATE)
    step, total, began = 0, None, time.time()
    model.train()
    for epoch in range(args.epochs):
        todo = batches([tokens.item(e) for e in examples.epoch()])
        total = total or len(todo) * args.epochs
        for batch in todo:
            rate = RATE * min(1.0, step / (0.06 * total)) * max(0.02, 1 - step / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 50 == 0:
                print(f"step {step} of {total}, loss {loss.item():.3f}, {time.time() - began:.0f} s", flush=True)
        check(model, held, f"epoch {epoch + 1}, squad2 held back")
    with open(f"{args.model}/model.safetensors", "rb") as file:
        base = blake3(file.read()).hexdigest()
    tensors, metadata = adapter(model, base)
    save_file(tensors, args.out, metadata=metadata)


if __name__ == "__main__":
    main()
