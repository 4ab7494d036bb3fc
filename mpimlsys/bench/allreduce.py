"""All-reduce beside the MPI's own and, where PyTorch is installed, Gloo; all in turn in one run.

Every rank rewrites its input before each repetition, outside the timing; a repetition takes as long
as its slowest rank; the result of every repetition is checked. Bandwidths are those of NCCL's
tests: the algorithm's is bytes over time, the bus's is that times 2 (P - 1) / P.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import mpimlsys as mls
from mpimlsys import config
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, nearest
from mpimlsys.types import Array

_OWN = ("auto", "ring", "doubling", "halving", "shared", "hierarchical")
_ALGORITHMS = (*_OWN, "mpi", "gloo")
DEFAULT = "auto,ring,mpi,gloo"
SIZES = "1KiB,4KiB,64KiB,1MiB,16MiB,64MiB,256MiB"
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_BUDGET_BYTES = 1 << 28  # of each algorithm and size
_REPEATS = (7, 300)
_WARMUP = 2
_PROBE_BYTES = 64

Call = Callable[[Array], None]


def run(*, sizes: str, algorithms: str, memory: str, as_json: bool, plot: Path | None) -> int:
    """Measure on all ranks and print on rank 0; returns the exit status. Collective."""
    chosen = _chosen(algorithms)
    result = measure(
        [bytes_of(text) for text in sizes.split(",")],
        chosen,
        ("context", "user") if memory == "both" else (memory,),
    )
    if not mls.init().is_root:
        return 0
    if plot is not None:
        _draw(result, plot)
    if as_json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def measure(
    sizes: Sequence[int], algorithms: Sequence[str], memories: Sequence[str]
) -> dict[str, Any]:
    """Time float32 sums in place. Collective.

    Args:
        sizes: in bytes.
        algorithms: ours, ``mpi`` for the MPI's own and ``gloo``.
        memories: ``context`` for arrays of ``ctx.empty``, ``user`` for those of NumPy.

    Returns:
        ``rows`` with a row per size, algorithm and memory, and what was measured where.

    Raises:
        ConfigError: one rank only, or Gloo without PyTorch.
        AssertionError: a result is wrong.
    """
    ctx = mls.init()
    if ctx.size < 2:
        raise ConfigError("an all-reduce needs ranks: mpirun -n 2 mpimlsys bench allreduce")
    calls = {name: _call(ctx, name) for name in algorithms}
    probe = {"auto": _call(ctx, "auto")}
    rows = []
    for size in sizes:
        # virtual cores move: whether they share a cache may change from size to size
        (probed,) = _measure_size(ctx, _PROBE_BYTES // 4, probe, ("user",))
        measured = _measure_size(ctx, size // 4, calls, memories)
        rows += [row | {"probe_s": probed["median_s"]} for row in measured]
    return {
        "benchmark": "allreduce",
        "machine": config.processor(),
        "mpi": _mpi_version(),
        "ranks": ctx.size,
        "nodes": ctx.node_count,
        "dtype": "float32",
        "rows": rows,
    }


def _measure_size(
    ctx: Context, count: int, calls: dict[str, Call], memories: Sequence[str]
) -> list[dict[str, Any]]:
    nbytes = 4 * count
    source = (np.arange(count) % 251 + ctx.rank).astype(np.float32)
    # small whole numbers, so that the sum is exact in any order
    wanted = (source - ctx.rank) * ctx.size + ctx.size * (ctx.size - 1) // 2
    buffers = {
        "context": ctx.empty(count, np.float32) if "context" in memories else source,
        "user": np.empty(count, np.float32),
    }
    cases = [
        (name, memory)
        for memory in memories
        for name in calls
        if memory == "user" or name in _OWN  # to the others memory is memory
    ]
    repeats = min(max(_BUDGET_BYTES // max(nbytes, 1), _REPEATS[0]), _REPEATS[1])
    times: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for repeat in range(-_WARMUP, repeats):
        # in another order each time, the same on all ranks, so that none always follows another
        for name, memory in random.Random(repeat).sample(cases, len(cases)):
            buffer = buffers[memory]
            np.copyto(buffer, source)
            ctx.world.Barrier()
            started = perf_counter()
            calls[name](buffer)
            elapsed = perf_counter() - started
            if not np.array_equal(buffer, wanted):
                raise AssertionError(f"{name} in {memory} memory gave a wrong sum of {nbytes} B")
            if repeat >= 0:
                times[name, memory].append(elapsed)
    slowest = ctx.gather(np.array([times[case] for case in cases])).max(axis=0)
    rows = [_row(ctx, *case, nbytes, own) for case, own in zip(cases, slowest, strict=True)]
    medians = {(row["algorithm"], row["memory"]): row["median_s"] for row in rows}
    for row in rows:
        mpi = medians.get(("mpi", "user"))
        row["ratio_to_mpi"] = mpi / row["median_s"] if mpi else None
    return rows


def _row(ctx: Context, name: str, memory: str, nbytes: int, seconds: Array) -> dict[str, Any]:
    p10, middle, p90 = (float(value) for value in np.percentile(seconds, [10, 50, 90]))
    bandwidth = nbytes / middle
    return {
        "algorithm": name,
        "memory": memory,
        "ranks": ctx.size,
        "bytes": nbytes,
        "repeats": len(seconds),
        "median_s": middle,
        "p10_s": p10,
        "p90_s": p90,
        "algbw_bytes_per_s": bandwidth,
        "busbw_bytes_per_s": bandwidth * 2 * (ctx.size - 1) / ctx.size,
    }


def _call(ctx: Context, name: str) -> Call:
    """What is timed. Collective."""
    if name == "mpi":
        from mpi4py import MPI

        return lambda array: ctx.world.Allreduce(MPI.IN_PLACE, array)
    if name == "gloo":
        return _gloo(ctx)
    transport = ctx.peers.transport
    return lambda array: ctx.native.all_reduce(transport, array, "sum", algorithm=name)


def _gloo(ctx: Context) -> Call:
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("gloo comes with PyTorch, which is not installed: pip install torch")
    import torch
    from torch import distributed

    host = ctx.broadcast_bytes(socket.gethostname().encode()).decode()
    port = 0
    if ctx.is_root:
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
    port = int(ctx.broadcast_bytes(str(port).encode()))
    if not distributed.is_initialized():
        distributed.init_process_group(
            "gloo", init_method=f"tcp://{host}:{port}", rank=ctx.rank, world_size=ctx.size
        )

    def call(array: Array) -> None:
        distributed.all_reduce(torch.from_numpy(array))

    return call


def _chosen(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in _ALGORITHMS:
            raise ConfigError(f"no algorithm is called {name!r}.{nearest(name, _ALGORITHMS)}")
    if text == DEFAULT:
        # asked for by default only where it can be had
        names = [name for name in names if name != "gloo" or importlib.util.find_spec("torch")]
    return names


def bytes_of(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*(|B|KiB|MiB|GiB)", text.strip())
    if match is None or int(match[1]) * _UNITS[match[2]] < 4:
        raise ConfigError(f"{text!r} is not a size; write 4096, 64KiB or 16MiB, at least 4 bytes.")
    return int(match[1]) * _UNITS[match[2]]


def _mpi_version() -> str:
    from mpi4py import MPI

    vendor, version = MPI.get_vendor()
    return f"{vendor} {'.'.join(map(str, version))}"


def _print(result: dict[str, Any]) -> None:
    probes = [1e6 * row["probe_s"] for row in result["rows"]]
    print(
        f"all-reduce of float32, {result['ranks']} ranks on {result['nodes']} node(s), "
        f"{result['mpi']}, {result['machine']}; {_PROBE_BYTES} bytes take {min(probes):.1f} to "
        f"{max(probes):.1f} µs"
    )
    print(
        f"{'size':>10}  {'algorithm':<9} {'memory':<7} {'median':>11} {'p10':>11} {'p90':>11} "
        f"{'bus GB/s':>9} {'to MPI':>7}"
    )
    for row in result["rows"]:
        ratio = f"{row['ratio_to_mpi']:.2f}" if row["ratio_to_mpi"] else "-"
        times = " ".join(f"{1e6 * row[key]:>8,.1f} µs" for key in ("median_s", "p10_s", "p90_s"))
        print(
            f"{size_text(row['bytes']):>10}  {row['algorithm']:<9} {row['memory']:<7} {times} "
            f"{row['busbw_bytes_per_s'] / 1e9:>9.2f} {ratio:>7}"
        )


def size_text(nbytes: int) -> str:
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if nbytes % _UNITS[unit] == 0)
    return f"{nbytes // _UNITS[unit]} {unit}"


def _draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    rows = result["rows"]
    for name, memory in dict.fromkeys((row["algorithm"], row["memory"]) for row in rows):
        own = [row for row in rows if (row["algorithm"], row["memory"]) == (name, memory)]
        label = name if name in ("mpi", "gloo") else f"{name}, {memory} memory"
        bandwidths = [row["busbw_bytes_per_s"] / 1e9 for row in own]
        axes.plot([row["bytes"] for row in own], bandwidths, marker="o", label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="bytes",
        ylabel="bus bandwidth, GB/s",
        title=f"All-reduce, {result['ranks']} ranks, {result['mpi']}",
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)
    pyplot.close(figure)
