"""All-reduce of arrays on GPUs, beside the GPU's own copy and the way over the host.

Before each repetition every rank writes its input anew, outside the timing, which is of the slowest
rank; results are checked, and a row whose sum was wrong on some rank says so. Arrays of all sizes
are slices of one allocation, which the other ranks open once. An algorithm is timed

    alone     from the call until the result is in the GPU's memory, by the host's clock
    in a row  one of several that are started one after the other, each of an array of its own, as
              those of a backward pass are: by the device's events on the caller's stream

``staged`` is ``auto`` where GPUs do not use each other's memory: through the host's. In the same
run:

    copy      from GPU memory to GPU memory, by one rank while the others wait: bytes read and
              written per second of several in a row, by the device's events, which come behind
              copies of the largest size: these last longer than it takes to start the timed ones,
              and leave nothing of them in a cache
    to host,  to pinned memory and from it, by all ranks together: by the device's events
    from host
    host      our all-reduce of as many bytes in ``ctx.empty``
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import mpimlsys as mls
from mpimlsys import device
from mpimlsys.bench.allreduce import bytes_of, size_text
from mpimlsys.context import Context
from mpimlsys.device.gpu import number_for
from mpimlsys.device.memory import Memory, Pinned
from mpimlsys.errors import ConfigError
from mpimlsys.types import Array

_STAGED = "staged"
ALGORITHMS = ("auto", _STAGED, "shared", "ring", "doubling", "halving", "mpi")
DEFAULT = f"auto,{_STAGED}"
SIZES = "64KiB,1MiB,16MiB,64MiB,256MiB"
_BUDGET_BYTES = 1 << 30  # of each algorithm and size
_REPEATS = (7, 100)
_IN_A_ROW = (2, 8)
_AHEAD = 4  # copies that the timed ones are started behind
_ALIGNED = 256  # bytes
_WARMUP = 2
_TIMEOUT_S = 60.0
_ROW = " in a row"  # behind an algorithm's name


class OnGpu:
    """float32 in memory of the package, as any library's array shows itself."""

    def __init__(self, memory: Memory, count: int, start: int = 0) -> None:
        self.memory = memory
        self.address = memory.address + start
        self.count = count

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        where = {"data": (self.address, False), "strides": None, "version": 3}
        return {"shape": (self.count,), "typestr": "<f4", **where}


def run(*, sizes: str, algorithms: str, as_json: bool) -> int:
    """Measure on all ranks and print on rank 0; returns the exit status. Collective."""
    names = algorithms.split(",")
    for name in names:
        if name not in ALGORITHMS:
            raise ConfigError(f"{name!r} is none of {', '.join(ALGORITHMS)}.")
    result: dict[str, Any] = {"benchmark": "allreduce", "dtype": "float32", "rows": []}
    rows = result["rows"]
    try:
        measure([bytes_of(text) for text in sizes.split(",")], names, result)
    finally:  # also the sizes before one that fails
        if rows and mls.init().is_root:
            if as_json:
                print(json.dumps(result), flush=True)
            else:
                _print(result)
    return 1 if any(row["wrong"] for row in rows) else 0


