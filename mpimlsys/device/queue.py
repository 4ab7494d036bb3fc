"""Collectives of GPU arrays, one after the other, in the background.

A queue has the interface of the extension's engine: operations are submitted in the same order on
all ranks, and waited for by their ticket. An operation starts when what the caller's stream had to
do before is done, and the caller's stream waits for its result; the caller itself waits only for
the ranks' part of it.
"""

from __future__ import annotations

import queue
import struct
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpimlsys.context import Context
from mpimlsys.device.agreement import Agreement, Refused
from mpimlsys.device.arrays import View, view
from mpimlsys.device.compressor import GpuCompressor
from mpimlsys.device.direct import Direct, takes_gpu_memory
from mpimlsys.device.frames import Frames
from mpimlsys.device.gpu import Gpu, gpu, number_for
from mpimlsys.device.memory import Memory
from mpimlsys.device.passage import Request
from mpimlsys.device.peer_memory import MOST_RANKS, PeerMemory
from mpimlsys.device.staging import Reduction, Staging
from mpimlsys.errors import ConfigError, MpimlsysError, Timeout, nearest
from mpimlsys.network import InlineEngine
from mpimlsys.process_sets import ProcessSet

_CLOSE_S = 5.0
_IN_MEMORY = ("auto", "shared", "hierarchical")
_OPS = ("sum", "average", "min", "max", "product")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_CALL = struct.Struct("<16s12s16s8sQ")
_queues: dict[ProcessSet, Queue] = {}


@dataclass
class _Task:
    """An operation; ``array`` is kept alive until it is complete."""

    array: Any
    place: View
    label: str
    perform: Callable[[View], None]
    entered: int
    left: int
    complete: bool = False
    refused: Refused | None = None


