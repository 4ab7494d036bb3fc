"""Collective operations on arrays: in place, over all ranks of a role.

An *array* is a NumPy array, or anything that shares CPU memory through DLPack or the buffer
protocol (a PyTorch tensor, an ``array.array``). It must be C-contiguous and writable. Sizes,
dtypes and operations are compared between the ranks before data moves, so that a mistake is
the same clear error on every rank instead of a hang or a wrong result.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np

from mpimlsys import context
from mpimlsys.errors import ConfigError
from mpimlsys.types import Array

Op = Literal["sum", "average", "min", "max"]
T = TypeVar("T")


class Work:
    """A collective under way; made by :func:`allreduce_async`."""

    def __init__(self, engine: Any, ticket: int) -> None:
        self._engine = engine
        self._ticket = ticket

    def wait(self, timeout_s: float = 300.0) -> None:
        """Return when the array holds the result.

        Raises:
            Timeout: after ``timeout_s`` seconds; names the operation, the rank it waits for and
                the phase. The array's contents are then undefined.
            ConfigError: ranks disagree about shape, dtype or operation.
        """
        self._engine.wait(self._ticket, timeout_s=timeout_s)

    def done(self) -> bool:
        """Whether :meth:`wait` would return at once."""
        return bool(self._engine.done(self._ticket))


def allreduce(array: T, op: Op = "average", *, timeout_s: float = 300.0) -> T:
    """Combine ``array`` elementwise over all ranks, in place; every rank gets the same bits.

    Args:
        array: any size, also 0; float16, bfloat16, float32, float64 or an integer type.
        op: ``"average"``, ``"sum"``, ``"min"`` or ``"max"``. The average of integers rounds
            towards zero. float16 and bfloat16 are rounded at each addition.
        timeout_s: longest wait for another rank, in seconds.

    Returns:
        ``array`` itself.

    Raises:
        ConfigError: not contiguous, read-only, an unsupported dtype, or different on another rank.
        Timeout: a rank did not take part.

    Source:
        Patarasuk, Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of
        workstations".

    Example:
        >>> allreduce(np.ones(3), op="sum")
        array([1., 1., 1.])
    """
    ctx = context.init()
    view, dtype = _memory(array)
    ctx.native.all_reduce(ctx.group_transport, view, op, dtype=dtype, timeout_s=timeout_s)
    return array


def allreduce_async(array: Any, op: Op = "average") -> Work:
    """Start an all-reduce in the background; see :func:`allreduce`.

    All ranks must start their operations in the same order. The array must not be touched until
    ``wait`` has returned.
    """
    ctx = context.init()
    engine = ctx.engine
    view, dtype = _memory(array)
    return Work(engine, engine.all_reduce(view, op, dtype=dtype))


def broadcast(array: T, root: int = 0, *, timeout_s: float = 300.0) -> T:
    """Copy ``array`` of rank ``root`` into every rank's ``array``, in place.

    Args:
        array: the same size and dtype on all ranks.
        root: rank within the group of this role.
        timeout_s: longest wait for another rank, in seconds.

    Returns:
        ``array`` itself.

    Raises:
        ConfigError: as :func:`allreduce`, or a root that is not a rank.
        Timeout: a rank did not take part.
    """
    ctx = context.init()
    view, dtype = _memory(array)
    ctx.native.broadcast(ctx.group_transport, view, root, dtype=dtype, timeout_s=timeout_s)
    return array


def barrier(*, timeout_s: float = 300.0) -> None:
    """Return when every rank of this role has called it.

    Raises:
        Timeout: a rank did not come within ``timeout_s`` seconds.
    """
    ctx = context.init()
    ctx.native.barrier(ctx.group_transport, timeout_s=timeout_s)


def _memory(array: Any) -> tuple[Array, str | None]:
    """A NumPy view of the array's memory and, where NumPy lacks the type, its name."""
    if isinstance(array, np.ndarray):
        return array, None
    if hasattr(array, "__cuda_array_interface__"):
        raise ConfigError(
            "arrays in GPU memory cannot be reduced yet; copy to the host first (array.get(), "
            "tensor.cpu())."
        )
    if type(array).__module__.partition(".")[0] == "torch" and str(array.dtype) == "torch.bfloat16":
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
