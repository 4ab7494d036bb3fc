"""Collectives that move a GPU's arrays as they are: what ranks tell each other before, and which
way they take.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import partial

from mpimlsys.device.agreement import Agreement, Refused
from mpimlsys.device.arrays import View
from mpimlsys.device.arrays import view as view_of
from mpimlsys.device.calls import Call
from mpimlsys.device.plans import Pull, consecutive, pulls_of
from mpimlsys.device.results import Result
from mpimlsys.device.ways import Ways


class Moves:
    """Of one queue; everything is in the order of its stream.

    Args:
        agreement: of the ranks.
        ways: to them.
        rank, size: of the process set.
        stream: of the GPU.
    """

    def __init__(self, agreement: Agreement, ways: Ways, rank: int, size: int, stream: int) -> None:
        self._agreement, self._ways, self._stream = agreement, ways, stream
        self._rank, self._size = rank, size

    def broadcast(self, view: View, root: int, how: Call) -> None:
        """Copy the root's array into those of all."""
        call = f"broadcasts {view.size} elements of {view.dtype} from rank {root}"
        self._agreement.compare(call, how.label, how.timeout_s)
        if not 0 <= root < self._size:
            raise Refused(f"root {root} is not a rank; there are {self._size}.")
        if view.size == 0 or self._size == 1:
            return
        pulls = [Pull(root, 0, view.address, view.nbytes)] if self._rank != root else []
        if not self._pulled(view, pulls, how):
            self._ways.staged.broadcast(view, root, how)

    def gather(self, view: View, result: Result, how: Call) -> None:
        """Make an array of the rows of all ranks."""
        row, what = _row_of(view)
        counts = self._agreement.compare(
            f"gathers {what}", how.label, how.timeout_s, own=view.shape[0]
        )
        into = self._make(result, view, counts, how)
        lengths = [count * row for count in counts]
        pulls = pulls_of([[length] for length in lengths], 0, into.address)
        most = max(lengths)
        if most and not self._pulled(view, pulls, how):
            self._ways.staged.gather(view, pulls, most, how)

    def all_to_all(
        self, view: View, counts: Sequence[int] | None, result: Result, how: Call
    ) -> None:
        """Send each rank its rows, as many to each unless counted, and make an array of those that
        come.
        """
        row, what = _row_of(view)
        own, size = view.shape[0], self._size
        each = [own // size] * size if counts is None else list(counts)
        if len(each) != size or sum(each) != own or min(each) < 0:
            told = (
                f"no counts for {own} rows" if counts is None else f"counts {each} for {own} rows"
            )
            call = f"passed {told}, which cannot be shared out so among {size} ranks"
            self._agreement.refuse(call, how.label, how.timeout_s)
        self._agreement.compare(f"exchanges {what}", how.label, how.timeout_s)
        table = struct.Struct(f"<{self._size}Q")
        records = self._agreement.tell(table.pack(*each), how.label, how.timeout_s)
        rows = [table.unpack(record) for record in records]
        into = self._make(result, view, [sent[self._rank] for sent in rows], how)
        lengths = [[count * row for count in sent] for sent in rows]
        pulls = pulls_of(lengths, self._rank, into.address)
        most = max(max(sent) for sent in lengths)
        if most and not self._pulled(view, pulls, how):
            sends = consecutive(view.address, lengths[self._rank])
            self._ways.staged.all_to_all(sends, pulls, most, how)

    def _make(self, result: Result, view: View, counts: Sequence[int], how: Call) -> View:
        result.counts = list(counts)
        make = partial(result.make, (sum(counts), *view.shape[1:]), self._stream)
        what = "memory for its result"
        result.array = self._agreement.make(make, what, how.label, how.timeout_s)
        return view_of(result.array)

    def _pulled(self, view: View, pulls: Sequence[Pull], how: Call) -> bool:
        peers = self._ways.peers
        return peers is not None and peers.pull(view, pulls, how, self._stream)


def _row_of(view: View) -> tuple[int, str]:
    """The bytes of a row, and what ranks compare of it."""
    size = math.prod(view.shape[1:])
    return size * view.itemsize, f"rows of {size} elements of {view.dtype}"
