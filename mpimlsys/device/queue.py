"""Collectives of GPU arrays, one after the other.

A queue has the interface of the extension's engine: operations are submitted in the same order on
all ranks, and waited for by their ticket. An operation starts when what the caller's stream had to
do before is done, and the caller's stream waits for its result; the caller itself waits only for
the ranks' part of it. That is done by a thread in the background, or by the caller: by whoever has
time for it first, so that one who waits at once is not kept waiting by the threads' changing turns.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

from mpimlsys.context import Context
from mpimlsys.device.agreement import Agreement
from mpimlsys.device.arrays import View, is_on_gpu, number_of, view
from mpimlsys.device.calls import Call, Reduction
from mpimlsys.device.compressed import Compressed
from mpimlsys.device.compressor import GpuCompressor
from mpimlsys.device.direct import Direct, takes_gpu_memory
from mpimlsys.device.frames import Frames
from mpimlsys.device.gpu import Gpu, gpu, number_for
from mpimlsys.device.moves import Moves
from mpimlsys.device.passage import Request
from mpimlsys.device.peer_memory import MOST_RANKS, PeerMemory
from mpimlsys.device.reductions import Reductions
from mpimlsys.device.results import Result
from mpimlsys.device.staged import Staged
from mpimlsys.device.staging import Staging
from mpimlsys.device.ways import Ways
from mpimlsys.errors import ConfigError, MpimlsysError, Timeout
from mpimlsys.network import Blocking
from mpimlsys.process_sets import ProcessSet

_CLOSE_S = 5.0
_queues: dict[ProcessSet, Queue] = {}


@dataclass
class _Task:
    """An operation; ``arrays`` are kept alive until it is complete.

    Attributes:
        streams: of the caller, with the events that come before the operation.
        left: the event that comes after it.
        timeout_s: longest wait for another rank.
        has_deadlines: in all of its waits.
    """

    name: str
    arrays: Sequence[Any]
    perform: Callable[[], object] | None
    streams: dict[int, int]
    left: int
    timeout_s: float
    has_deadlines: bool
    complete: bool = False
    refused: ConfigError | None = None


class Queue:
    """Operations of one process set on this process's GPU. Making it is collective.

    Args:
        native: the extension of the host.
        peers: the ranks.
        gpu: of this process.
        timeout_s: longest wait while it is made.
        shared: whether GPUs of a node may use each other's memory.
    """

    def __init__(
        self, native: Any, peers: ProcessSet, gpu: Gpu, timeout_s: float, *, shared: bool = True
    ) -> None:
        self._gpu = gpu
        ranks = peers.open_blocking()
        self._size = peers.size
        self._stream, self._arrivals = gpu.native.make_stream(), gpu.native.make_stream()
        self._staging = Staging(gpu, peers)
        shared = shared and len(set(peers.nodes)) == 1 and peers.size <= MOST_RANKS
        self._agreement = agreement = Agreement(ranks, peers.size)
        frames = Frames(gpu, native, ranks, agreement, peers.rank, peers.size, self._stream)
        peer_memory = (
            PeerMemory.open(gpu, agreement, peers.rank, peers.size, timeout_s) if shared else None
        )
        threads = peers.allows_threads
        direct = agreement.all_can(takes_gpu_memory() and threads, "a CUDA-aware MPI", timeout_s)
        staged = Staged(self._staging, ranks, peers.rank, peers.size, self._stream)
        self._ways = Ways(staged, peer_memory, Direct(peers.duplicate()) if direct else None)
        self._reductions = Reductions(gpu, agreement, self._ways, peers.size, self._stream)
        self._compressed = Compressed(
            gpu, agreement, frames, self._reductions, peers.size, self._stream
        )
        self._moves = Moves(agreement, self._ways, peers.rank, peers.size, self._stream)
        self._closed = False
        self._tasks: dict[int, _Task] = {}
        self._last = 0
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)  # of operations
        self._more = threading.Condition(self._lock)  # for the thread
        self._waiting: deque[_Task] = deque()
        self._busy = False  # one is performed
        self._thread: threading.Thread | None = None
        if threads:
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
        background: bool = True,
        timeout_s: float = 300.0,
    ) -> int:
        """Start to combine ``array`` over all ranks, in place; returns its ticket.

        Args:
            array: of a GPU, see :func:`mpimlsys.device.view`.
            algorithm: ``"auto"``: in the memory of the node's GPUs where all ranks are there, as
                ``"shared"``; else through host memory, where the ranks choose. ``"mpi"``: by the
                MPI, straight from the GPU if it is CUDA-aware. Others: through host memory.
            op, label, order, check, timeout_s: as for arrays of the host.
            background: False where the caller waits at once; the same for other operations.
        """
        how = Reduction(
            label,
            timeout_s,
            background,
            op=op,
            algorithm=algorithm,
            order=order,
            check=check,
        )
        return self._submit(
            "all-reduce",
            how,
            [array],
            lambda place: self._reductions.all_reduce(place, how, self._arrivals),
        )

    def grouped_all_reduce(
        self,
        arrays: Sequence[Any],
        op: str = "sum",
        *,
        fusion_bytes: int,
        label: str = "",
        algorithm: str = "auto",
        order: str = "any",
        background: bool = True,
        timeout_s: float = 300.0,
    ) -> int:
        """Start to combine arrays of one dtype, small neighbours in pieces of ``fusion_bytes``."""
        how = Reduction(label, timeout_s, background, op=op, algorithm=algorithm, order=order)

        def perform(*places: View) -> None:
            self._reductions.grouped_all_reduce(places, how, fusion_bytes)

        return self._submit("grouped all-reduce", how, arrays, perform)

    def reduce_scatter(
        self,
        array: Any,
        op: str = "sum",
        *,
        label: str = "",
        order: str = "any",
        background: bool = True,
        timeout_s: float = 300.0,
    ) -> int:
        """Start to combine ``array`` and to leave each rank its rows in their place."""
        how = Reduction(label, timeout_s, background, op=op, order=order)
        return self._submit(
            "reduce-scatter",
            how,
            [array],
            lambda place: self._reductions.reduce_scatter(place, how),
            rows=True,
        )

    def broadcast(
        self,
        array: Any,
        root: int,
        *,
        label: str = "",
        background: bool = True,
        timeout_s: float = 300.0,
    ) -> int:
        """Start to copy the root's array into those of all."""
        how = Call(label, timeout_s, background)
        return self._submit(
            "broadcast", how, [array], lambda place: self._moves.broadcast(place, root, how)
        )

    def gather_parts(
        self, array: Any, *, label: str = "", background: bool = True, timeout_s: float = 300.0
    ) -> tuple[int, Result]:
        """Start to gather the rows of all ranks; the result is there when that is complete."""
        how, result = Call(label, timeout_s, background), Result(self._gpu)

        def perform(place: View) -> None:
            self._moves.gather(place, result, how)

        return self._submit("all-gather", how, [array], perform, result, rows=True), result

    def all_to_all(
        self,
        array: Any,
        counts: Sequence[int] | None,
        *,
        label: str = "",
        background: bool = True,
        timeout_s: float = 300.0,
    ) -> tuple[int, Result]:
        """Start to send each rank so many rows; the result is there when that is complete."""
        how, result = Call(label, timeout_s, background), Result(self._gpu)

        def perform(place: View) -> None:
            self._moves.all_to_all(place, counts, result, how)

        return self._submit("all-to-all", how, [array], perform, result, rows=True), result

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
        request = Request(spec, step, measure, label, check, timeout_s)
        return self._submit(
            "compressed all-reduce",
            Call(label, timeout_s),
            [array],
            lambda place: self._compressed.all_reduce(place, memory, request),
        )

    def wait(self, ticket: int, timeout_s: float) -> None:
        """Return when the ranks have done their part and the caller's stream waits for the rest.

        Raises:
            Timeout: not after ``timeout_s``; or what the operation failed with.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            task = self._tasks.get(ticket)
            if task is None:  # waited for before
                return
        if task.has_deadlines and timeout_s >= task.timeout_s:
            self._run(task)
        with self._lock:
            if not task.complete:
                self._more.notify()
            while not task.complete and self._failure is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Timeout(f"{task.name} is not complete after {timeout_s:.1f} s.")
                self._progress.wait(min(left, 0.05))  # so that Ctrl-C is heard
            if not task.complete:
                assert self._failure is not None
                raise self._failure
            if task.refused is not None:
                raise copy(task.refused)  # as a traceback would keep the caller's arrays
            if ticket in self._tasks:  # no other thread was faster
                for stream in task.streams:
                    self._gpu.native.follow(stream, task.left)
                self._forget(self._tasks.pop(ticket))

    def done(self, ticket: int) -> bool:
        """Whether :meth:`wait` would return or raise at once, and the result is there."""
        with self._lock:
            task = self._tasks.get(ticket)
            if task is None or self._failure is not None:
                return True
            refused = task.refused is not None
            return task.complete and (refused or self._gpu.native.ready(task.left))

    def close(self, timeout_s: float) -> None:
        """Stop the thread, meet the other ranks and give back what was used; once is enough."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            with self._lock:
                self._more.notify()
            self._thread.join(timeout_s)
            if self._thread.is_alive():  # it waits for other ranks: its memory stays
                return
        try:
            self._settle(timeout_s)
        except MpimlsysError:  # what other ranks or the GPU may still use stays
            return
        if self._ways.peers is not None:
            self._ways.peers.close()
        self._staging.close()
        self._compressed.close()
        self._gpu.native.drop_stream(self._arrivals)  # memory may be freed later on the other

    def _settle(self, timeout_s: float) -> None:
        """Return when no GPU uses what the ranks share any more."""
        if self._failure is not None:
            raise MpimlsysError("an operation failed.")
        with self._gpu.event() as end:
            self._gpu.native.record(end, self._stream)
            self._gpu.wait(end, timeout_s, "what it still has to do")
        self._agreement.meet("the end", timeout_s)

    def _forget(self, task: _Task) -> None:
        for event in (*task.streams.values(), task.left):
            self._gpu.native.drop_event(event)
        task.arrays, task.perform = (), None

    def _submit(
        self,
        name: str,
        how: Call,
        arrays: Sequence[Any],
        perform: Callable[..., object],
        result: Result | None = None,
        *,
        rows: bool = False,
    ) -> int:
        """Queue an operation; ``perform`` gets the places of its arrays.

        Where they cannot be used, the others are told in its turn.
        """
        places: list[View] = []
        try:
            places = [self._place(array, writable=result is None, rows=rows) for array in arrays]
            if result is not None:
                result.be_like(arrays[0], places[0])
            begin: Callable[[], object] = partial(perform, *places)
        except ConfigError as error:
            call = f"passed what cannot be used: {error}"
            begin = partial(self._agreement.refuse, call, how.label, how.timeout_s)
        native = self._gpu.native
        streams = {place.stream: native.make_event() for place in places}
        for stream, entered in streams.items():
            native.record(entered, stream)
        told = f"{name} of {how.label or 'an array of a GPU'}"
        by_mpi = isinstance(how, Reduction) and how.algorithm == "mpi"
        task = _Task(
            told,
            [*arrays, *(place.keeper for place in places)],
            begin,
            streams,
            native.make_event(),
            how.timeout_s,
            has_deadlines=not by_mpi or self._ways.direct is None,
        )
        with self._lock:
            self._last += 1
            ticket = self._last
            self._tasks[ticket] = task
            self._waiting.append(task)
            if how.background:
                self._more.notify()
        while self._thread is None and self._waiting:
            self._run(self._waiting[0])
        return ticket

    def _place(self, array: Any, *, writable: bool, rows: bool) -> View:
        if not is_on_gpu(array):
            raise ConfigError(
                "a group has arrays of a GPU and of the host; pass them in two groups, in the same "
                "order on all ranks."
            )
        place = view(array, writable=writable)
        if rows and not place.shape:
            raise ConfigError("an array without axes has no rows; pass array.reshape(1).")
        if place.gpu not in (None, self._gpu.number):
            raise ConfigError(
                f"an array of GPU {place.gpu} came where arrays of GPU {self._gpu.number} are "
                "exchanged: a process computes on one GPU."
            )
        return place

    def _work(self) -> None:
        while True:
            with self._lock:
                self._more.wait_for(lambda: not self._busy and (self._waiting or self._closed))
                if not self._waiting:
                    return
                task = self._waiting[0]
            self._run(task)

    def _run(self, task: _Task) -> None:
        """Perform ``task`` if it is the next one and nobody else performs any."""
        failure: Exception | None = MpimlsysError(f"{task.name} was interrupted.")
        mine = False
        try:
            with self._lock:
                mine = not self._busy and bool(self._waiting) and self._waiting[0] is task
                if not mine:
                    return
                self._busy = True
                self._waiting.popleft()
            if self._failure is None:
                self._perform(task)
            failure = self._failure
        except ConfigError as error:
            failure = error
            if error.on_all_ranks:  # and nothing has happened: what comes next may go on
                task.refused, failure = error.with_traceback(None), None  # which holds arrays
                self._forget(task)
        except Exception as error:  # noqa: BLE001 whoever waits gets it
            failure = error
        finally:
            if mine:
                with self._lock:
                    self._failure = failure
                    task.complete = failure is None
                    self._busy = False
                    self._progress.notify_all()
                    if self._waiting or self._closed:
                        self._more.notify()

    def _perform(self, task: _Task) -> None:
        native = self._gpu.native
        for entered in task.streams.values():
            native.follow(self._stream, entered)
            native.follow(self._arrivals, entered)
        assert task.perform is not None
        by_peers = task.perform()
        native.record(task.left, self._stream)
        if by_peers is not True:  # this rank's GPU did something, which what arrives next may need
            native.follow(self._arrivals, task.left)


def gpu_of(ctx: Context, array: Any) -> Gpu:
    """The GPU that an array is in; opened once.

    Raises:
        ConfigError: it cannot be used, on this rank.
    """
    number = number_of(array)
    return gpu(number_for(ctx.local_rank) if number is None else number)


def open_queue(ctx: Context, peers: ProcessSet, array: Any, *, shared: bool = True) -> Queue:
    """A queue for arrays where ``array`` is; see :class:`Queue`. Collective over ``peers``.

    Raises:
        ConfigError: the GPU cannot be used, or not all ranks are here.
    """
    # whoever passes an array of the host hears of it
    ctx.native.barrier(peers.transport, label="arrays of a GPU", timeout_s=ctx.timeout_s)
    agreement = Agreement(Blocking(ctx.native, peers.transport), peers.size)
    here = agreement.make(partial(gpu_of, ctx, array), "a GPU to use", "the GPUs", ctx.timeout_s)
    made = Queue(ctx.native, peers, here, ctx.timeout_s, shared=shared)
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
