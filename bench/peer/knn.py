"""Exact search for nearest neighbours by faiss, one round for each line of input.

The peer of `swav bench knn`: an inner-product index over all references, searched by
all queries at once on all cores. Rows have unit length already and lie in the index,
so neither is timed; nor are there votes.
"""

import argparse
import json
import platform
import resource
import sys
import time

import faiss
import numpy as np


def rows(n, dim, seed):
    x = np.random.default_rng(seed).standard_normal((n, dim), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--references", type=int, default=50000)
    a.add_argument("--queries", type=int, default=10000)
    a.add_argument("--dim", type=int, default=512)
    a.add_argument("--k", type=int, default=20)
    a = a.parse_args()

    index = faiss.IndexFlatIP(a.dim)
    index.add(rows(a.references, a.dim, 1))
    queries = rows(a.queries, a.dim, 2)
    index.search(queries, a.k)
    print(json.dumps({"faiss": faiss.__version__, "numpy": np.__version__, "python": platform.python_version(), "threads": faiss.omp_get_max_threads()}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        index.search(queries, a.k)
        speed = a.queries / (time.perf_counter() - start)
        print(json.dumps({"images_per_second": speed, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


if __name__ == "__main__":
    main()
