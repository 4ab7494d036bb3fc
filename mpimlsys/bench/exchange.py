"""The whole compressed all-reduce beside the dense one, over the links between the ranks.

All in turn in one run. Every rank has a gradient of its own; the slowest rank counts. What the
ranks agree on is checked: the same bits on all of them, and without error feedback the sum up to
the codec's error, which is told.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np

import mpimlsys as mls
from mpimlsys import config
from mpimlsys.bench.allreduce import bytes_of, size_text
from mpimlsys.compress.codec import Codec, parse
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.types import Array

_DENSE = "none"
_BUDGET_S = 10.0  # of each size
_REPEATS = (3, 50)


def run(*, codecs: str, sizes: str, as_json: bool) -> int:
    """Measure on all ranks and print on rank 0; returns the exit status. Collective."""
    chosen = [parse(text) for text in codecs.split(",")]
    counts = [bytes_of(text) // 4 for text in sizes.split(",")]
    ctx = mls.init()
    if 0 in counts:
        raise ConfigError(f"--sizes {sizes}: a gradient has 4 bytes or more.")
    if ctx.size < 2:
        raise ConfigError(
            "there is nothing to exchange with one rank: mpirun -n 4 mpimlsys bench exchange"
        )
    rows = [row for count in counts for row in measure(ctx, chosen, count)]
    if not ctx.is_root:
        return 0
    if as_json:
        print(json.dumps({"benchmark": "exchange", "machine": config.processor(), "rows": rows}))
        return 0
    print(f"{ctx.size} ranks on {ctx.node_count} node(s), {config.processor()}")
    for row in rows:
        print(
            f"  {size_text(row['bytes']):>8}  {row['codec']:<18} {1e3 * row['median_s']:9.3f} ms  "
            f"{row['ratio_to_dense']:6.2f} x dense  {row['sent_bytes']:>12,} bytes sent  "
            f"error {row['error']:.3g}"
        )
    return 0


def measure(ctx: Context, codecs: Sequence[Codec], count: int) -> list[dict[str, Any]]:
    """A row per codec, and one of the dense all-reduce first. Collective.

    Args:
        codecs: what to compare.
        count: elements of the gradient.

    Returns:
        Rows with ``codec``, ``bytes``, ``ranks``, ``median_s``, ``p10_s``, ``p90_s``,
        ``ratio_to_dense`` (the dense median over this one), ``sent_bytes`` by the rank that sends
        most, and ``error``: ``|result - sum|^2 / |sum|^2``.

    Raises:
        CorruptData: ranks have different results.
    """
    rng = np.random.default_rng(ctx.rank)
    gradient = rng.standard_normal(count).astype(np.float32)
    wanted = gradient.astype(np.float64)
    ctx.native.all_reduce(ctx.peers.transport, wanted, timeout_s=ctx.timeout_s)
    cases = [_Dense(ctx, count), *(_Compressed(ctx, codec, count) for codec in codecs)]
    errors = [case.check(gradient, wanted) for case in cases]
    order = random.Random(0)
    times: list[list[float]] = [[] for _ in cases]
    started = perf_counter()
    going = np.ones(1)
    while going[0]:
        for index in order.sample(range(len(cases)), len(cases)):
            times[index].append(cases[index].timed(gradient))
        rounds = len(times[0])
        more = rounds < _REPEATS[0] or (
            rounds < _REPEATS[1] and perf_counter() - started < _BUDGET_S
        )
        going = np.array([float(more)])
        ctx.native.broadcast(ctx.peers.transport, going, 0, timeout_s=ctx.timeout_s)
    slowest = ctx.gather(np.array(times)).max(axis=0)
    p10, medians, p90 = np.percentile(slowest, [10, 50, 90], axis=1)
    sent = ctx.gather(np.array([case.sent_bytes for case in cases])).max(axis=0)
    return [
        {
            "codec": case.name,
            "bytes": 4 * count,
            "ranks": ctx.size,
            "nodes": ctx.node_count,
            "median_s": float(medians[index]),
            "p10_s": float(p10[index]),
            "p90_s": float(p90[index]),
            "ratio_to_dense": float(medians[0] / medians[index]),
            "sent_bytes": int(sent[index]),
            "error": errors[index],
        }
        for index, case in enumerate(cases)
    ]


class _Dense:
    """The all-reduce of an array of the context."""

    name = _DENSE

    def __init__(self, ctx: Context, count: int) -> None:
        self.ctx = ctx
        self.array = ctx.empty(count, np.float32)
        self.sent_bytes = 8 * count * (ctx.size - 1) // ctx.size

    def reduce(self) -> None:
        self.ctx.native.all_reduce(
            self.ctx.peers.transport,
            self.array,
            algorithm=self.ctx.comm.algorithm,
            timeout_s=self.ctx.timeout_s,
            check=False,
        )

    def timed(self, gradient: Array) -> float:
        self.array[...] = gradient
        self.ctx.native.barrier(self.ctx.peers.transport, timeout_s=self.ctx.timeout_s)
        started = perf_counter()
        self.reduce()
        return perf_counter() - started

    def check(self, gradient: Array, wanted: Array) -> float:
        self.array[...] = gradient
        self.reduce()
        first = self.array.copy()
        self.ctx.native.broadcast(self.ctx.peers.transport, first, 0, timeout_s=self.ctx.timeout_s)
        if not np.array_equal(first.view(np.uint8), self.array.view(np.uint8)):
            raise CorruptData(f"{self.name}: rank {self.ctx.rank} has other bits than rank 0")
        gap = self.array - wanted
        return float(gap @ gap / (wanted @ wanted))


class _Compressed(_Dense):
    """The same with a codec, without error feedback."""

    def __init__(self, ctx: Context, codec: Codec, count: int) -> None:
        super().__init__(ctx, count)
        self.name = str(codec)
        self.spec = codec.native(ctx.native)
        side = int(count**0.5)
        low_rank = codec.name == "power_sgd"
        self.memory = ctx.native.Compressor(
            count,
            parts=[(0, side * side)] if low_rank else [(0, count)],
            matrices=[(0, side, side)] if low_rank else [],
        )
        self.step = 0

    def reduce(self) -> None:
        self.ctx.native.compressed_all_reduce(
            self.ctx.peers.transport,
            self.array,
            self.memory,
            self.spec,
            step=self.step,
            timeout_s=self.ctx.timeout_s,
            check=self.step == 0,
        )
        self.step += 1
        self.sent_bytes = self.memory.sent_bytes
