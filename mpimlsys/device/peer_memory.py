"""All-reduce among ranks of one node that see each other's GPU memory, through CUDA IPC.

Each rank reduces its part straight from the memory of all, in the order of ranks, and writes the
result to all: every byte is read once and written once. Streams wait for each other by events that
processes share; the ranks meet twice on the host, so that no event is waited for before it was
recorded. No rank waits for its GPU.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Any

import numpy as np

from mpimlsys.device.arrays import View
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.staging import Reduction
from mpimlsys.errors import ConfigError, MpimlsysError
from mpimlsys.types import Array

MOST_RANKS = 64  # as many arrays are reduced at a time
_ALIGNED = 64  # bytes
_KEPT = 16  # allocations of each rank that stay open
_RECORD = struct.Struct("<16s12s4sQQH128s")


class PeerMemory:
    """Shared events and opened memory of one queue of operations; made by :meth:`open`."""

    def __init__(self, gpu: Gpu, engine: Any, rank: int, size: int, timeout_s: float) -> None:
        self._gpu = gpu
        self._engine = engine
        self._rank, self._size = rank, size
        self._timeout_s = timeout_s
        self._seen: list[OrderedDict[bytes, int]] = [OrderedDict() for _ in range(size)]
        self._ready = self._done = 0
        self._theirs: list[tuple[int, int]] = []

    @classmethod
    def open(
        cls, gpu: Gpu, engine: Any, rank: int, size: int, timeout_s: float
    ) -> PeerMemory | None:
        """Exchange events; None where some rank cannot. Collective."""
        made = cls(gpu, engine, rank, size, timeout_s)
        return made if made._exchange_events() else None

    def all_reduce(self, view: View, how: Reduction, stream: int) -> bool:
        """Reduce in place, after what is on ``stream``, which then waits for the result.

        Returns:
            False where some rank's memory cannot be shared; nothing has happened then.

        Raises:
            ConfigError: on all ranks, where they do not ask for the same.
        """
        native = self._gpu.native
        handle, offset = self._shared(view)
        native.record(self._ready, stream)
        own = _RECORD.pack(
            view.dtype.encode(),
            how.op.encode(),
            how.order.encode(),
            view.size,
            offset,
            len(handle),
            handle,
        )
        records = [_RECORD.unpack(record) for record in self._tell(own, how)]
        self._compare(records)
        if how.op == "average" and not view.dtype.endswith(("float16", "float32", "float64")):
            raise _together(f"an average of {view.dtype} is not defined; use op='sum'.")
        if not all(record[5] for record in records):
            return False
        addresses = [
            view.address if rank == self._rank else self._address(rank, record)
            for rank, record in enumerate(records)
        ]
        for rank, (ready, _) in enumerate(self._theirs):
            if rank != self._rank:
                native.follow(stream, ready)
        first, length = part_of(view.size, self._rank, self._size, view.itemsize)
        if length > 0:
            places = [address + first * view.itemsize for address in addresses]
            native.reduce(
                places,
                places,
                length,
                stream=stream,
                dtype=view.dtype,
                op="sum" if how.op == "average" else how.op,
                divisor=self._size if how.op == "average" else 1,
                order=how.order,
            )
        native.record(self._done, stream)
        self._meet(how)
        for rank, (_, done) in enumerate(self._theirs):
            if rank != self._rank:
                native.follow(stream, done)
        return True

    def close(self) -> None:
        """Give everything back."""
        native = self._gpu.native
        for opened in self._seen:
            for address in opened.values():
                native.unsee(address)
            opened.clear()
        for event in (self._ready, self._done):
            if event:
                native.drop_event(event)
        for rank, events in enumerate(self._theirs):
            for event in events:
                if rank != self._rank:
                    native.drop_event(event)

    def _exchange_events(self) -> bool:
        native = self._gpu.native
        own = b""
        try:
            self._ready = native.make_event(shared=True)
            self._done = native.make_event(shared=True)
            own = struct.pack(
                "<H64sH64s",
                *(
                    field
                    for event in (self._ready, self._done)
                    for handle in (native.share_event(event),)
                    for field in (len(handle), handle)
                ),
            )
        except MpimlsysError:  # this machine's CUDA has no such events: the others hear of it
            own = bytes(struct.calcsize("<H64sH64s"))
        how = Reduction("sum", "auto", "any", "events", True, self._timeout_s)
        told = [struct.unpack("<H64sH64s", record) for record in self._tell(own, how)]
        if not all(record[0] for record in told):
            return False
        for rank, (ready_bytes, ready, done_bytes, done) in enumerate(told):
            if rank == self._rank:
                self._theirs.append((self._ready, self._done))
            else:
                self._theirs.append(
                    (native.see_event(ready[:ready_bytes]), native.see_event(done[:done_bytes]))
                )
        return True

    def _shared(self, view: View) -> tuple[bytes, int]:
        """The handle of an array's allocation; empty where it cannot be shared."""
        if view.size == 0:
            return b"-", 0
        try:
            handle, offset = self._gpu.native.share(view.address)
        except MpimlsysError:  # memory of a pool: the array is staged then
            return b"", 0
        return bytes(handle), int(offset)

    def _address(self, rank: int, record: tuple[Any, ...]) -> int:
        """Another rank's array in this process."""
        _, _, _, size, offset, length, padded = record
        if size == 0:
            return 0
        handle = padded[:length]
        opened = self._seen[rank]
        if handle not in opened:
            if len(opened) == _KEPT:
                self._gpu.native.unsee(opened.popitem(last=False)[1])
            opened[handle] = self._gpu.native.see(handle)
        opened.move_to_end(handle)
        return opened[handle] + int(offset)

    def _compare(self, records: list[tuple[Any, ...]]) -> None:
        """Refuse, on all ranks alike, what is not the same."""
        for rank, record in enumerate(records):
            if record[:4] != records[0][:4]:
                raise _together(
                    f"the ranks disagree: rank 0 reduces {_words(records[0])}, rank {rank} "
                    f"{_words(record)}."
                )

    def _tell(self, record: bytes, how: Reduction) -> list[bytes]:
        """Every rank's record."""
        mine: Array = np.frombuffer(record, np.uint8).copy()
        all_of_them = np.empty((self._size, len(record)), np.uint8)
        ticket = self._engine.all_gather(
            mine, all_of_them, label=how.label, timeout_s=how.timeout_s
        )
        self._engine.wait(ticket, timeout_s=how.timeout_s)
        return [row.tobytes() for row in all_of_them]

    def _meet(self, how: Reduction) -> None:
        ticket = self._engine.barrier(label=how.label, timeout_s=how.timeout_s)
        self._engine.wait(ticket, timeout_s=how.timeout_s)


def part_of(count: int, rank: int, size: int, itemsize: int) -> tuple[int, int]:
    """First element and number of elements that a rank reduces.

    Parts start at multiples of 64 bytes from the array's start, so that all but the last are
    read in whole lines.
    """
    step = _ALIGNED // itemsize
    each = -(-count // (size * step)) * step
    first = min(rank * each, count)
    return first, min(each, count - first)


def _words(record: tuple[Any, ...]) -> str:
    dtype, op, _, count = (
        field.rstrip(b"\0").decode() if isinstance(field, bytes) else field for field in record[:4]
    )
    return f"{count} elements of {dtype} by {op}"


def _together(text: str) -> ConfigError:
    error = ConfigError(text)
    error.on_all_ranks = True
    return error
