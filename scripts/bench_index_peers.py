#!/usr/bin/env python3
"""Compares the vector index with hnswlib and usearch on the same vectors, taking turns.

    cargo bench --no-run --bench index
    pip install hnswlib==0.8.0 usearch==2.26.6 numpy
    python3 scripts/bench_index_peers.py --bench target/release/deps/index-HASH --vectors FILE

FILE holds little-endian f32 unit vectors; one in a hundred is held out as a query. Each index is
built with one thread and M 16. Then, round after round, each answers all queries at one setting;
the median of the rounds counts. Queries per second are per second of CPU time that the process
got, so what else runs on the machine weighs less. Our index keeps int8 codes and scores its
candidates again with the f32 vectors, which the program keeps on disk.
"""

import argparse
import json
import os
import statistics
import subprocess
import threading
import time

import numpy as np

EF = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
TARGETS = [0.95, 0.98, 0.99]


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_qps(search, queries, threads):
    """Queries per CPU second, times the threads."""
    start = time.process_time()
    workers = [threading.Thread(target=search, args=(queries,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * threads * len(queries) / (time.process_time() - start)


class Hnswlib:
    name = "hnswlib f32"

    def __init__(self, base, path):
        import hnswlib

        before = resident()
        start = time.process_time()
        self.index = hnswlib.Index(space="ip", dim=base.shape[1])
        self.index.init_index(max_elements=len(base), M=16, ef_construction=200)
        self.index.add_items(base, np.arange(len(base)), num_threads=1)
        self.build = time.process_time() - start
        self.bytes = (resident() - before) / len(base)
        self.index.save_index(path)
        start = time.perf_counter()
        again = hnswlib.Index(space="ip", dim=base.shape[1])
        again.load_index(path)
        self.open = time.perf_counter() - start
        self.index.set_num_threads(1)

    def set(self, ef):
        self.index.set_ef(ef)

    def found(self, queries):
        return self.index.knn_query(queries, k=10, num_threads=1)[0]


class Usearch:
    def __init__(self, base, path, dtype):
        from usearch.index import Index

        self.name = f"usearch {dtype}"
        before = resident()
        start = time.process_time()
        self.index = Index(
            ndim=base.shape[1], metric="cos", dtype=dtype, connectivity=16, expansion_add=200
        )
        self.index.add(np.arange(len(base)), base, threads=1)
        self.build = time.process_time() - start
        self.bytes = (resident() - before) / len(base)
        self.index.save(path)
        start = time.perf_counter()
        Index.restore(path)
        self.open = time.perf_counter() - start

    def set(self, ef):
        self.index.expansion_search = ef

    def found(self, queries):
        return self.index.search(queries, 10, threads=1).keys


class Trove:
    name = "trove int8, rescored"

    def __init__(self, program, vectors, dimensions):
        command = [program, "--bench", "--vectors", vectors, "--dimensions", str(dimensions), "--serve"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        first = json.loads(self.process.stdout.readline())
        self.build, self.bytes, self.open = (
            first["build_cpu"], first["bytes_per_point"], first["open_seconds"]
        )

    def measure(self, ef, threads):
        candidates = min(20, max(ef, 11))
        self.process.stdin.write(f"{candidates} {ef} {threads}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["recall"], answer["qps"]


def truth(base, queries):
    found = []
    for part in np.array_split(queries, max(1, len(queries) // 100)):
        found.append(np.argpartition(-(part @ base.T), 10, axis=1)[:, :10])
    return np.concatenate(found)


def recall(found, wanted):
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), wanted.tolist()))
    return hits / wanted.size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", default="/tmp")
    arguments = parser.parse_args()
    vectors = np.fromfile(arguments.vectors, "<f4").reshape(-1, arguments.dimensions)
    held = np.arange(len(vectors)) % 100 == 50
    base, queries = np.ascontiguousarray(vectors[~held]), np.ascontiguousarray(vectors[held])
    wanted = truth(base, queries)
    ours = Trove(arguments.bench, arguments.vectors, arguments.dimensions)
    path = os.path.join(arguments.scratch, "peer.index")
    peers = [Hnswlib(base, path), Usearch(base, path, "f32"), Usearch(base, path, "i8")]
    os.remove(path)
    print(f"{len(base)} vectors of {base.shape[1]} dimensions, {len(queries)} queries\n")
    print("| index | build CPU-s | bytes per vector | open s |")
    print("|---|---|---|---|")
    for index in [ours, *peers]:
        print(f"| {index.name} | {index.build:.1f} | {index.bytes:.0f} | {index.open:.2f} |")
    recalls = {ours.name: {ef: ours.measure(ef, 1)[0] for ef in EF}}
    for peer in peers:
        recalls[peer.name] = {}
        for ef in EF:
            peer.set(ef)
            recalls[peer.name][ef] = recall(peer.found(queries), wanted)
    print("\n| recall@10 | index | ef | recall | QPS, 1 thread | QPS, 2 threads |")
    print("|---|---|---|---|---|---|")
    for target in TARGETS:
        rates = {}
        for _ in range(arguments.rounds):
            for index in [ours, *peers]:
                ef = next((ef for ef in EF if recalls[index.name][ef] >= target), None)
                if ef is None:
                    continue
                for threads in [1, 2]:
                    if index is ours:
                        rate = ours.measure(ef, threads)[1]
                    else:
                        index.set(ef)
                        rate = cpu_qps(index.found, queries, threads)
                    rates.setdefault((index.name, ef, threads), []).append(rate)
        for index in [ours, *peers]:
            efs = [ef for name, ef, _ in rates if name == index.name]
            if not efs:
                print(f"| {target} | {index.name} | – | {max(recalls[index.name].values()):.3f} at most | – | – |")
                continue
            one, two = (statistics.median(rates[index.name, efs[0], threads]) for threads in [1, 2])
            reached = recalls[index.name][efs[0]]
            print(f"| {target} | {index.name} | {efs[0]} | {reached:.3f} | {one:.0f} | {two:.0f} |")
    ours.process.stdin.close()
    ours.process.wait()


if __name__ == "__main__":
    main()
