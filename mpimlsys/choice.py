"""What ``algorithm = "auto"`` stands for: measured once per machine and kept in a file.

A table says up to which size which algorithm of all-reduce is taken. Two cases need none: arrays of
at most 8 KiB, and arrays of ``ctx.empty`` whose ranks all share a node, which are reduced where
they lie.

Guarantees: all ranks hold the same table, in less than a second. Refusals: it is measured with
sums of float32 in private memory, while nothing else runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

# where the fastest changes hands, every power of two
SIZES = tuple(kibibytes << 10 for kibibytes in (16, 32, 64, 256, 1024, 4096, 16384))
_BUDGET_S = 0.7
_REPEATS = (3, 100)
_BETTER = 0.95  # of the usual algorithm's time: less is noise
_LATENCY_BOUND = 256 << 10  # recursive doubling sends whole arrays
_PROBE_BYTES = 256 << 10
FOREVER = 2**62

Measured = dict[int, dict[str, float]]  # bytes: algorithm: seconds
Table = list[tuple[int, str]]  # up to so many bytes, this algorithm


@dataclass(frozen=True)
class Choice:
    """The table and where it comes from.

    Attributes:
        table: ascending.
        measured: what it was made from.
        usual: what is taken unless another is measured to be faster.
        source: ``"measured now"`` or the file that it was read from.
    """

    table: Table
    measured: Measured
    usual: str
    source: str


def usual(nodes: Sequence[int]) -> str:
    """The algorithm for large arrays of ranks on these nodes."""
    count = len(set(nodes))
    if count == 1:
        return "shared"
    return "hierarchical" if count < len(nodes) else "ring"


def candidates(nodes: Sequence[int], nbytes: int) -> list[str]:
    """What is worth measuring for ranks on these nodes; the usual one first."""
    found = [usual(nodes), "ring", "halving", "mpi"]
    if nbytes <= _LATENCY_BOUND:
        found.append("doubling")
    return list(dict.fromkeys(found))


def table_of(measured: Measured, usual: str) -> Table:
    """The fastest algorithm of each size; the usual one where none is clearly faster.

    Sizes change hands half way between two that were measured, in the logarithm.
    """
    sizes = sorted(measured)
    fastest = []
    for size in sizes:
        times = measured[size]
        best = min(times, key=lambda name: times[name])
        fastest.append(best if times[best] < _BETTER * times[usual] else usual)
    # of sizes far above the largest nothing is known
    last = FOREVER if sizes[-1] == SIZES[-1] else 2 * sizes[-1]
    bounds = [math.isqrt(low * high) for low, high in pairwise(sizes)] + [last]
    table = list(zip(bounds, fastest, strict=True))
    if last < FOREVER:
        table.append((FOREVER, usual))
    return [
        row for row, after in zip(table, [*table[1:], (0, "")], strict=True) if row[1] != after[1]
    ]


def choose(native: Any, transport: Any, nodes: Sequence[int], machine: str, folder: Path) -> Choice:
    """The table of a transport's ranks, from its file in ``folder`` or measured. Collective.

    Args:
        native: the extension.
        transport: of at least two ranks.
        nodes: of its ranks.
        machine: what else the speed depends on, of rank 0: the MPI, the cores.
        folder: of rank 0; it is made if need be, and left alone if it cannot be.
    """
    first = transport.rank == 0
    key = {"machine": machine, "nodes": _layout(nodes), "link": _link(native, transport, nodes)}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"allreduce-{digest}.json"
    measured = _read(path, nodes) if first else None
    known = np.array([measured is not None])
    native.broadcast(transport, known, 0)
    if not known[0]:
        measured = measure(native, transport, nodes)
        if first:
            _write(path, {"key": key, "measured": measured})
        source = "measured now"
    else:
        source = str(path)
        measured = _told(native, transport, measured)
    name = usual(nodes)
    return Choice(table_of(measured, name), measured, name, source)


def measure(native: Any, transport: Any, nodes: Sequence[int]) -> Measured:
    """Median times of the candidates at growing sizes, within the budget. Collective.

    Not the least: a link with a token bucket lets the first bytes after a pause through at once.
    """
    measured: Measured = {}
    started = perf_counter()
    round_s = 0.0
    for size in SIZES:
        # what one round would take, and what is left, as the slowest rank sees it
        spent = np.array([perf_counter() - started + _REPEATS[0] * 4 * round_s])
        native.all_reduce(transport, spent, "max")
        if measured and spent[0] > _BUDGET_S:
            break
        names = candidates(nodes, size)
        array = np.zeros(size // 4, np.float32)
        times = np.array([_timed(native, transport, array, names)])
        share_s = _BUDGET_S / len(SIZES)
        repeats = np.clip(share_s / max(times.sum(), 1e-6), *_REPEATS)
        count = np.array([int(repeats)])
        native.broadcast(transport, count, 0)
        rounds = [_timed(native, transport, array, names, turn) for turn in range(int(count[0]))]
        slowest = np.array(rounds)
        native.all_reduce(transport, slowest, "max")  # of the ranks
        middle = np.median(slowest, axis=0)
        measured[size] = dict(zip(names, middle.tolist(), strict=True))
        round_s = float(middle.sum())
    return measured


def _timed(
    native: Any, transport: Any, array: Any, names: Sequence[str], turn: int = 0
) -> list[float]:
    """The seconds of each, in another order at each turn: what went before leaves buffers full."""
    times = [0.0] * len(names)
    for index in random.Random(turn).sample(range(len(names)), len(names)):
        native.barrier(transport)
        started = perf_counter()
        native.all_reduce(transport, array, algorithm=names[index])
        times[index] = perf_counter() - started
    return times


def _layout(nodes: Sequence[int]) -> list[int]:
    """Ranks of each node; where they are numbered in another order it is another layout."""
    return [nodes.count(node) for node in dict.fromkeys(nodes)] + [
        int(list(nodes) == sorted(nodes))
    ]


def _link(native: Any, transport: Any, nodes: Sequence[int]) -> int:
    """How fast the nodes are linked, in steps of a factor of four; 0 for one node. Collective."""
    if len(set(nodes)) == 1:
        return 0
    array = np.zeros(_PROBE_BYTES // 4, np.float32)
    fastest = np.array([min(_timed(native, transport, array, ["ring", "ring"]))])
    native.broadcast(transport, fastest, 0)
    return round(math.log(_PROBE_BYTES / fastest[0], 4))


def _told(native: Any, transport: Any, measured: Measured | None) -> Measured:
    """What rank 0 has read, on every rank."""
    text = json.dumps(measured).encode() if measured is not None else b""
    parts = native.gather_parts(transport, np.frombuffer(text, np.uint8))
    return _checked(json.loads(bytes(parts.data)))


def _read(path: Path, nodes: Sequence[int]) -> Measured | None:
    """What an earlier run has left; None where that cannot be used."""
    try:
        measured = _checked(json.loads(path.read_text())["measured"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged, or of another version
    sound = all(
        size in SIZES
        and set(times) == set(candidates(nodes, size))
        and all(0 < seconds < math.inf for seconds in times.values())
        for size, times in measured.items()
    )
    return measured if measured and sound else None


def _checked(told: Mapping[str, Mapping[str, float]]) -> Measured:
    return {
        int(size): {str(name): float(seconds) for name, seconds in times.items()}
        for size, times in told.items()
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Leave it for later runs, if the folder can be written: whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(content, indent=1))
        draft.replace(path)
    except OSError:
        return
