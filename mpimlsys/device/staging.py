"""Host memory that is pinned, for arrays of a GPU on their way to the ranks and back.

What is exchanged goes in segments: while one is with the ranks, the next ones are on their way to
the host and the last one back to the GPU, each on a stream of its own. The host memory is that of
``ctx.empty``, so that ranks of a node reduce it where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import pack
from mpimlsys.process_sets import ProcessSet
from mpimlsys.types import Array

SEGMENT_BYTES = 4 << 20
_SLOTS = 4


@dataclass(frozen=True)
class Segment:
    """What is with the ranks at a time; at most ``SEGMENT_BYTES`` each way.

    Attributes:
        come: (address on the GPU, bytes) of what is copied to the host, one after the other.
        go: the same of what is copied back when the ranks have done their part.
        act: what the ranks do with ``nbytes`` of host memory. Parts that this brings take the
            place of what was there.
        nbytes: of host memory.
        first: byte of the host memory that ``go`` begins at.
    """

    come: Sequence[tuple[int, int]]
    go: Sequence[tuple[int, int]]
    act: Callable[[Array], Any]
    nbytes: int
    first: int = 0


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

    def exchange(self, segments: Sequence[Segment], timeout_s: float, stream: int) -> None:
        """Exchange segments, after what is on ``stream``, which then waits for the result.

        The ranks have agreed on what they do, and have as many.
        """
        if not segments:
            return
        native = self._gpu.native
        with self._gpu.event() as before:
            native.record(before, stream)
            native.follow(self._up, before)
            native.follow(self._down, before)
        for number, segment in enumerate(segments[:_SLOTS]):
            self._fetch(number, segment)
        for number, segment in enumerate(segments):
            slot = number % _SLOTS
            self._gpu.wait(self._came[slot], timeout_s, "copying to the host")
            place = self._place(slot)
            parts = segment.act(place[: segment.nbytes])
            if parts is not None:
                place[: parts.data.nbytes] = parts.data
            self._deliver(number, segment)
            if number + _SLOTS < len(segments):
                self._fetch(number + _SLOTS, segments[number + _SLOTS])
        native.follow(stream, self._gone[(len(segments) - 1) % _SLOTS])

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

    def _fetch(self, number: int, segment: Segment) -> None:
        """Copy a segment to its slot once the segment before it in there has left."""
        slot = number % _SLOTS
        native = self._gpu.native
        if number >= _SLOTS:
            native.follow(self._up, self._gone[slot])
        pack(self._gpu, self._place(slot).ctypes.data, segment.come, self._up)
        native.record(self._came[slot], self._up)

    def _deliver(self, number: int, segment: Segment) -> None:
        """Send a segment back; the ranks are done with it."""
        slot = number % _SLOTS
        place = self._place(slot).ctypes.data + segment.first
        pack(self._gpu, place, segment.go, self._down, back=True)
        self._gpu.native.record(self._gone[slot], self._down)
