#!/usr/bin/env python3
"""The llama.cpp side of `cargo bench --bench generator`: answers each line of JSON on stdin with one on stdout.

Needs llama-cpp-python; usage: bench_generator_peer.py FILE.gguf THREADS
"""
import json
import sys
import time

from llama_cpp import Llama


def run(model: Llama, ids: list, count: int) -> dict:
    # Without it a prompt that starts as the last one did would not be computed again.
    model.reset()
    started = time.perf_counter()
    first = None
    tokens = 0
    for _ in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        tokens += 1
        if first is None:
            first = time.perf_counter()
        if tokens == count:
            break
    return {"tokens": tokens, "first_seconds": first - started, "decode_seconds": time.perf_counter() - first}


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    model = Llama(path, n_ctx=4096, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(run(model, request["ids"], request["tokens"])), flush=True)


if __name__ == "__main__":
    main()
