"""What has to hold of collectives between GPUs: results are NumPy's, and streams wait.

    mpirun -n 2 python benchmarks/gpu_collectives.py

Arrays are CuPy's, on a stream of their own, which gets them late: it is kept busy before they have
their values, and they are spoilt as soon as the caller goes on. Each operation runs in the memory
of the GPUs and through that of the host. Prints what does not hold; exit status 1 when there is
anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import mpimlsys as mls
from mpimlsys.device.peer_memory import PeerMemory

ROUNDS = 5
SIZES = (1, 1000, (5 << 20) + 3)  # of float32: the last ones of several segments
BUSY = 8192  # the side of matrices whose product takes some 10 ms


@dataclass(frozen=True)
class Kind:
    """A kind of array.

    Attributes:
        late: an array of these values, which its stream writes after other work.
        spoil: lets the stream overwrite an array.
        read: a copy on the host, after what is on the stream.
    """

    late: Callable[[Any], Any]
    spoil: Callable[[Any], None]
    read: Callable[[Any], Any]


def cupy_kind() -> Kind:
    """Of CuPy, on the current stream."""
    import cupy

    matrix = cupy.ones((BUSY, BUSY), cupy.float32)
    product = cupy.empty_like(matrix)

    def late(values: Any) -> Any:
        source = cupy.asarray(values)
        array = cupy.full_like(source, -1)
        cupy.cuda.get_current_stream().synchronize()
        cupy.matmul(matrix, matrix, out=product)
        array[...] = source
        return array

    return Kind(late, lambda array: array.fill(-2), cupy.asnumpy)


def operations(values: list[Any], kind: Kind, peers: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, what came, what should have) of each; ``values`` are those of all ranks."""
    rank, size = peers.rank, peers.size
    summed = np.sum(values, axis=0)

    def run(start: Callable[..., Any], *arguments: Any, rows: int = 1) -> Any:
        array = kind.late(np.repeat(values[rank], rows))
        found = start(array, *arguments, process_set=peers).wait()
        result = found[0] if isinstance(found, tuple) else found
        if result is array:
            return kind.read(array)
        kind.spoil(array)  # others have read it
        return kind.read(result)

    yield "all-reduce", run(mls.allreduce_async, "sum"), summed
    for root in range(size):
        yield "broadcast", run(mls.broadcast_async, root), values[root]
    yield "all-gather", run(mls.allgather_async), np.concatenate(values)
    repeated = [np.repeat(one, size) for one in values]
    sent = [np.split(one, size)[rank] for one in repeated]
    yield "all-to-all", run(mls.alltoall_async, rows=size), np.concatenate(sent)
    own = np.array_split(summed, size)[rank]
    array = kind.late(values[rank])
    scattered = mls.reducescatter_async(array, "sum", process_set=peers).wait()
    yield "reduce-scatter", kind.read(scattered), own
    group = [kind.late(values[rank]) for _ in range(3)]
    mls.grouped_allreduce_async(group, "sum", process_set=peers).wait()
    for member in group:
        yield "grouped all-reduce", kind.read(member), summed


def check(ctx: mls.Context, kind: Kind) -> list[str]:
    """What does not hold."""
    broken = []
    everyone = list(range(ctx.peers.size))
    sets = {way: mls.process_set(everyone) for way in ("in memory", "through the host")}
    # operations take their queue from their process set, and no job asks a GPU not to share
    there = PeerMemory.open
    for way, peers in sets.items():
        if way == "through the host":
            PeerMemory.open = classmethod(lambda *_: None)  # type: ignore[method-assign, assignment]
        for turn in range(ROUNDS):
            for count in SIZES:
                values = [
                    ((np.arange(count) + 7 * rank + turn) % 100).astype(np.float32)
                    for rank in everyone
                ]
                for name, found, wanted in operations(values, kind, peers):
                    if not np.array_equal(found, wanted):
                        broken.append(f"{name} of {count} elements {way}, turn {turn}")
    PeerMemory.open = there  # type: ignore[method-assign]
    return broken


def main() -> int:
    import cupy

    ctx = mls.init()
    cupy.cuda.Device(ctx.local_rank % cupy.cuda.runtime.getDeviceCount()).use()
    with cupy.cuda.Stream(non_blocking=True):
        broken = check(ctx, cupy_kind())
    for line in broken:
        print(f"rank {ctx.rank}: {line}", flush=True)
    if ctx.is_root and not broken:
        print("all collectives hold", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
