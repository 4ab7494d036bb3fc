"""All-reduce of a GPU's array through host memory that is pinned.

The array goes in segments: while one is reduced by the ranks, the next ones are on their way to the
host and the last one back to the GPU, each on a stream of its own. The host memory is that of
``ctx.empty``, so that ranks of a node reduce it where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpimlsys.device.arrays import View
from mpimlsys.device.gpu import Gpu
from mpimlsys.process_sets import ProcessSet
from mpimlsys.types import Array

SEGMENT_BYTES = 4 << 20
_SLOTS = 4


@dataclass(frozen=True)
class Reduction:
    """What is asked for.

    Attributes:
        op: ``"sum"``, ``"average"``, ``"min"``, ``"max"`` or ``"product"``.
        algorithm, order: of the ranks' exchange on the host.
        label: for reports.
        check: whether ranks compare what they do.
        timeout_s: longest wait for another rank or the GPU.
    """

    op: str
    algorithm: str
    order: str
    label: str
    check: bool
    timeout_s: float


class Staging:
    """Host memory, streams and events of one queue of operations.

    Args:
        gpu: of this process.
        peers: the ranks that exchange. Collective.
    """

    def __init__(self, gpu: Gpu, peers: ProcessSet) -> None:
        self._gpu = gpu
        native = gpu.native
        self._memory: Array = peers.empty(_SLOTS * SEGMENT_BYTES, np.uint8)
        native.pin(self._memory.ctypes.data, self._memory.nbytes)
        self._up, self._down = native.make_stream(), native.make_stream()
        self._came = [native.make_event() for _ in range(_SLOTS)]
        self._gone = [native.make_event() for _ in range(_SLOTS)]

    def all_reduce(self, view: View, how: Reduction, engine: Any, stream: int) -> None:
        """Reduce in place, after what is on ``stream``, which then waits for the result.

        The ranks have agreed on what they do.

        Args:
            view: at least one element.
            how: what is asked for.
            engine: of the ranks.
            stream: of the GPU.
        """
        native = self._gpu.native
        each = SEGMENT_BYTES // view.itemsize * view.itemsize
        parts = [(start, min(each, view.nbytes - start)) for start in range(0, view.nbytes, each)]
        with self._gpu.event() as before:
            native.record(before, stream)
            native.follow(self._up, before)
            native.follow(self._down, before)
        for number, part in enumerate(parts[:_SLOTS]):
            self._fetch(number, part, view)
        tickets: list[int] = []
        for number, (_, length) in enumerate(parts):
            slot = number % _SLOTS
            self._gpu.wait(self._came[slot], how.timeout_s, "copying to the host")
            tickets.append(
                engine.all_reduce(
                    _numbers(self._place(slot)[:length], view),
                    how.op,
                    dtype=view.dtype,
                    algorithm=how.algorithm,
                    order=how.order,
                    label=how.label,
                    check=False,
                    timeout_s=how.timeout_s,
                )
            )
            if number > 0:
                self._deliver(number - 1, parts, view, engine, tickets, how)
        self._deliver(len(parts) - 1, parts, view, engine, tickets, how)
        native.follow(stream, self._gone[(len(parts) - 1) % _SLOTS])

    def close(self) -> None:
        """Give everything back."""
        native = self._gpu.native
        for event in (*self._came, *self._gone):
            native.drop_event(event)
        for stream in (self._up, self._down):
            native.drop_stream(stream)
        native.unpin(self._memory.ctypes.data)

    def _place(self, slot: int) -> Array:
        return self._memory[slot * SEGMENT_BYTES : (slot + 1) * SEGMENT_BYTES]

    def _fetch(self, number: int, part: tuple[int, int], view: View) -> None:
        """Copy a segment to its slot once the segment before it in there has left."""
        slot = number % _SLOTS
        native = self._gpu.native
        if number >= _SLOTS:
            native.follow(self._up, self._gone[slot])
        start, length = part
        place = self._place(slot).ctypes.data
        native.copy(place, view.address + start, length, stream=self._up)
        native.record(self._came[slot], self._up)

    def _deliver(
        self,
        number: int,
        parts: list[tuple[int, int]],
        view: View,
        engine: Any,
        tickets: list[int],
        how: Reduction,
    ) -> None:
        """Send a segment back when the ranks have reduced it, and fetch the next in its slot."""
        engine.wait(tickets[number], timeout_s=how.timeout_s)
        slot = number % _SLOTS
        start, length = parts[number]
        native = self._gpu.native
        place = self._place(slot).ctypes.data
        native.copy(view.address + start, place, length, stream=self._down)
        native.record(self._gone[slot], self._down)
        if number + _SLOTS < len(parts):
            self._fetch(number + _SLOTS, parts[number + _SLOTS], view)


def _numbers(memory: Array, view: View) -> Array:
    """Bytes as the array's numbers; the extension is told the name of types NumPy lacks."""
    unknown = view.dtype == "bfloat16"
    return memory.view(np.uint16 if unknown else np.dtype(view.dtype))
