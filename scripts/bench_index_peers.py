#!/usr/bin/env python3
"""Compares the vector index with hnswlib, usearch, faiss and qdrant-edge on the same vectors, taking turns.

    cargo bench --no-run --bench index
    pip install hnswlib==0.8.0 usearch==2.26.6 faiss-cpu==1.15.1 qdrant-edge-py==0.9.0 numpy
    python3 scripts/bench_index_peers.py --bench target/release/deps/index-HASH --vectors FILE

FILE holds little-endian f32 unit vectors; one in a hundred is held out as a query. Each index is
built with one thread, M 16 and 200 candidates while building, in a process of its own that saves
it and ends. Another process opens it and answers all queries once, which tells its memory. Then,
round after round, each answers all queries at one setting; the median of the rounds counts. Queries
per second are per second of CPU time that the process got, so what else runs on the machine weighs
less. Our index keeps int8 codes and scores its candidates again with the f32 vectors, which the
program keeps on disk; its memory is what it counts itself.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

import numpy as np

EF = [10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024]
TARGETS = [0.95, 0.98, 0.99]
M = 16
EF_CONSTRUCTION = 200
# Similarities this close are the same: what sums in another order differ by.
TIE = 1e-6


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_qps(search, count, threads):
    """Queries per CPU second, times the threads."""
    start = time.process_time()
    workers = [threading.Thread(target=search) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return threads * threads * count / (time.process_time() - start)


class Hnswlib:
    name = "hnswlib f32"
    module = "hnswlib"

    def build(self, base, path):
        import hnswlib

        index = hnswlib.Index(space="ip", dim=base.shape[1])
        index.init_index(max_elements=len(base), M=M, ef_construction=EF_CONSTRUCTION)
        index.add_items(base, np.arange(len(base)), num_threads=1)
        index.save_index(path)

    def open(self, path, queries):
        import hnswlib

        self.queries = queries
        self.index = hnswlib.Index(space="ip", dim=queries.shape[1])
        self.index.load_index(path)
        self.index.set_num_threads(1)

    def set(self, ef):
        self.index.set_ef(ef)

    def found(self):
        return self.index.knn_query(self.queries, k=10, num_threads=1)[0]


class Usearch:
    module = "usearch.index"

    def __init__(self, dtype):
        self.name = f"usearch {dtype}"
        self.dtype = dtype

    def build(self, base, path):
        from usearch.index import Index

        index = Index(
            ndim=base.shape[1],
            metric="cos",
            dtype=self.dtype,
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        index.add(np.arange(len(base)), base, threads=1)
        index.save(path)

    def open(self, path, queries):
        from usearch.index import Index

        self.queries = queries
        self.index = Index.restore(path)

    def set(self, ef):
        self.index.expansion_search = ef

    def found(self):
        return self.index.search(self.queries, 10, threads=1).keys


class Faiss:
    name = "faiss HNSW f32"
    module = "faiss"

    def build(self, base, path):
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexHNSWFlat(base.shape[1], M, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        index.add(base)
        faiss.write_index(index, path)

    def open(self, path, queries):
        import faiss

        faiss.omp_set_num_threads(1)
        self.queries = queries
        self.index = faiss.read_index(path)

    def set(self, ef):
        self.index.hnsw.efSearch = ef

    def found(self):
        import faiss

        # The number of threads belongs to the calling thread.
        faiss.omp_set_num_threads(1)
        return self.index.search(self.queries, 10)[1]


class QdrantEdge:
    """One segment; queries go in as a batch, which costs the least for each."""

    module = "qdrant_edge"

    def __init__(self, dtype):
        self.name = f"qdrant-edge {dtype}"
        self.dtype = dtype

    def build(self, base, path):
        import qdrant_edge as edge

        codes = None
        if self.dtype == "int8":
            codes = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=edge.Memory.Pinned)
        shard = edge.EdgeShard.create(
            path,
            edge.EdgeConfig(
                vectors=edge.EdgeVectorParams(size=base.shape[1], distance=edge.Distance.Dot),
                hnsw_config=edge.HnswIndexConfig(M, EF_CONSTRUCTION, 10, max_indexing_threads=1),
                quantization_config=codes,
                optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=100),
                max_search_threads=1,
            ),
        )
        for start in range(0, len(base), 1000):
            rows = enumerate(base[start : start + 1000].tolist(), start)
            points = [edge.Point(number, vector) for number, vector in rows]
            shard.update(edge.UpdateOperation.upsert_points(points))
        shard.optimize()
        shard.flush()
        shard.close()

    def open(self, path, queries):
        import qdrant_edge as edge

        self.queries = queries.tolist()
        self.index = edge.EdgeShard.load(path)

    def set(self, ef):
        import qdrant_edge as edge

        parameters = edge.SearchParams(hnsw_ef=ef)
        request = lambda vector: edge.QueryRequest(
            limit=10, query=edge.Query.Nearest(vector), params=parameters
        )
        self.batch = edge.QueryBatchRequest([request(vector) for vector in self.queries])

    def found(self):
        return np.array([[point.id for point in one] for one in self.index.query_batch(self.batch)])


class Peer:
    """A library in a process of its own."""

    def __init__(self, library, base, queries, path):
        self.name = library.name
        context = multiprocessing.get_context("fork")

        def build(pipe):
            start = time.process_time()
            library.build(base, path)
            pipe.send(time.process_time() - start)

        ours, theirs = context.Pipe()
        builder = context.Process(target=build, args=(theirs,))
        builder.start()
        self.build = ours.recv()
        builder.join()

        def serve(pipe):
            importlib.import_module(library.module)
            before = resident()
            start = time.perf_counter()
            library.open(path, queries)
            opened = time.perf_counter() - start
            library.set(EF[-1])
            library.found()
            pipe.send((opened, (resident() - before) / len(base)))
            while (request := pipe.recv()) is not None:
                ef, threads = request
                library.set(ef)
                if threads == 0:
                    pipe.send(library.found())
                else:
                    pipe.send(cpu_qps(library.found, len(queries), threads))

        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,))
        self.process.start()
        self.open, self.bytes = self.pipe.recv()

    def ask(self, ef, threads):
        self.pipe.send((ef, threads))
        return self.pipe.recv()

    def close(self):
        self.pipe.send(None)
        self.process.join()


class Trove:
    name = "trove int8, rescored"

    def __init__(self, program, vectors, dimensions, count):
        command = [program, "--bench", "--vectors", vectors, "--serve"]
        command += ["--dimensions", str(dimensions), "--count", str(count)]
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
    """The similarity of the tenth nearest of each query: of equal vectors any may be among the ten."""
    bounds = []
    for part in np.array_split(queries, max(1, len(queries) // 100)):
        bounds.append(-np.partition(-(part @ base.T), 9, axis=1)[:, 9])
    return np.concatenate(bounds)


def recall(found, base, queries, bounds):
    """The share of ten that is found, as similar as the tenth nearest or more."""
    hits = 0
    for points, query, bound in zip(found, queries, bounds):
        hits += (base[np.unique(points)] @ query >= bound - TIE).sum()
    return hits / found.size


def climb(recall_at):
    """The recall at each setting, from the least on until the last target is reached."""
    reached = {}
    for ef in EF:
        reached[ef] = recall_at(ef)
        if reached[ef] >= TARGETS[-1]:
            break
    return reached


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, help="use the first so many vectors")
    parser.add_argument("--peers", help="names of those to compare with, separated by commas; all if left out")
    arguments = parser.parse_args()
    vectors = np.fromfile(arguments.vectors, "<f4").reshape(-1, arguments.dimensions)[: arguments.count]
    held = np.arange(len(vectors)) % 100 == 50
    base, queries = np.ascontiguousarray(vectors[~held]), np.ascontiguousarray(vectors[held])
    bounds = truth(base, queries)
    libraries = [
        Hnswlib(), Usearch("f32"), Usearch("i8"), Faiss(), QdrantEdge("f32"), QdrantEdge("int8")
    ]
    if arguments.peers:
        names = arguments.peers.split(",")
        unknown = set(names) - {library.name for library in libraries}
        if unknown:
            known = ", ".join(library.name for library in libraries)
            parser.error(f"--peers: expected some of {known}, got {', '.join(sorted(unknown))}")
        libraries = [library for library in libraries if library.name in names]
    scratch = tempfile.mkdtemp()
    peers = [
        Peer(library, base, queries, os.path.join(scratch, str(number)))
        for number, library in enumerate(libraries)
    ]
    ours = Trove(arguments.bench, arguments.vectors, arguments.dimensions, len(vectors))
    print(f"{len(base)} vectors of {base.shape[1]} dimensions, {len(queries)} queries\n")
    print("| index | build CPU-s | bytes per vector | open s |")
    print("|---|---|---|---|")
    for index in [ours, *peers]:
        print(f"| {index.name} | {index.build:.1f} | {index.bytes:.0f} | {index.open:.2f} |")
    recalls = {ours.name: climb(lambda ef: ours.measure(ef, 1)[0])}
    for peer in peers:
        recalls[peer.name] = climb(lambda ef: recall(peer.ask(ef, 0), base, queries, bounds))
    print("\n| recall@10 | index | ef | recall | QPS, 1 thread | QPS, 2 threads |")
    print("|---|---|---|---|---|---|")
    for target in TARGETS:
        rates = {}
        for _ in range(arguments.rounds):
            for index in [ours, *peers]:
                ef = next((ef for ef, reached in recalls[index.name].items() if reached >= target), None)
                if ef is None:
                    continue
                for threads in [1, 2]:
                    if index is ours:
                        rate = ours.measure(ef, threads)[1]
                    else:
                        rate = index.ask(ef, threads)
                    rates.setdefault((index.name, ef, threads), []).append(rate)
        for index in [ours, *peers]:
            efs = [ef for name, ef, _ in rates if name == index.name]
            if not efs:
                print(f"| {target} | {index.name} | – | {max(recalls[index.name].values()):.3f} at most | – | – |")
                continue
            one, two = (statistics.median(rates[index.name, efs[0], threads]) for threads in [1, 2])
            reached = recalls[index.name][efs[0]]
            print(f"| {target} | {index.name} | {efs[0]} | {reached:.3f} | {one:.0f} | {two:.0f} |")
    for peer in peers:
        peer.close()
    shutil.rmtree(scratch)
    ours.process.stdin.close()
    ours.process.wait()


if __name__ == "__main__":
    main()
