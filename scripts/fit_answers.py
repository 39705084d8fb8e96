#!/usr/bin/env python3
"""Fits the weights of src/answer/score.rs to records of `trove eval --part calibration --records FILE`.

Usage: fit_answers.py [--plain] [--faq RECORDS.jsonl] RECORDS.jsonl...

First which sentence: each candidate of each question is an example, does it hold the answer? Then whether there is an answer: the
best candidate of each question is one, with its score as a further feature. --faq names records of a set that tells only which
documents answer (StackFAQ), which the second step reads as well. Both are logistic regressions fitted by Newton's method with a
little shrinkage, so that they give probabilities. --plain leaves the reader's features out. Prints the weights in the order of
score.rs and how well they do. Needs numpy."""
import argparse
import json

import numpy as np

READER = ("answer_mass", "answers", "no_answer")
# Too rare in the sets to be fitted: set by hand.
FIXED = {"unit_missing": -4.0}
SHRINKAGE = 1.0


def load(paths):
    questions = []
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                if record.get("candidates"):
                    questions.append(record["candidates"])
    return questions


def fit(features, labels, offset):
    features = np.hstack([np.ones((len(features), 1)), features])
    weights = np.zeros(features.shape[1])
    shrink = np.full(len(weights), SHRINKAGE)
    shrink[0] = 0
    for _ in range(50):
        p = 1 / (1 + np.exp(-(features @ weights + offset)))
        gradient = features.T @ (labels - p) - shrink * weights
        hessian = (features * (p * (1 - p))[:, None]).T @ features + np.diag(shrink)
        step = np.linalg.solve(hessian, gradient)
        weights += step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def area(scores, labels):
    """Area under the ROC curve."""
    order = np.argsort(scores)
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positive = labels.sum()
    negative = len(labels) - positive
    return (ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * negative)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--faq", action="append", default=[])
    parser.add_argument("records", nargs="+")
    args = parser.parse_args()
    questions = load(args.records)
    names = list(json_order(questions[0][0]["evidence"]))
    free = [n for n in names if n not in FIXED and not (args.plain and n in READER)]
    rows = [c for q in questions for c in q]
    x = np.array([[c["evidence"][n] for n in free] for c in rows])
    y = np.array([c["holds"] for c in rows], dtype=float)
    offset = sum(np.array([c["evidence"][n] for c in rows]) * w for n, w in FIXED.items())
    weights = fit(x, y, offset)
    of = {"bias": weights[0], **dict(zip(free, weights[1:])), **FIXED}
    print("bias", round(of["bias"], 3))
    for name in names:
        print(f"{name:<20} {of.get(name, 0.0):.3f}")
    score = lambda c: of["bias"] + sum(of.get(n, 0.0) * c["evidence"][n] for n in names)
    best = [max(q, key=score) for q in questions]
    has = [any(c["holds"] for c in q) for q in questions]
    chosen = [b["holds"] for b, h in zip(best, has) if h]
    print(f"{len(questions)} questions, the best candidate is right for {np.mean(chosen):.3f} of the {sum(has)} that have the answer")

    best += [max(q, key=score) for q in load(args.faq)]
    told = [n for n in names if n not in (*FIXED, "rank", "lead") and not (args.plain and n in READER)]
    x = np.array([[c["evidence"][n] for n in told] + [score(c)] for c in best])
    y = np.array([c["holds"] for c in best], dtype=float)
    weights = fit(x, y, 0.0)
    of = {**dict(zip(told + ["score"], weights[1:])), **FIXED}
    print("\nwhether there is an answer\nbias", round(weights[0], 3))
    for name in [*names, "score"]:
        print(f"{name:<20} {of.get(name, 0.0):.3f}")
    p = 1 / (1 + np.exp(-(weights[0] + x @ weights[1:])))
    print(f"area under the curve: {area(p, y > 0):.3f}")
    for low in np.arange(0, 1, 0.1):
        within = (p >= low) & (p < low + 0.1)
        if within.any():
            print(f"{low:.1f} to {low + 0.1:.1f}: {within.sum():>5} questions, {y[within].mean():.3f} right")


def json_order(evidence):
    order = ("similarity similarity_above coverage_passage coverage_sentence answer_mass answers no_answer meets opposed "
             "unit_missing figures_missing names_missing rank lead").split()
    assert set(order) == set(evidence), set(order) ^ set(evidence)
    return order


if __name__ == "__main__":
    main()
