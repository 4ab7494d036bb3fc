"""Collective operations on arrays, over all ranks of a role or over a process set.

An *array* is a NumPy array, or anything that shares CPU memory through DLPack or the buffer
protocol (a PyTorch tensor, an ``array.array``); or one in the memory of a GPU: of CuPy, of PyTorch,
or with the CUDA array interface. It must be C-contiguous and, where the result takes its place,
writable. Sizes, dtypes and operations are compared between the ranks before data moves, so that a
mistake is the same clear error on every rank instead of a hang or a wrong result.

With arrays of a GPU an operation follows what the caller's current stream has to do, and that
stream waits for the result; the caller waits for the ranks only. All ranks of an operation pass
arrays of a GPU, or all of the host.

Every operation has a sibling whose name ends in ``_async``, which returns a :class:`Work` at once.
Ranks must start the operations of one process set in the same order; those of several sets may be
under way in any order.

Operations take, and raise:
    process_set: the ranks that take part; all of this role unless given.
    timeout_s: longest wait for another rank in seconds; ``comm.timeout_s`` of the job file or of
        ``init`` unless given.
    ConfigError: an array that cannot be used, or calls that differ between ranks; the same error
        on every rank. Arrays are as they were, but for those of a group that came before.
    Timeout: a rank did not take part; names the operation, the rank that is waited for and the
        phase. The contents of arrays are then undefined.
    RankFailed: a rank is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from mpimlsys import context, device
from mpimlsys.errors import ConfigError
from mpimlsys.process_sets import ProcessSet
from mpimlsys.types import Array

Op = Literal["sum", "average", "min", "max", "product"]
Algorithm = Literal["auto", "ring", "doubling", "halving", "shared", "hierarchical", "mpi"]
T = TypeVar("T")

_STORY_S = 1.0  # lets the operation's own deadline come first: its error names the peer


class Work(Generic[T]):
    """A collective under way; its arrays must not be touched until :meth:`wait` has returned."""

    def __init__(self, engine: Any, ticket: int, result: Callable[[], T], timeout_s: float) -> None:
        self._engine = engine
        self._ticket = ticket
        self._result = result
        self._timeout_s = timeout_s

    def wait(self, timeout_s: float | None = None) -> T:
        """Return what the operation would have returned, when it is complete.

        Raises:
            Timeout: it is not, after ``timeout_s`` seconds; says what its thread waits for. The
                operation goes on.
        """
        longest = self._timeout_s + _STORY_S if timeout_s is None else timeout_s
        self._engine.wait(self._ticket, timeout_s=longest)
        return self._result()

    def done(self) -> bool:
        """Whether :meth:`wait` would return or raise at once."""
        return bool(self._engine.done(self._ticket))


def process_set(ranks: Sequence[int]) -> ProcessSet:
    """Ranks that communicate apart from the others. Collective over all ranks of this role.

    Args:
        ranks: of the members, in any order.

    Returns:
        The set, on members and others alike; only members may call its operations.

    Raises:
        ConfigError: on every rank, when these are no ranks or not the same on all of them.

    Example:
        >>> alone = process_set([0])
        >>> allreduce(np.ones(2), process_set=alone)
        array([1., 1.])
    """
    return context.init().process_set(ranks)


def allreduce(
    array: T,
    op: Op = "average",
    *,
    algorithm: Algorithm | None = None,
    process_set: ProcessSet | None = None,
    timeout_s: float | None = None,
) -> T:
    """Combine ``array`` elementwise over all ranks, in place; every rank gets the same bits.

    Args:
        array: any size, also 0; float16, bfloat16, float32, float64 or an integer type.
        op: ``"average"`` (of floats), ``"sum"``, ``"min"``, ``"max"`` or ``"product"``. Integers
            wrap around; float16 and bfloat16 are combined in float32.
        algorithm: how it travels, see docs/algorithms.md; ``comm.algorithm`` unless given.

    Returns:
        ``array`` itself.

    Example:
        >>> allreduce(np.ones(3), op="sum")
        array([1., 1., 1.])
    """
    return _allreduce(array, op, algorithm, process_set).now(timeout_s)


def allreduce_async(
    array: T,
    op: Op = "average",
    *,
    algorithm: Algorithm | None = None,
    process_set: ProcessSet | None = None,
) -> Work[T]:
    """Start an :func:`allreduce` in the background."""
    return _allreduce(array, op, algorithm, process_set).later()


def grouped_allreduce(
    arrays: Sequence[T],
    op: Op = "average",
    *,
    algorithm: Algorithm | None = None,
    process_set: ProcessSet | None = None,
    timeout_s: float | None = None,
) -> list[T]:
    """:func:`allreduce` of several arrays of one dtype in one operation.

    Neighbours are copied into one buffer of at most ``comm.fusion_bytes`` and back, so that many
    small arrays cost as much as one large.

    Returns:
        The same arrays.
    """
    return _grouped_allreduce(arrays, op, algorithm, process_set).now(timeout_s)


def grouped_allreduce_async(
    arrays: Sequence[T],
    op: Op = "average",
    *,
    algorithm: Algorithm | None = None,
    process_set: ProcessSet | None = None,
) -> Work[list[T]]:
    """Start a :func:`grouped_allreduce` in the background."""
    return _grouped_allreduce(arrays, op, algorithm, process_set).later()


def reducescatter(
    array: T,
    op: Op = "average",
    *,
    process_set: ProcessSet | None = None,
    timeout_s: float | None = None,
) -> T:
    """Combine ``array`` over all ranks and leave each rank its part of the rows, in place.

    Args:
        array: of the same shape on all ranks. Its other rows are undefined afterwards.
        op: see :func:`allreduce`.

    Returns:
        View of this rank's rows of the first axis: those of rank r follow those of rank r - 1,
        and the first ranks have one more where rows cannot be shared out evenly.
    """
    return _reducescatter(array, op, process_set).now(timeout_s)


def reducescatter_async(
    array: T, op: Op = "average", *, process_set: ProcessSet | None = None
) -> Work[T]:
    """Start a :func:`reducescatter` in the background."""
    return _reducescatter(array, op, process_set).later()


def allgather(
    array: T, *, process_set: ProcessSet | None = None, timeout_s: float | None = None
) -> T:
    """The rows of all ranks, one rank after the other, as a new array on every rank.

    Args:
        array: of any dtype that can be copied; ranks may have different numbers of rows.
    """
    return _allgather(array, process_set).now(timeout_s)


def allgather_async(array: T, *, process_set: ProcessSet | None = None) -> Work[T]:
    """Start an :func:`allgather` in the background."""
    return _allgather(array, process_set).later()


def broadcast(
    array: T,
    root: int = 0,
    *,
    process_set: ProcessSet | None = None,
    timeout_s: float | None = None,
) -> T:
    """Copy ``array`` of rank ``root`` into every rank's ``array``, in place.

    Args:
        array: the same size and dtype on all ranks.
        root: rank within the process set, or else within this role.

    Returns:
        ``array`` itself.
    """
    return _broadcast(array, root, process_set).now(timeout_s)


def broadcast_async(array: T, root: int = 0, *, process_set: ProcessSet | None = None) -> Work[T]:
    """Start a :func:`broadcast` in the background."""
    return _broadcast(array, root, process_set).later()


def alltoall(
    array: T,
    counts: Sequence[int] | None = None,
    *,
    process_set: ProcessSet | None = None,
    timeout_s: float | None = None,
) -> tuple[T, list[int]]:
    """Send rows of ``array`` to every rank and receive theirs.

    Args:
        array: rows for rank 0, then for rank 1, and so on; any dtype that can be copied.
        counts: rows for each rank; the same for all unless given.

    Returns:
        A new array with the rows from rank 0, then from rank 1, and so on, and how many came from
        each.
    """
    return _alltoall(array, counts, process_set).now(timeout_s)


def alltoall_async(
    array: T, counts: Sequence[int] | None = None, *, process_set: ProcessSet | None = None
) -> Work[tuple[T, list[int]]]:
    """Start an :func:`alltoall` in the background."""
    return _alltoall(array, counts, process_set).later()


def barrier(*, process_set: ProcessSet | None = None, timeout_s: float | None = None) -> None:
    """Return when every rank has called it."""
    _Call("barrier", process_set, lambda _: None).now(timeout_s)


def barrier_async(*, process_set: ProcessSet | None = None) -> Work[None]:
    """Start a :func:`barrier` in the background."""
    return _Call("barrier", process_set, lambda _: None).later()


@dataclass(frozen=True)
class _Call(Generic[T]):
    """An operation that has not begun; ``result`` gets the parts it brings.

    It is the extension's, or that of a GPU's queue where ``on_gpu`` is one of its arrays.
    """

    name: str
    process_set: ProcessSet | None
    result: Callable[[Any], T]
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    on_gpu: Any = None

    def now(self, timeout_s: float | None) -> T:
        if self.on_gpu is not None:
            return self._on_gpu(timeout_s, background=False).wait()
        ctx = context.init()
        transport = (self.process_set or ctx.peers).transport
        longest = ctx.timeout_s if timeout_s is None else timeout_s
        operation = getattr(ctx.native, self.name)
        return self.result(operation(transport, *self.arguments, timeout_s=longest, **self.options))

    def later(self) -> Work[T]:
        if self.on_gpu is not None:
            return self._on_gpu(None, background=True)
        ctx = context.init()
        return self._start((self.process_set or ctx.peers).engine, ctx.timeout_s)

    def _on_gpu(self, timeout_s: float | None, *, background: bool) -> Work[T]:
        ctx = context.init()
        queue = device.queue_of(ctx, self.process_set or ctx.peers, self.on_gpu)
        longest = ctx.timeout_s if timeout_s is None else timeout_s
        return self._start(queue, longest, background=background)

    def _start(self, engine: Any, timeout_s: float, **how: bool) -> Work[T]:
        submit = getattr(engine, self.name)
        given = submit(*self.arguments, timeout_s=timeout_s, **how, **self.options)
        ticket, parts = given if isinstance(given, tuple) else (given, None)
        return Work(engine, ticket, lambda: self.result(parts), timeout_s)


def _allreduce(
    array: T, op: Op, algorithm: Algorithm | None, process_set: ProcessSet | None
) -> _Call[T]:
    comm = context.init().comm
    options: dict[str, Any] = {"algorithm": algorithm or comm.algorithm, "order": comm.order}
    if device.is_on_gpu(array):
        return _Call("all_reduce", process_set, lambda _: array, (array, op), options, array)
    view, dtype = _memory(array)
    options["dtype"] = dtype
    return _Call("all_reduce", process_set, lambda _: array, (view, op), options)


def _grouped_allreduce(
    arrays: Sequence[T], op: Op, algorithm: Algorithm | None, process_set: ProcessSet | None
) -> _Call[list[T]]:
    comm = context.init().comm
    options: dict[str, Any] = {
        "fusion_bytes": comm.fusion_bytes,
        "algorithm": algorithm or comm.algorithm,
        "order": comm.order,
    }
    name = "grouped_all_reduce"
    on_gpu = [array for array in arrays if device.is_on_gpu(array)]
    if on_gpu:
        return _Call(
            name, process_set, lambda _: list(arrays), (arrays, op), options, on_gpu=on_gpu[0]
        )
    memories = [_memory(array) for array in arrays]
    options["dtype"] = memories[0][1] if memories else None
    views = [view for view, _ in memories]
    return _Call(name, process_set, lambda _: list(arrays), (views, op), options)


def _reducescatter(array: T, op: Op, process_set: ProcessSet | None) -> _Call[T]:
    ctx = context.init()
    peers = process_set or ctx.peers
    order = ctx.comm.order
    if device.is_on_gpu(array):
        return _Call(
            "reduce_scatter",
            peers,
            lambda _: device.rows_of(array, _rows_for(peers, device.view(array).shape[0])),
            (array, op),
            {"order": order},
            on_gpu=array,
        )
    view, dtype = _memory(array)
    rows, row = _rows_of(view.shape)
    own = _rows_for(peers, rows)
    options = {"row": row, "dtype": dtype, "order": order}
    return _Call("reduce_scatter", peers, lambda _: _like(array, view[own]), (view, op), options)


def _allgather(array: T, process_set: ProcessSet | None) -> _Call[T]:
    if device.is_on_gpu(array):
        return _Call(
            "gather_parts", process_set, lambda result: result.array, (array,), on_gpu=array
        )
    view, dtype = _memory(array)
    options = {"row_bytes": _rows_of(view.shape)[1] * view.itemsize, "dtype": dtype}
    return _Call(
        "gather_parts",
        process_set,
        lambda parts: _like(array, _joined(parts, view)),
        (view,),
        options,
    )


def _broadcast(array: T, root: int, process_set: ProcessSet | None) -> _Call[T]:
    if device.is_on_gpu(array):
        return _Call("broadcast", process_set, lambda _: array, (array, root), on_gpu=array)
    view, dtype = _memory(array)
    return _Call("broadcast", process_set, lambda _: array, (view, root), {"dtype": dtype})


def _alltoall(
    array: T, counts: Sequence[int] | None, process_set: ProcessSet | None
) -> _Call[tuple[T, list[int]]]:
    peers = process_set or context.init().peers
    if device.is_on_gpu(array):
        return _Call(
            "all_to_all",
            peers,
            lambda result: (result.array, result.counts),
            (array, counts),
            on_gpu=array,
        )
    view, dtype = _memory(array)
    rows, row = _rows_of(view.shape)
    row *= view.itemsize

    def result(parts: Any) -> tuple[T, list[int]]:
        return _like(array, _joined(parts, view)), [length // row for length in parts.lengths]

    lengths = [count * row for count in _counts_for(peers, rows, counts)]
    options = {"row_bytes": row, "dtype": dtype}
    return _Call("all_to_all", peers, result, (view, lengths), options)


def _counts_for(peers: ProcessSet, rows: int, counts: Sequence[int] | None) -> list[int]:
    """How many rows each rank is sent."""
    if counts is None:
        if rows % peers.size:
            raise ConfigError(
                f"{rows} rows cannot be shared out evenly among {peers.size} ranks; pass counts."
            )
        return [rows // peers.size] * peers.size
    if any(count < 0 for count in counts):
        raise ConfigError(f"counts must not be negative: {list(counts)}.")
    return list(counts)


def _rows_for(peers: ProcessSet, rows: int) -> slice:
    """The rows of this rank where all are shared out."""
    least, longer = divmod(rows, peers.size)
    start = peers.rank * least + min(peers.rank, longer)
    return slice(start, start + least + (peers.rank < longer))


def _rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Number of rows and elements of one, which is at least one."""
    if not shape:
        raise ConfigError("an array without axes has no rows; pass numpy.atleast_1d(array).")
    return shape[0], max(1, math.prod(shape[1:]))


def _joined(parts: Any, like: Array) -> Array:
    joined: Array = parts.data.view(like.dtype).reshape(-1, *like.shape[1:])
    return joined


def _like(source: Any, found: Array) -> Any:
    """``found`` as a tensor where ``source`` is one."""
    if device.is_tensor(source):
        import torch

        return torch.from_numpy(found).view(source.dtype)
    return found


def _memory(array: Any) -> tuple[Array, str | None]:
    """A NumPy view of the array's memory and, where NumPy lacks the type, its name."""
    if isinstance(array, np.ndarray):
        return array, None
    if device.is_tensor(array) and str(array.dtype) == "torch.bfloat16":
        import torch

        return array.detach().view(torch.uint16).numpy(), "bfloat16"
    try:
        if hasattr(array, "__dlpack__"):
            return np.from_dlpack(array.detach() if hasattr(array, "detach") else array), None
        return np.asarray(memoryview(array)), None
    except (TypeError, ValueError, BufferError) as error:
        raise ConfigError(
            f"{type(array).__name__} does not share its memory with NumPy ({error}); pass a NumPy "
            "array."
        ) from error
