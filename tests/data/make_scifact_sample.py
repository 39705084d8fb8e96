#!/usr/bin/env python3
"""Make tests/data/scifact-sample: every sixth claim of SciFact's test split, the abstracts that are relevant to it, and
the abstracts that share most of its rare words without being relevant. Argument: SciFact in BEIR's form."""
import collections
import json
import math
import pathlib
import re
import sys

EVERY, HARD = 6, 3
SOURCE = pathlib.Path(sys.argv[1])
TARGET = pathlib.Path(__file__).parent / "scifact-sample"


def lines(name: str) -> list:
    return [json.loads(line) for line in (SOURCE / name).read_text().splitlines()]


def words(text: str) -> set:
    return set(re.findall(r"[a-z0-9]+", text.lower()))


relevant = collections.defaultdict(set)
rows = [row.split("\t") for row in (SOURCE / "qrels.tsv").read_text().splitlines()[1:]]
for query, document, grade in rows:
    if int(grade) > 0:
        relevant[query].add(document)
corpus = lines("corpus.jsonl")
bags = {entry["id"]: words(entry["title"] + " " + entry["text"]) for entry in corpus}
held = collections.Counter(word for bag in bags.values() for word in bag)
queries = [query for query in lines("queries.jsonl") if query["id"] in relevant][::EVERY]
kept = set()
for query in queries:
    asked = words(query["text"])

    def shared(document: str) -> float:
        return sum(math.log(len(bags) / held[word]) for word in sorted(asked & bags[document]))

    others = [document for document in bags if document not in relevant[query["id"]]]
    kept |= relevant[query["id"]] | set(sorted(others, key=lambda d: (-shared(d), d))[:HARD])
TARGET.mkdir(exist_ok=True)
with open(TARGET / "corpus.jsonl", "w") as out:
    for entry in corpus:
        if entry["id"] in kept:
            out.write(json.dumps({key: entry[key] for key in ("id", "title", "text")}, ensure_ascii=False) + "\n")
with open(TARGET / "queries.jsonl", "w") as out:
    for query in queries:
        out.write(json.dumps({"id": query["id"], "text": query["text"]}, ensure_ascii=False) + "\n")
chosen = {query["id"] for query in queries}
(TARGET / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(
    "\t".join(row) + "\n" for row in rows if row[0] in chosen))
