"""Collectives of a GPU's arrays through host memory, segment by segment; see :class:`Staging`.

The ranks have agreed on what they do. Everything comes after what is on the queue's stream, which
then waits for the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from mpimlsys.device.arrays import View
from mpimlsys.device.calls import Call, Reduction
from mpimlsys.device.plans import Place, Pull, consecutive, cut, rounds, shares, slice_of
from mpimlsys.device.staging import SEGMENT_BYTES, Segment, Staging
from mpimlsys.network import Blocking
from mpimlsys.types import Array


class Staged:
    """The ranks of a queue, and the way to them.

    Args:
        staging: of the queue.
        ranks: what they do together.
        rank, size: of the process set.
        stream: of the GPU.
    """

    def __init__(
        self, staging: Staging, ranks: Blocking, rank: int, size: int, stream: int
    ) -> None:
        self._staging, self._ranks, self._stream = staging, ranks, stream
        self._rank, self._size = rank, size

    def all_reduce(self, view: View, how: Reduction) -> None:
        """Reduce in place."""

        def act(check: bool, memory: Array) -> Any:
            return self._ranks.all_reduce(
                _numbers(memory, view),
                how.op,
                dtype=view.dtype,
                algorithm=how.algorithm,
                order=how.order,
                label=how.label,
                check=check,
                timeout_s=how.timeout_s,
            )

        places = cut((view.address, view.nbytes), _whole(SEGMENT_BYTES, view.itemsize))
        segments = [
            # the first one is refused by all ranks where the algorithm or order cannot be
            Segment([place], [place], partial(act, how.check and not at), place[1])
            for at, place in enumerate(places)
        ]
        self._staging.exchange(segments, how.timeout_s, self._stream)

    def reduce_scatter(self, view: View, how: Reduction) -> None:
        """Leave each rank's rows of the combination in their place; there are some."""

        def act(row: int, memory: Array) -> Any:
            return self._ranks.reduce_scatter(
                _numbers(memory, view),
                how.op,
                row=row,
                dtype=view.dtype,
                order=how.order,
                label=how.label,
                timeout_s=how.timeout_s,
            )

        rows = view.shape[0]
        row = view.nbytes // rows
        parts = consecutive(view.address, [row * share for share in shares(rows, self._size)])
        most = _whole(SEGMENT_BYTES // self._size, view.itemsize)
        segments = []
        for at, length, count in rounds(rows, row, self._size, most):
            come = slice_of(parts[:count], at, length)
            acting = partial(act, length // view.itemsize)
            go = come[self._rank : self._rank + 1]
            segments.append(Segment(come, go, acting, count * length, self._rank * length))
        self._staging.exchange(segments, how.timeout_s, self._stream)

    def broadcast(self, view: View, root: int, how: Call) -> None:
        """Copy the root's array into those of all."""

        def act(memory: Array) -> Any:
            return self._ranks.broadcast(
                memory, root, label=how.label, check=False, timeout_s=how.timeout_s
            )

        places = cut((view.address, view.nbytes), SEGMENT_BYTES)
        sends, gets = (True, False) if self._rank == root else (False, True)
        segments = [Segment([place] * sends, [place] * gets, act, place[1]) for place in places]
        self._staging.exchange(segments, how.timeout_s, self._stream)

    def gather(self, view: View, pulls: Sequence[Pull], most: int, how: Call) -> None:
        """Fetch all arrays, of which the largest has ``most`` bytes."""

        def act(_: Sequence[int], memory: Array) -> Any:
            return self._ranks.gather_parts(memory, label=how.label, timeout_s=how.timeout_s)

        self._exchange([(view.address, view.nbytes)], pulls, most, act, how)

    def all_to_all(
        self, sends: Sequence[Place], pulls: Sequence[Pull], most: int, how: Call
    ) -> None:
        """Send a part to each rank and fetch theirs, of which the largest has ``most`` bytes."""

        def act(lengths: Sequence[int], memory: Array) -> Any:
            return self._ranks.all_to_all(memory, lengths, label=how.label, timeout_s=how.timeout_s)

        self._exchange(sends, pulls, most, act, how)

    def _exchange(
        self,
        sends: Sequence[Place],
        pulls: Sequence[Pull],
        most: int,
        act: Callable[[Sequence[int], Array], Any],
        how: Call,
    ) -> None:
        """Let as many bytes of each part travel at a time as fit if all ranks have so many."""
        gets = [(pull.into, pull.nbytes) for pull in pulls]
        each = SEGMENT_BYTES // self._size
        segments = []
        for at in range(0, most, each):
            come = slice_of(sends, at, each)
            lengths = [nbytes for _, nbytes in come]
            acting = partial(act, lengths)
            segments.append(Segment(come, slice_of(gets, at, each), acting, sum(lengths)))
        self._staging.exchange(segments, how.timeout_s, self._stream)


def _whole(nbytes: int, itemsize: int) -> int:
    return nbytes // itemsize * itemsize


def _numbers(memory: Array, view: View) -> Array:
    """Bytes as the array's numbers; the extension is told the name of types NumPy lacks."""
    unknown = view.dtype == "bfloat16"
    return memory.view(np.uint16 if unknown else np.dtype(view.dtype))
