"""Collectives among ranks of one node that see each other's GPU memory, through CUDA IPC.

In an all-reduce each GPU reduces its part straight from the memory of all, in the order of ranks,
and writes the result to all: every byte is read once and written once. What is only moved is copied
by the GPU that it is for. Streams wait for each other by events that processes share; the ranks
meet twice on the host, so that no event is waited for before it was recorded. No rank waits for its
GPU. Of ranks that reduce nothing, as their GPU has another that does, the others only wait for
their arrays, which wait for no array before: its first rank goes from one to the next without turns
of theirs.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence

from mpimlsys.device.agreement import Agreement, Refused
from mpimlsys.device.arrays import View
from mpimlsys.device.calls import Call, Reduction
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.plans import Pull
from mpimlsys.errors import MpimlsysError

MOST_RANKS = 64  # as many arrays are reduced at a time
_ALIGNED = 64  # bytes
_KEPT = 8  # allocations of each rank that stay open
_HANDLE = struct.Struct("<QQQH128s")
_EVENTS = struct.Struct("<H64sH64s16s")


class PeerMemory:
    """Shared events and opened memory of one queue of operations; made by :meth:`open`."""

    def __init__(self, gpu: Gpu, agreement: Agreement, rank: int, size: int) -> None:
        self._gpu, self._agreement = gpu, agreement
        self._rank, self._size = rank, size
        # of every rank the handles that are open, also of this one: all ranks know of all. With the
        # number of the allocation, as CUDA may give the next one the same handle, and the address
        self._seen: list[OrderedDict[bytes, tuple[int, int]]] = [OrderedDict() for _ in range(size)]
        self._ready = self._done = 0
        self._theirs: list[tuple[int, int]] = []
        self._share = (0, 0)
        self._all = self._reducing = list(range(size))

    @classmethod
    def open(
        cls, gpu: Gpu, agreement: Agreement, rank: int, size: int, timeout_s: float
    ) -> PeerMemory | None:
        """Exchange events; None where some rank cannot. Collective."""
        made = cls(gpu, agreement, rank, size)
        can = made._exchange_events(timeout_s)
        return made if agreement.all_can(can, "events of GPUs", timeout_s) else None

    def all_reduce(self, view: View, how: Reduction, stream: int, arrivals: int) -> bool:
        """Reduce in place, after what is on ``stream``, which then waits for the result.

        The ranks have agreed on what they do.

        Args:
            view: this rank's array.
            how: what is asked for.
            stream: of the GPU.
            arrivals: another one, or the same. The array is there after what is on it, and after
                what ranks did in each other's memory before: their streams are in that order.

        Returns:
            False where some rank's memory cannot be shared or opened; nothing has happened then.

        Raises:
            Refused: arrays are not of one size, where that was not compared before.
        """
        places = self._enter(view, how, stream, arrivals, alike=True)
        if places is None:
            return False
        index, parts = self._share
        first, length = part_of(view.size, index, parts, view.itemsize) if parts else (0, 0)
        if length > 0:
            starts = [place + first * view.itemsize for place in places]
            self._gpu.native.reduce(
                starts,
                starts,
                length,
                stream=stream,
                dtype=view.dtype,
                op="sum" if how.op == "average" else how.op,
                divisor=self._size if how.op == "average" else 1,
                order=how.order,
            )
        self._leave(how, stream, self._reducing)
        return True

    def pull(self, view: View, pulls: Sequence[Pull], how: Call, stream: int) -> bool:
        """Copy from the arrays of all ranks, after what is on ``stream``, which then waits for it.

        The ranks have agreed on what they do.

        Args:
            view: this rank's array, for the others.
            pulls: what this rank wants.
            how: what is asked for.
            stream: of the GPU.

        Returns:
            False where some rank's memory cannot be shared or opened; nothing has happened then.
        """
        places = self._enter(view, how, stream, stream)
        if places is None:
            return False
        for pull in pulls:
            if pull.nbytes:
                source = places[pull.rank] + pull.start
                self._gpu.native.copy(pull.into, source, pull.nbytes, stream=stream)
        self._leave(how, stream, self._all)
        return True

    def close(self) -> None:
        """Give everything back; no GPU of a rank uses it any more."""
        native = self._gpu.native
        for opened in self._seen:
            while opened:
                self._unsee(opened.popitem())
        for rank, events in enumerate(self._theirs):
            for event in events:
                if rank != self._rank:
                    native.drop_event(event)
        for event in (self._ready, self._done):
            native.drop_event(event)

    def _enter(
        self, view: View, how: Call, stream: int, arrivals: int, *, alike: bool = False
    ) -> list[int] | None:
        """Where all ranks' arrays are, for what comes after them on ``stream``; None if hidden."""
        handle, offset, number = self._shared(view)
        # ranks that reduce follow each other's `done`, and everyone's where something was moved, so
        # that an array waits only for its caller and for what its own GPU did: both are in there
        self._gpu.native.record(self._ready, arrivals)
        own = _HANDLE.pack(view.nbytes, offset, number, len(handle), handle)
        told = self._agreement.tell(own, how.label, how.timeout_s)
        records = [_HANDLE.unpack(record) for record in told]
        sizes = [nbytes for nbytes, *_ in records]
        if alike and len(set(sizes)) > 1:
            raise Refused(f"the ranks disagree: their arrays have {sizes} bytes.")
        handles = [(padded[:length], number) for *_, number, length, padded in records]
        if not all(handle for handle, _ in handles) or not self._open(handles, how):
            return None
        for rank, (ready, _) in enumerate(self._theirs):
            if rank != self._rank:
                self._gpu.native.follow(stream, ready)
        return [
            view.address if rank == self._rank else self._seen[rank][handle][1] + offset
            for rank, ((handle, _), (_, offset, *_)) in enumerate(
                zip(handles, records, strict=True)
            )
        ]

    def _leave(self, how: Call, stream: int, using: Sequence[int]) -> None:
        """Let ``stream`` wait until no GPU of the ranks that do uses the arrays any more."""
        native = self._gpu.native
        if self._rank in using:
            native.record(self._done, stream)
        self._agreement.meet(how.label, how.timeout_s)
        for rank in using:
            if rank != self._rank:
                native.follow(stream, self._theirs[rank][1])

    def _exchange_events(self, timeout_s: float) -> bool:
        """Whether this rank and the others' could be made and opened."""
        native = self._gpu.native
        try:
            self._ready = native.make_event(shared=True)
            self._done = native.make_event(shared=True)
            ready, done = native.share_event(self._ready), native.share_event(self._done)
        except MpimlsysError:  # this machine's CUDA has no such events: the others hear of it
            ready = done = b""
        number = native.info()["uuid"][:16]
        own = _EVENTS.pack(len(ready), ready, len(done), done, number)
        told = self._agreement.tell(own, "events of GPUs", timeout_s)
        records = [_EVENTS.unpack(record) for record in told]
        gpus = [record[4] for record in records]
        self._share = share_of(gpus, self._rank)
        self._reducing = [rank for rank in self._all if share_of(gpus, rank)[1]]
        if not all(record[0] for record in records):
            return False
        try:
            for rank, (ready_bytes, ready, done_bytes, done, _) in enumerate(records):
                self._theirs.append(
                    (self._ready, self._done)
                    if rank == self._rank
                    else (
                        native.see_event(ready[:ready_bytes]),
                        native.see_event(done[:done_bytes]),
                    )
                )
        except MpimlsysError:
            return False
        return True

    def _shared(self, view: View) -> tuple[bytes, int, int]:
        """The handle of an array's allocation, where it is in there, and the allocation's number.

        The handle is empty where it cannot be shared.
        """
        if view.size == 0:
            return b"-", 0, 0
        try:
            handle, offset, number = self._gpu.native.share(view.address)
        except MpimlsysError:  # memory of a pool: the array is staged then
            return b"", 0, 0
        return bytes(handle), int(offset), int(number)

    def _open(self, handles: list[tuple[bytes, int]], how: Call) -> bool:
        """Whether all ranks see all allocations; ranks that have them all need not ask."""
        can, fresh = True, []
        for rank, (handle, number) in enumerate(handles):
            opened = self._seen[rank]
            stale = opened.get(handle, (number,))[0] != number
            if handle in opened and not stale:
                opened.move_to_end(handle)
                continue
            fresh.append((rank, handle))
            if stale:
                opened.move_to_end(handle, last=False)
            if stale or len(opened) == _KEPT:
                # what was started before may still use it
                self._gpu.wait(self._done, how.timeout_s, "earlier operations")
                self._unsee(opened.popitem(last=False))
            opened[handle] = number, 0
            try:
                if rank != self._rank and handle != b"-":
                    opened[handle] = number, self._gpu.native.see(handle)
            except MpimlsysError:
                can = False
        if not fresh or self._agreement.all_can(can, how.label, how.timeout_s):
            return True
        for rank, handle in fresh:  # to be tried again the next time, by all; none uses them yet
            self._unsee((handle, self._seen[rank].pop(handle)))
        return False

    def _unsee(self, opened: tuple[bytes, tuple[int, int]]) -> None:
        _, (_, address) = opened
        if address:
            self._gpu.native.unsee(address)


def share_of(gpus: list[bytes], rank: int) -> tuple[int, int]:
    """Which of how many parts a rank reduces; (0, 0) for none.

    Kernels of several processes take turns on a GPU, so the first rank of each does it for all.
    """
    first = list(dict.fromkeys(gpus))
    leads = gpus.index(gpus[rank]) == rank
    return (first.index(gpus[rank]), len(first)) if leads else (0, 0)


def part_of(count: int, index: int, parts: int, itemsize: int) -> tuple[int, int]:
    """First element and number of elements of a part.

    Parts start at multiples of 64 bytes from the array's start, so that all but the last are
    read in whole lines.
    """
    step = _ALIGNED // itemsize
    each = -(-count // (parts * step)) * step
    first = min(index * each, count)
    return first, min(each, count - first)