class Queue:
    """Operations of one process set on this process's GPU. Making it is collective.

    Args:
        native: the extension of the host.
        peers: the ranks.
        gpu: of this process.
        timeout_s: longest wait while it is made.
    """

    def __init__(self, native: Any, peers: ProcessSet, gpu: Gpu, timeout_s: float) -> None:
        self._gpu = gpu
        self._engine = peers.open_engine()
        self._size = peers.size
        self._stream = gpu.native.make_stream()
        self._staging = Staging(gpu, peers)
        self._frames = Frames(gpu, native, self._engine, peers.rank, peers.size, self._stream)
        one_node = len(set(peers.nodes)) == 1 and peers.size <= MOST_RANKS
        self._agreement = agreement = Agreement(self._engine, peers.size)
        self._peer_memory = (
            PeerMemory.open(gpu, agreement, peers.rank, peers.size, timeout_s) if one_node else None
        )
        inline = isinstance(self._engine, InlineEngine)  # no thread to wait for MPI on
        direct = agreement.all_can(takes_gpu_memory() and not inline, "a CUDA-aware MPI", timeout_s)
        self._direct = Direct(peers.duplicate()) if direct else None
        self._closed = False
        self._tasks: dict[int, _Task] = {}
        self._last = 0
        self._failure: Exception | None = None
        self._progress = threading.Condition()
        self._inbox: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if not inline:
            self._thread = threading.Thread(target=self._work, name="mpimlsys-gpu", daemon=True)
            self._thread.start()

    def all_reduce(
        self,
        array: Any,
        op: str = "sum",
        *,
        label: str = "",
        algorithm: str = "auto",
        order: str = "any",
        check: bool = True,
        timeout_s: float = 300.0,
    ) -> int:
        """Start to combine ``array`` over all ranks, in place; returns its ticket.

        Args:
            array: of a GPU, see :func:`mpimlsys.device.view`.
            algorithm: ``"auto"``: in the memory of the node's GPUs where all ranks are there, as
                ``"shared"``; else through host memory, where the ranks choose. ``"mpi"``: by the
                MPI, straight from the GPU if it is CUDA-aware. Others: through host memory.
            op, label, order, check, timeout_s: as for arrays of the host.

        Raises:
            ConfigError: the array cannot be used.
        """
        how = Reduction(op, algorithm, order, label, check, timeout_s)
        return self._submit(array, label, lambda place: self._reduce(place, how))

    def compressor(self, count: int, **options: Any) -> GpuCompressor:
        """What an array of ``count`` float32 keeps, see :class:`GpuCompressor`."""
        return GpuCompressor(self._gpu, self._stream, count, **options)

    def compressed_all_reduce(
        self,
        array: Any,
        memory: GpuCompressor,
        spec: Any,
        *,
        step: int,
        measure: bool = False,
        label: str = "",
        check: bool = True,
        timeout_s: float = 300.0,
    ) -> int:
        """Start a compressed sum over all ranks, in place; returns its ticket.

        Args:
            array: float32, of as many elements as ``memory`` is for.
            memory: from :meth:`compressor`.
            spec: of the extension: the codec.
            step: of the training, for codecs that draw.
            measure, label, check, timeout_s: as for arrays of the host.
        """
        place = view(array)
        if place.dtype != "float32" or place.size != memory.count:
            raise ConfigError(
                f"{place.size} elements of {place.dtype} are not the {memory.count} of float32 "
                "that this compression is for."
            )
        request = Request(spec, step, measure, label, check, timeout_s)
        return self._submit(
            array, label, lambda place: self._reduce_compressed(place, memory, request)
        )

    def wait(self, ticket: int, timeout_s: float) -> None:
        """Return when the ranks have done their part and the caller's stream waits for the rest.

        Raises:
            Timeout: not after ``timeout_s``; or what the operation failed with.
        """
        deadline = time.monotonic() + timeout_s
        with self._progress:
            task = self._tasks.get(ticket)
            if task is None:  # waited for before
                return
            while not task.complete and self._failure is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Timeout(
                        f"all-reduce of {task.label or 'an array of a GPU'} is not complete "
                        f"after {timeout_s:.1f} s."
                    )
                self._progress.wait(min(left, 0.05))  # so that Ctrl-C is heard
            if not task.complete:
                assert self._failure is not None
                raise self._failure
            del self._tasks[ticket]
        if task.refused is not None:
            self._forget(task)
            raise task.refused
        native = self._gpu.native
        native.follow(task.place.stream, task.left)
        self._forget(task)

    def done(self, ticket: int) -> bool:
        """Whether :meth:`wait` would return or raise at once, and the result is there."""
        with self._progress:
            task = self._tasks.get(ticket)
            if task is None or self._failure is not None:
                return True
            complete = task.complete
        return complete and (task.refused is not None or self._gpu.native.ready(task.left))

    def close(self, timeout_s: float) -> None:
        """Stop the thread, meet the other ranks and give back what was used; once is enough."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join(timeout_s)
            if self._thread.is_alive():  # it waits for other ranks: its memory stays
                return
        try:
            self._settle(timeout_s)
        except MpimlsysError:  # what other ranks or the GPU may still use stays
            return
        if self._peer_memory is not None:
            self._peer_memory.close()
        self._staging.close()
        self._frames.close()
        self._gpu.native.drop_stream(self._stream)
        self._engine.close(timeout_s=timeout_s)

    def _settle(self, timeout_s: float) -> None:
        """Return when no GPU uses what the ranks share any more."""
        if self._failure is not None:
            raise MpimlsysError("an operation failed.")
        with self._gpu.event() as end:
            self._gpu.native.record(end, self._stream)
            self._gpu.wait(end, timeout_s, "what it still has to do")
        self._agreement.meet("the end", timeout_s)

    def _forget(self, task: _Task) -> None:
        self._gpu.native.drop_event(task.entered)
        self._gpu.native.drop_event(task.left)

    def _submit(self, array: Any, label: str, perform: Callable[[View], None]) -> int:
        place = view(array)
        if place.gpu not in (None, self._gpu.number):
            raise ConfigError(
                f"an array of GPU {place.gpu} came where arrays of GPU {self._gpu.number} are "
                "reduced: a process computes on one GPU."
            )
        native = self._gpu.native
        task = _Task(array, place, label, perform, native.make_event(), native.make_event())
        native.record(task.entered, place.stream)
        with self._progress:
            self._last += 1
            ticket = self._last
            self._tasks[ticket] = task
        if self._thread is None:
            self._run(task)
        else:
            self._inbox.put(task)
        return ticket

    def _work(self) -> None:
        while (task := self._inbox.get()) is not None:
            self._run(task)

    def _run(self, task: _Task) -> None:
        if self._failure is not None:
            return
        try:
            self._perform(task)
        except Refused as error:
            task.refused = error
        except Exception as error:  # noqa: BLE001 whoever waits gets it
            with self._progress:
                self._failure = error
                self._progress.notify_all()
            return
        with self._progress:
            task.complete = True
            self._progress.notify_all()

    def _perform(self, task: _Task) -> None:
        native = self._gpu.native
        native.follow(self._stream, task.entered)
        task.perform(task.place)
        native.record(task.left, self._stream)

    def _reduce(self, place: View, how: Reduction) -> None:
        if self._size == 1:
            return
        if how.check:
            self._compare(place, how)
        if place.size == 0:
            return
        if how.algorithm == "mpi" and self._direct is not None and self._direct.can(place, how):
            self._direct.all_reduce(place, how, self._gpu, self._stream)
            return
        peers = self._peer_memory if how.algorithm in _IN_MEMORY else None
        if peers is not None and peers.all_reduce(place, how, self._stream):
            return
        self._staging.all_reduce(place, how, self._engine, self._stream)

    def _compare(self, place: View, how: Reduction) -> None:
        """Refuse, on all ranks alike, what is not the same or cannot be."""
        words = (place.dtype, how.op, how.algorithm, how.order)
        own = _CALL.pack(*(word.encode() for word in words), place.size)
        records = self._agreement.tell(own, how.label, how.timeout_s)
        for rank, record in enumerate(records):
            if record != records[0]:
                raise Refused(
                    f"the ranks disagree: rank 0 reduces {_told(records[0])}, rank {rank} "
                    f"{_told(record)}."
                )
        if how.op not in _OPS:
            raise Refused(f"no operation is called {how.op!r}.{nearest(how.op, _OPS)}")
        if how.op == "average" and place.dtype not in _FLOATS:
            raise Refused(f"an average of {place.dtype} is not defined; use op='sum'.")

    def _reduce_compressed(self, place: View, memory: GpuCompressor, request: Request) -> None:
        if self._size == 1:
            memory.carry_on(place.address, memory.count)
            return
        if memory.compressed == memory.count:
            self._frames.all_reduce(place.address, memory, request)
            return
        packed = memory.packed()
        pieces = pieces_of(memory.parts, memory.count)
        self._pack(place, packed, pieces, back=False)
        if memory.compressed:
            self._frames.all_reduce(packed.address, memory, request)
        others = View(
            packed.address + memory.compressed * place.itemsize,
            (memory.count - memory.compressed,),
            place.dtype,
            place.itemsize,
            self._stream,
        )
        how = Reduction("sum", "auto", "any", request.label, request.check, request.timeout_s)
        self._reduce(others, how)
        memory.carry_on(others.address, others.size)
        self._pack(place, packed, pieces, back=True)

    def _pack(
        self, place: View, packed: Memory, pieces: list[tuple[int, int]], *, back: bool
    ) -> None:
        """Copy pieces of an array one after the other, or back to their places."""
        at = packed.address
        for start, length in pieces:
            there = place.address + start * place.itemsize
            into, source = (there, at) if back else (at, there)
            nbytes = length * place.itemsize
            self._gpu.native.copy(into, source, nbytes, stream=self._stream)
            at += nbytes


def _told(record: bytes) -> str:
    *words, size = _CALL.unpack(record)
    dtype, op, algorithm, order = (word.rstrip(b"\0").decode() for word in words)
    return f"{size} elements of {dtype} by {op} (algorithm {algorithm}, order {order})"


def pieces_of(parts: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """(start, length) of what is compressed, then of what is not."""
    ends = [0, *(start + length for start, length in parts)]
    starts = [*(start for start, _ in parts), count]
    gaps = [(end, start - end) for end, start in zip(ends, starts, strict=True) if start > end]
    return [*parts, *gaps]


def gpu_of(ctx: Context, array: Any) -> Gpu:
    """The GPU that an array is in; opened once.

    Raises:
        ConfigError: it cannot be used, on this rank.
    """
    number = view(array).gpu
    return gpu(number_for(ctx.local_rank) if number is None else number)


def open_queue(ctx: Context, peers: ProcessSet, array: Any) -> Queue:
    """A queue for arrays where ``array`` is. Collective over ``peers``.

    Raises:
        ConfigError: the GPU cannot be used.
    """
    made = Queue(ctx.native, peers, gpu_of(ctx, array), ctx.timeout_s)
    held = weakref.ref(made)

    def close() -> None:
        left = held()
        if left is not None:
            left.close(_CLOSE_S)

    ctx.call_at_close(close)
    return made


def queue_of(ctx: Context, peers: ProcessSet, array: Any) -> Queue:
    """The queue of a process set; made at its first operation, which all its ranks take part in."""
    if peers not in _queues:
        _queues[peers] = open_queue(ctx, peers, array)
    return _queues[peers]