def measure(sizes: Sequence[int], algorithms: Sequence[str], result: dict[str, Any]) -> None:
    """Time float32 sums in place. Collective.

    Args:
        sizes: in bytes.
        algorithms: as :func:`mpimlsys.allreduce` takes them for arrays on GPUs, or ``"staged"``.
        result: gets what was measured where; its ``rows`` a row per size and algorithm, as soon as
            the size is done. ``wrong`` of a row says which sums were.

    Raises:
        ConfigError: one rank only, or there is no GPU, or no memory.
    """
    ctx = mls.init()
    if ctx.size < 2:
        raise ConfigError(
            "an all-reduce needs ranks: mpirun -n 2 mpimlsys bench allreduce --device cuda"
        )
    with ctx.together():
        gpu = device.gpu(number_for(ctx.local_rank))
    numbers = ctx.gather(np.array([gpu.number, ctx.node], np.int64))
    own = numbers == numbers[ctx.rank]
    sharing = int(own.all(axis=1).sum())
    with ctx.together():
        blocks = Blocks(gpu, sizes)
    staged = device.open_queue(ctx, ctx.peers, OnGpu(blocks.arrays, 1), shared=False)
    result |= {
        "device": gpu.native.info()["name"],
        "ranks": ctx.size,
        "nodes": ctx.node_count,
        "ranks_of_a_gpu": sharing,
    }
    for size in sizes:
        measured = _Size(ctx, gpu, blocks, staged, size // 4, sharing).rows(algorithms)
        result["rows"] += measured
    blocks.pinned.close()


def in_a_row(nbytes: int) -> int:
    """How many arrays of a size are reduced one after the other."""
    return min(max(_BUDGET_BYTES // nbytes, _IN_A_ROW[0]), _IN_A_ROW[1])


def step_of(nbytes: int) -> int:
    """Bytes from one array to the next in their allocation."""
    return -(-nbytes // _ALIGNED) * _ALIGNED


class Blocks:
    """The memory of all sizes.

    Attributes:
        arrays: for those that are reduced.
        source: for what is in them at first.
        other: what is copied to, to keep the GPU busy.
        host: pinned.
    """

    def __init__(self, gpu: device.Gpu, sizes: Sequence[int]) -> None:
        self.largest = max(sizes)
        self.arrays = Memory(gpu, max(in_a_row(size) * step_of(size) for size in sizes))
        self.source = Memory(gpu, self.largest)
        self.other = Memory(gpu, self.largest)
        self.pinned = Pinned(gpu)
        self.host = self.pinned.take(self.largest)


class _Size:
    """Arrays of one size, and what is timed on them."""

    def __init__(
        self,
        ctx: Context,
        gpu: device.Gpu,
        blocks: Blocks,
        staged: device.Queue,
        count: int,
        sharing: int,
    ) -> None:
        self.ctx, self.gpu, self.blocks, self.staged = ctx, gpu, blocks, staged
        self.count, self.sharing = count, sharing
        self.nbytes = 4 * count
        self.stream = gpu.native.make_stream()
        starts = range(0, in_a_row(self.nbytes) * step_of(self.nbytes), step_of(self.nbytes))
        self.arrays = [OnGpu(blocks.arrays, count, start) for start in starts]
        self.array = self.arrays[0]
        self.wrong: set[str] = set()
        self.host = blocks.host[: self.nbytes].view(np.float32)
        pattern = (np.arange(count) % 251).astype(np.float32)
        self.own = pattern + np.float32(ctx.rank)
        # small whole numbers, so that the sum is exact in any order
        self.wanted = pattern * ctx.size + ctx.size * (ctx.size - 1) // 2
        self.node_array = ctx.empty(count, np.float32)
        self.copy(blocks.source.address, self.own.ctypes.data)

    def copy(self, into: int, source: int) -> None:
        """Copy the array's bytes, and wait for it."""
        with self.gpu.event() as copied:
            self.gpu.native.copy(into, source, self.nbytes, stream=self.stream)
            self.gpu.native.record(copied, self.stream)
            self.gpu.wait(copied, _TIMEOUT_S, "copying")

    def rows(self, algorithms: Sequence[str]) -> list[dict[str, Any]]:
        array, source = self.array.address, self.blocks.source.address
        host = self.host.ctypes.data
        cases: dict[str, Callable[[], float]] = {
            "to host": partial(self._copied, [(host, array)]),
            "from host": partial(self._copied, [(array, host)]),
            "host": partial(self._clocked, lambda: mls.allreduce(self.node_array, op="sum")),
            "copy": self._copied_on_gpu,
        }
        for name in algorithms:
            cases[name] = partial(self._clocked, partial(self._reduce, name))
            cases[f"{name}{_ROW}"] = partial(self._in_a_row, name)
        repeats = min(max(_BUDGET_BYTES // self.nbytes, _REPEATS[0]), _REPEATS[1])
        times: dict[str, list[float]] = {name: [] for name in cases}
        for repeat in range(-_WARMUP, repeats):
            for name in random.Random(repeat).sample(list(cases), len(cases)):
                for one in self.arrays:
                    self.copy(one.address, source)
                np.copyto(self.node_array, self.own)
                self.ctx.world.Barrier()
                elapsed = cases[name]()
                self.ctx.world.Barrier()  # the copy is measured alone
                self._check(name, algorithms)
                if repeat >= 0:
                    times[name].append(elapsed)
        slowest = self.ctx.gather(np.array([times[name] for name in cases])).max(axis=0)
        percentiles = {
            name: np.percentile(own, [10, 50, 90]) for name, own in zip(cases, slowest, strict=True)
        }
        self.gpu.native.drop_stream(self.stream)
        own = np.array([name in self.wrong for name in cases], np.uint8)
        wrong = self.ctx.gather(own).max(axis=0)
        names = [name for name, found in zip(cases, wrong, strict=True) if found]
        middle = {name: float(found[1]) for name, found in percentiles.items()}
        return [self._row(name, percentiles[name], middle, names) for name in algorithms]

    @staticmethod
    def _clocked(operation: Callable[[], object]) -> float:
        started = perf_counter()
        operation()
        return perf_counter() - started

    def _between(self, stream: int, operation: Callable[[], object], what: str) -> float:
        """Seconds of the device's events before and after what an operation does on a stream."""
        native = self.gpu.native
        with self.gpu.event(timed=True) as before, self.gpu.event(timed=True) as after:
            native.record(before, stream)
            operation()
            native.record(after, stream)
            self.gpu.wait(after, _TIMEOUT_S, what)
            return float(native.seconds_between(before, after))

    def _copied(self, places: Sequence[tuple[int, int]]) -> float:
        """Seconds of a copy; ``places`` are (into, source) of several in a row."""

        def copy() -> None:
            for into, source in places:
                self.gpu.native.copy(into, source, self.nbytes, stream=self.stream)

        return self._between(self.stream, copy, "copying") / len(places)

    def _copied_on_gpu(self) -> float:
        """Of two arrays each, which keep what is in them."""
        if not self.ctx.is_root:
            return 0.0
        for _ in range(_AHEAD):
            into, source = self.blocks.other.address, self.blocks.source.address
            self.gpu.native.copy(into, source, self.blocks.largest, stream=self.stream)
        whence, whither = self.arrays[::2], self.arrays[1::2]
        pairs = zip(whither, whence, strict=False)
        return self._copied([(into.address, source.address) for into, source in pairs])

    def _in_a_row(self, algorithm: str) -> float:
        stream = device.view(self.array).stream
        together = partial(self._reduce_all, algorithm)
        return self._between(stream, together, "the all-reduces") / len(self.arrays)

    def _reduce_all(self, algorithm: str) -> None:
        if algorithm == _STAGED:
            tickets = [self.staged.all_reduce(array) for array in self.arrays]
            for ticket in tickets:
                self.staged.wait(ticket, _TIMEOUT_S)
            return
        started = [
            # one of ALGORITHMS, as run() has made sure
            mls.allreduce_async(array, op="sum", algorithm=algorithm)  # type: ignore[arg-type]
            for array in self.arrays
        ]
        for one in started:
            one.wait()

    def _reduce(self, algorithm: str) -> None:
        if algorithm == _STAGED:
            ticket = self.staged.all_reduce(self.array, background=False, timeout_s=_TIMEOUT_S)
            self.staged.wait(ticket, _TIMEOUT_S)
        else:
            # one of ALGORITHMS, as run() has made sure
            mls.allreduce(self.array, op="sum", algorithm=algorithm)  # type: ignore[arg-type]
        with self.gpu.event() as done:  # on the stream that waits for the result
            self.gpu.native.record(done, device.view(self.array).stream)
            self.gpu.wait(done, _TIMEOUT_S, "the all-reduce")

    def _check(self, name: str, algorithms: Sequence[str]) -> None:
        found: Array | None = None
        if name.removesuffix(_ROW) in algorithms:
            last = self.arrays[-1] if name.endswith(_ROW) else self.array
            self.copy(self.host.ctypes.data, last.address)
            found = self.host
        elif name == "host":
            found = self.node_array
        if found is not None and not np.array_equal(found, self.wanted):
            self.wrong.add(name)  # all ranks go on

    def _row(
        self, name: str, percentiles: Array, middle: dict[str, float], wrong: Sequence[str]
    ) -> dict[str, Any]:
        p10, seconds, p90 = (float(value) for value in percentiles)
        copy = 2 * self.nbytes / middle["copy"]
        # each rank's array is read once and written once, by all ranks of a GPU together
        moved = 2 * self.nbytes * self.sharing
        slower = max(middle["to host"], middle["from host"], middle["host"])
        mistakes = [one for one in (name, f"{name}{_ROW}", "host") if one in wrong]
        return {
            "algorithm": name,
            "wrong": f"a wrong sum: {', '.join(mistakes)}" if mistakes else "",
            "ranks": self.ctx.size,
            "bytes": self.nbytes,
            "median_s": seconds,
            "p10_s": p10,
            "p90_s": p90,
            "busbw_bytes_per_s": self.nbytes / seconds * 2 * (self.ctx.size - 1) / self.ctx.size,
            "in_a_row": len(self.arrays),
            "in_a_row_s": middle[f"{name}{_ROW}"],
            "moved_bytes_per_s": moved / middle[f"{name}{_ROW}"],
            "copy_bytes_per_s": copy,
            "ratio_to_copy": moved / middle[f"{name}{_ROW}"] / copy,
            "to_host_s": middle["to host"],
            "from_host_s": middle["from host"],
            "host_s": middle["host"],
            "ratio_to_slower_of_host": slower / seconds,
        }


def _print(result: dict[str, Any]) -> None:
    print(
        f"all-reduce of float32 on {result['device']}, {result['ranks']} ranks on "
        f"{result['nodes']} node(s), {result['ranks_of_a_gpu']} of them on a GPU; its copy moves "
        f"{median(row['copy_bytes_per_s'] for row in result['rows']) / 1e9:.0f} GB/s"
    )
    print(
        f"{'size':>10}  {'algorithm':<9} {'median':>11} {'p10':>11} {'p90':>11} {'bus GB/s':>9} "
        f"{'in a row':>11} {'of copy':>8} {'to host':>10} {'from host':>10} {'on host':>10} "
        f"{'of slowest':>10}"
    )
    for row in result["rows"]:
        times = " ".join(f"{1e6 * row[key]:>8,.1f} µs" for key in ("median_s", "p10_s", "p90_s"))
        others = " ".join(
            f"{1e6 * row[key]:>7,.0f} µs" for key in ("to_host_s", "from_host_s", "host_s")
        )
        print(
            f"{size_text(row['bytes']):>10}  {row['algorithm']:<9} {times} "
            f"{row['busbw_bytes_per_s'] / 1e9:>9.2f} {1e6 * row['in_a_row_s']:>8,.1f} µs "
            f"{row['ratio_to_copy']:>8.0%} {others} "
            f"{row['ratio_to_slower_of_host']:>10.0%}  {row['wrong']}".rstrip()
        )
