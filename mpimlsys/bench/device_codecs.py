"""Encoding and decoding on a GPU beside its own copy and, where it is, ``torch.topk``.

All in turn in one run, in another order each time, on one stream; times are of the device's events.
Before each timing as much memory as the array has is copied that the timed kernels do not use, so
that no cache holds what they read. Every frame that was timed is compared with the CPU's, byte for
byte; residuals, decoded arrays and sums by their checksums. An operation whose result is wrong is
not timed any more, and its row says so.

``bytes_moved`` are those that any implementation has to move, for n elements and a frame of F
bytes; what ours moves besides lowers its ``bytes_per_s``:

================  ================================================================================
encode            4 n + F: the array is read, the frame written
encode_feedback   12 n + F: the array and the residual are read, the residual and the frame written
decode            4 n + F: the frame is read, the array written
add_8             for each of 8 frames F + 2 S: the frame is read, what it touches read and written
================  ================================================================================

S are the bytes of the sectors of 32 bytes, the least that goes between a GPU and its memory, in
which a sparse frame has an element: counted in what the frame decodes to. ``random_k`` without
feedback has to read only the sectors of what it draws: S + F. The device's copy reads and writes
the array: 8 n.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mpimlsys.bench import codecs as on_cpu
from mpimlsys.bench.allreduce import bytes_of, size_text
from mpimlsys.bench.device_cases import (
    Allocate,
    Arrays,
    Case,
    arrays_on,
    cases_of,
    copy_case,
    torch_topk,
)
from mpimlsys.compress.codec import Codec, parse
from mpimlsys.device import Gpu, gpu
from mpimlsys.device.gpu import number_for
from mpimlsys.device.memory import Memory

DEFAULT = f"{on_cpu.DEFAULT},top_k:0.01:sampled,random_k:0.01"
DEFAULT_SIZES = "256MiB"
_BUDGET_BYTES = 1 << 32  # of each codec and size
_REPEATS = (5, 50)
_WARMUP = 1


def run(*, codecs: str, sizes: str, as_json: bool) -> int:
    """Measure on the GPU of this process and print; returns the exit status."""
    chosen = [parse(text) for text in codecs.split(",")]
    nbytes = [bytes_of(text) for text in sizes.split(",")]
    card = gpu(number_for(0))
    result = {**about(card), "rows": []}
    rows = result["rows"]
    try:
        measure(card, partial(Memory, card), chosen, nbytes, rows)
    finally:  # also what was timed before an error of the GPU, which ends it
        if rows and as_json:
            print(json.dumps(result), flush=True)
        elif rows:
            _print(result)
    return 1 if any(row["wrong"] for row in rows) else 0


def about(card: Gpu) -> dict[str, Any]:
    """What is measured where."""
    info = card.native.info()
    return {
        "benchmark": "device codecs",
        "device": info["name"],
        "compute_capability": list(info["compute_capability"]),
        "driver": info["driver"],
        "runtime": info["runtime"],
        "dtype": "float32",
    }


def measure(
    card: Gpu,
    allocate: Allocate,
    codecs: Sequence[Codec],
    sizes: Sequence[int],
    rows: list[dict[str, Any]],
) -> None:
    """Time the codecs on normally distributed float32.

    Args:
        card: the GPU.
        allocate: gives memory of it.
        codecs: what to time.
        sizes: of the array, in bytes.
        rows: gets one per size, codec and operation; ``wrong`` of a row says what was not the
            CPU's.

    Raises:
        ConfigError: the device has no memory for it, or no such codec.
    """
    for size in sizes:
        with arrays_on(card, allocate, size // 4, codecs) as arrays:
            _time(arrays, codecs, rows)


def _time(arrays: Arrays, codecs: Sequence[Codec], rows: list[dict[str, Any]]) -> None:
    copy = copy_case(arrays)
    own = [case for codec in codecs for case in cases_of(arrays, codec)]
    tops = {str(codec): case for codec in codecs if (case := torch_topk(arrays, codec)) is not None}
    everything = [copy, *own, *tops.values()]
    repeats = min(max(_BUDGET_BYTES // arrays.nbytes, _REPEATS[0]), _REPEATS[1])
    try:
        for repeat in range(-_WARMUP, repeats):
            sound = [case for case in everything if not case.wrong]
            for case in random.Random(repeat).sample(sound, len(sound)):
                _repeat(arrays, case, counts=repeat >= 0)
    finally:
        copied = copy.median_s and copy.bytes_moved / copy.median_s
        rows += [_row(arrays.nbytes, case, copied, tops.get(str(case.codec))) for case in own]


def _repeat(arrays: Arrays, case: Case, *, counts: bool) -> None:
    case.prepare()
    seconds = arrays.seconds(case.start)
    try:
        case.check()
    except AssertionError as error:
        case.wrong = str(error)
        return
    if counts:
        case.times.append(seconds)


def _row(nbytes: int, case: Case, copied: float | None, top: Case | None) -> dict[str, Any]:
    p10, middle, p90 = (
        (float(value) for value in np.percentile(case.times, [10, 50, 90]))
        if case.times
        else (None, None, None)
    )
    speed = middle and case.bytes_moved / middle
    theirs = None
    if top is not None and case.operation.startswith("encode"):
        theirs = top.median_s
    return {
        "codec": str(case.codec),
        "operation": case.operation,
        "bytes": nbytes,
        "wrong": case.wrong,
        "repeats": len(case.times),
        "median_s": middle,
        "p10_s": p10,
        "p90_s": p90,
        "frame_bytes": case.frame_bytes,
        "bytes_moved": case.bytes_moved,
        "bytes_per_s": speed,
        "copy_bytes_per_s": copied,
        "ratio_to_copy": speed and copied and speed / copied,
        "torch_topk_s": theirs,
        "ratio_to_torch_topk": theirs and middle and theirs / middle,
    }


def _print(result: dict[str, Any]) -> None:
    rows = result["rows"]
    print(
        f"codecs on float32, {result['device']}, CUDA {_version(result['runtime'])} (driver "
        f"{_version(result['driver'])}); bytes that have to be moved, over the time, beside those "
        "of the device's copy"
    )
    print(
        f"{'size':>10}  {'codec':<18} {'operation':<15} {'median':>11} {'p10':>11} {'p90':>11} "
        f"{'GB/s':>8} {'copy':>8} {'ratio':>6} {'to torch.topk':>13}"
    )
    for row in rows:
        what = f"{size_text(row['bytes']):>10}  {row['codec']:<18} {row['operation']:<15} "
        if not row["ratio_to_copy"]:
            print(f"{what} not timed. {row['wrong']}")
            continue
        times = " ".join(f"{1e6 * row[key]:>8,.1f} µs" for key in ("median_s", "p10_s", "p90_s"))
        top = f"{row['ratio_to_torch_topk']:.1f}" if row["ratio_to_torch_topk"] else "-"
        print(
            f"{what}{times} {row['bytes_per_s'] / 1e9:>8.1f} {row['copy_bytes_per_s'] / 1e9:>8.1f} "
            f"{row['ratio_to_copy']:>6.0%} {top:>13}  {row['wrong']}".rstrip()
        )


def _version(number: int) -> str:
    """13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"
