"""What ``compress = "auto"`` has to know: the link, and the codecs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from mpimlsys.compress.auto import CANDIDATES, Speed
from mpimlsys.compress.codec import Codec
from mpimlsys.context import Context
from mpimlsys.types import Array

_SAMPLE = 1 << 18  # elements: 1 MiB
_SMALL = 1 << 12  # 16 KiB, which a link's latency dominates
_REPEATS = 3


def link(ctx: Context) -> tuple[float, float]:
    """Seconds of a message and seconds per byte, from a ring of two sizes. Collective."""
    steps = 2 * (ctx.group.size - 1)
    small_s, large_s = (
        _least(_reduce, ctx, np.zeros(count, np.float32), "ring") for count in (_SMALL, _SAMPLE)
    )
    moved = steps / ctx.group.size * 4 * (_SAMPLE - _SMALL)
    return small_s / steps, max(large_s - small_s, 0.0) / moved


def dense(ctx: Context, counts: Sequence[int]) -> dict[int, float]:
    """Seconds of an all-reduce of so many elements, as the gradient's arrays lie. Collective.

    Beyond 1 MiB the time is taken to grow with the size.
    """
    times = {}
    for count in sorted(set(counts)):
        array = ctx.empty(min(count, _SAMPLE), np.float32)
        array[...] = 0
        took_s = _least(_reduce, ctx, array, ctx.comm.algorithm)
        times[count] = took_s * max(1.0, count / _SAMPLE)
    return times


def speeds(native: Any, gradient: Array) -> dict[Codec, Speed]:
    """The candidates on a sample of the gradient. Local."""
    x = np.ascontiguousarray(gradient[:_SAMPLE])
    into = np.zeros_like(x)
    found = {}
    for codec in CANDIDATES:
        spec = codec.native(native)
        frame = np.empty(native.frame_bound(spec, x.size), np.uint8)
        length = native.encode_into(spec, x, frame)
        encode_s = _least(native.encode_into, spec, x, frame)
        decode_s = _least(native.add_into, frame[:length], 1.0, into)
        found[codec] = Speed(encode_s / x.size, decode_s / x.size, length / x.size)
    return found


def _reduce(ctx: Context, array: Array, algorithm: str) -> None:
    ctx.native.all_reduce(ctx.peers.transport, array, algorithm=algorithm, timeout_s=ctx.timeout_s)


def _least(work: Callable[..., object], *arguments: object) -> float:
    times = []
    for _ in range(_REPEATS):
        started = perf_counter()
        work(*arguments)
        times.append(perf_counter() - started)
    return min(times)
