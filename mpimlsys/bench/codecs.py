"""Encoding and decoding of gradients beside memcpy, NumPy and, where installed, PyTorch.

All in turn in one run, in another order each time. Bytes per second count the float32 bytes of the
array, whatever the codec makes of them. With several threads the array is cut into as many parts,
each of which becomes a frame. Every frame that was timed is checked, and so is what it decodes to.
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from mpimlsys import config, native
from mpimlsys.bench.allreduce import bytes_of, size_text
from mpimlsys.compress.codec import Codec, parse
from mpimlsys.errors import ConfigError
from mpimlsys.kernels.codecs import cast, quantise
from mpimlsys.types import Array

DEFAULT = (
    "fp16,bf16,fp8_e4m3,fp8_e5m2,int8,int8:stochastic,int4,int4:stochastic,int2,int2:stochastic,"
    "sign,ternary,natural,top_k:0.01"
)
DEFAULT_SIZES = "1MiB,64MiB"
DEFAULT_THREADS = "1,2"
_HEADER_BYTES = 32
_BUDGET_BYTES = 1 << 30  # of each codec and size
_REPEATS = (5, 50)
_WARMUP = 1
_REFERENCE_BYTES = 1 << 22  # NumPy is slow, at any size
_OTHERS_REPEATS = 3
_KEY = 1

Call = Callable[[], object]


def run(*, codecs: str, sizes: str, threads: str, as_json: bool) -> int:
    """Measure and print; returns the exit status."""
    result = measure(
        [parse(text) for text in codecs.split(",")],
        [bytes_of(text) for text in sizes.split(",")],
        [_threads_of(text) for text in threads.split(",")],
    )
    if as_json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def measure(
    codecs: Sequence[Codec], sizes: Sequence[int], threads: Sequence[int]
) -> dict[str, Any]:
    """Time the codecs on normally distributed float32.

    Args:
        codecs: what to time.
        sizes: of the array, in bytes.
        threads: how many encode or decode at the same time.

    Returns:
        ``rows`` with a row per size, number of threads and codec, and what was measured where.

    Raises:
        AssertionError: a frame or what it decodes to is wrong.
    """
    extension = native.load()
    rows = []
    for nbytes in sizes:
        x = np.random.default_rng(0).standard_normal(nbytes // 4, np.float32)
        others = {codec: _others(extension, codec, x) for codec in codecs}
        for count in threads:
            with ThreadPoolExecutor(count) as pool:
                measured = _measure(extension, codecs, x, pool, count)
            rows += [row | others[codec] for row, codec in zip(measured, codecs, strict=True)]
    return {
        "benchmark": "codecs",
        "machine": config.processor(),
        "isa": extension.isa(),
        "dtype": "float32",
        "rows": rows,
    }


class _Case:
    """One codec on the parts of an array."""

    def __init__(self, extension: Any, codec: Codec, x: Array, threads: int) -> None:
        self.extension = extension
        self.spec = codec.native(extension)
        granule = next(row["granule"] for row in extension.codecs() if row["name"] == codec.name)
        self.parts = _cut(len(x), threads, max(granule, 1))
        self.x = x
        self.frames = [
            np.ones(extension.frame_bound(self.spec, part.stop - part.start), np.uint8)
            for part in self.parts
        ]
        self.lengths = [0] * len(self.parts)
        self.sums: list[bytes] = []
        self.encode_s: list[float] = []
        self.decode_s: list[float] = []

    def encode(self, i: int) -> None:
        part = self.parts[i]
        self.lengths[i] = self.extension.encode_into(
            self.spec, self.x[part], self.frames[i], key=_KEY, first=part.start
        )

    def decode(self, i: int, into: Array) -> None:
        self.extension.decode_into(self.frames[i][: self.lengths[i]], into[self.parts[i]])

    def check(self, decoded: Array) -> None:
        """The same frames and values as before; their checksums tell."""
        sums = b"".join(frame[:_HEADER_BYTES].tobytes() for frame in self.frames)
        sums += self.extension.crc32c(decoded.view(np.uint8)).to_bytes(4, "little")
        self.sums = self.sums or [sums]
        if sums != self.sums[0]:
            raise AssertionError("encoding the same array gave another frame")


def _measure(
    extension: Any, codecs: Sequence[Codec], x: Array, pool: ThreadPoolExecutor, threads: int
) -> list[dict[str, Any]]:
    cases = [_Case(extension, codec, x, threads) for codec in codecs]
    into = np.ones_like(x)
    parts = _cut(len(x), threads, 1)
    repeats = min(max(_BUDGET_BYTES // x.nbytes, _REPEATS[0]), _REPEATS[1])

    def on_all(call: Callable[[int], object]) -> float:
        started = perf_counter()
        if threads == 1:
            call(0)
        else:
            list(pool.map(call, range(threads)))
        return perf_counter() - started

    memcpy_s = []
    for repeat in range(-_WARMUP, repeats):
        copying = on_all(lambda i: np.copyto(into[parts[i]], x[parts[i]]))
        if repeat >= 0:
            memcpy_s.append(copying)
        for case in random.Random(repeat).sample(cases, len(cases)):
            encoding = on_all(case.encode)
            decoding = on_all(lambda i, case=case: case.decode(i, into))  # type: ignore[misc]
            case.check(into)
            if repeat >= 0:
                case.encode_s.append(encoding)
                case.decode_s.append(decoding)
    memcpy = x.nbytes / median(memcpy_s)
    rows = []
    for codec, case in zip(codecs, cases, strict=True):
        encode, decode = (x.nbytes / median(times) for times in (case.encode_s, case.decode_s))
        rows.append(
            {
                "codec": str(codec),
                "bytes": x.nbytes,
                "threads": threads,
                "repeats": repeats,
                "encode_bytes_per_s": encode,
                "decode_bytes_per_s": decode,
                "memcpy_bytes_per_s": memcpy,
                "encode_ratio_to_memcpy": encode / memcpy,
                "decode_ratio_to_memcpy": decode / memcpy,
                "frame_bytes": sum(case.lengths),
            }
        )
    return rows


def _cut(count: int, threads: int, granule: int) -> list[slice]:
    edges = [part * count // threads // granule * granule for part in range(threads)]
    return [slice(start, end) for start, end in zip(edges, [*edges[1:], count], strict=True)]


def _others(extension: Any, codec: Codec, x: Array) -> dict[str, float | None]:
    """What NumPy and PyTorch take on one thread; None where there is nothing to compare with."""
    small = x[: _REFERENCE_BYTES // 4]
    reference = _reference(codec, small)
    if reference is not None:
        frame = extension.encode(codec.native(extension), small, key=_KEY)
        if frame[_HEADER_BYTES:].tobytes() != reference().tobytes():
            raise AssertionError(f"{codec} is not what the NumPy reference makes")
    torch = _torch(codec, x)
    return {
        "reference_encode_bytes_per_s": reference and small.nbytes / _seconds(reference),
        "torch_encode_bytes_per_s": torch and x.nbytes / _seconds(torch),
    }


def _seconds(call: Call) -> float:
    times = []
    for _ in range(_OTHERS_REPEATS):
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return median(times)


def _reference(codec: Codec, x: Array) -> Callable[[], Array] | None:
    if codec.name in cast.CODECS:
        return lambda: cast.encode(codec.name, x)
    if codec.name in quantise.BITS:
        stochastic = codec.option == "stochastic"
        return lambda: quantise.encode(codec.name, x, stochastic=stochastic, key=_KEY)
    return None


def _torch(codec: Codec, x: Array) -> Call | None:
    """What one would write in PyTorch, without packing bits, which it has no operation for."""
    if importlib.util.find_spec("torch") is None or codec.values != "none":
        return None
    import torch

    torch.set_num_threads(1)
    flat = torch.from_numpy(x)
    rows = flat[: len(x) // 256 * 256].view(-1, 256)
    keep = max(round(codec.amount * len(x)), 1)

    def levels(most: int) -> Any:
        scale = rows.abs().amax(1, keepdim=True)
        exact = rows / scale * most
        if codec.option == "stochastic":
            return scale, (exact + torch.rand_like(exact)).floor().to(torch.int8)
        return scale, exact.round().to(torch.int8)

    def top_k() -> Any:
        indices = flat.abs().topk(keep, sorted=False).indices
        return indices, flat[indices]

    def ternary() -> Any:
        scale = rows.abs().amax(1, keepdim=True)
        return scale, (torch.bernoulli(rows.abs() / scale) * rows.sign()).to(torch.int8)

    calls: dict[str, Call] = {
        "fp16": lambda: flat.half(),
        "bf16": lambda: flat.bfloat16(),
        "fp8_e4m3": lambda: flat.to(torch.float8_e4m3fn),
        "fp8_e5m2": lambda: flat.to(torch.float8_e5m2),
        "int8": lambda: levels(127),
        "int4": lambda: levels(7),
        "int2": lambda: levels(1),
        "sign": lambda: (rows.abs().mean(1), rows.sign().to(torch.int8)),
        "ternary": ternary,
        "top_k": top_k,
        "threshold": lambda: flat[(flat.abs() >= codec.amount).nonzero()],
    }
    return calls.get(codec.name)


def _threads_of(text: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= 64:
        raise ConfigError(f"{text!r} is not a number of threads; write 1 to 64, such as 1,2.")
    return int(text)


def _print(result: dict[str, Any]) -> None:
    print(
        f"codecs on float32, {result['machine']}, {result['isa']}; GB/s of the array, "
        "and as a share of memcpy's in the same run"
    )
    print(
        f"{'size':>10} {'threads':>7}  {'codec':<16} {'encode':>13} {'decode':>13} {'memcpy':>7} "
        f"{'NumPy':>7} {'torch':>7}  frame"
    )
    for row in result["rows"]:
        encode, decode = (
            f"{row[f'{what}_bytes_per_s'] / 1e9:>7.2f} {row[f'{what}_ratio_to_memcpy']:>4.0%}"
            for what in ("encode", "decode")
        )
        others = " ".join(
            f"{row[f'{who}_encode_bytes_per_s'] / 1e9:>7.3f}"
            if row[f"{who}_encode_bytes_per_s"]
            else f"{'-':>7}"
            for who in ("reference", "torch")
        )
        print(
            f"{size_text(row['bytes']):>10} {row['threads']:>7}  {row['codec']:<16} {encode:>13} "
            f"{decode:>13} {row['memcpy_bytes_per_s'] / 1e9:>7.2f} {others}  "
            f"{row['frame_bytes'] / row['bytes']:.4f}"
        )
