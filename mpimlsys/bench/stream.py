"""Memory bandwidth of all ranks together: the limit of what an all-reduce inside a node can reach.

As in STREAM (McCalpin 1995): every rank works on arrays far larger than the caches, all at the same
time, and what each loop reads and writes is counted, not what caches fetch besides.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

import mpimlsys as mls
from mpimlsys import config
from mpimlsys.context import Context

_BYTES = 256 << 20  # of an array
_REPEATS = 15


def run(*, as_json: bool) -> int:
    """Measure on all ranks and print on rank 0; returns the exit status. Collective."""
    ctx = mls.init()
    result = measure(ctx)
    if not ctx.is_root:
        return 0
    if as_json:
        print(json.dumps(result))
        return 0
    print(f"{result['ranks']} rank(s), {result['machine']}, {_BYTES >> 20} MiB arrays of float32")
    for row in result["rows"]:
        print(
            f"  {row['kernel']:<7} {row['formula']:<12} {row['bytes_per_s'] / 1e9:7.1f} GB/s  "
            f"(p10 {row['p10_bytes_per_s'] / 1e9:.1f}, p90 {row['p90_bytes_per_s'] / 1e9:.1f})"
        )
    return 0


def measure(ctx: Context) -> dict[str, Any]:
    """Bandwidth of each kernel, of all ranks together. Collective."""
    a, b, c = (np.full(_BYTES // 4, value, np.float32) for value in (1, 2, 3))
    # with the number of arrays that are read or written
    kernels: dict[str, tuple[str, int, Callable[[], object]]] = {
        "copy": ("c = a", 2, lambda: np.copyto(c, a)),
        "add": ("c = a + b", 3, lambda: np.add(a, b, out=c)),
        "update": ("a = a + b", 3, lambda: np.add(a, b, out=a)),
    }
    rows = []
    for name, (formula, arrays, kernel) in kernels.items():
        times = []
        for _ in range(_REPEATS + 1):
            ctx.world.Barrier()
            started = perf_counter()
            kernel()
            times.append(perf_counter() - started)
        slowest = ctx.gather(np.array(times[1:])).max(axis=0)
        moved = ctx.size * arrays * _BYTES
        p10, median, p90 = (moved / float(t) for t in np.percentile(slowest, [90, 50, 10]))
        rows.append(
            {
                "kernel": name,
                "formula": formula,
                "bytes_per_s": median,
                "p10_bytes_per_s": p10,
                "p90_bytes_per_s": p90,
            }
        )
    return {
        "benchmark": "stream",
        "machine": config.processor(),
        "ranks": ctx.size,
        "nodes": ctx.node_count,
        "rows": rows,
    }
