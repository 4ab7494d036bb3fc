"""Collectives that combine a GPU's arrays: what ranks compare, and which way they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mpimlsys.device.agreement import Agreement, Refused
from mpimlsys.device.arrays import View
from mpimlsys.device.calls import Reduction
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import Memory, pack
from mpimlsys.device.plans import fused
from mpimlsys.device.ways import Ways
from mpimlsys.errors import nearest

_IN_MEMORY = ("auto", "shared", "hierarchical")
_OPS = ("sum", "average", "min", "max", "product")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


class Reductions:
    """Of one queue; everything is in the order of its stream.

    Args:
        gpu: of this process.
        agreement: of the ranks.
        ways: to them.
        size: number of ranks.
        stream: of the GPU.
    """

    def __init__(self, gpu: Gpu, agreement: Agreement, ways: Ways, size: int, stream: int) -> None:
        self._gpu, self._agreement, self._ways = gpu, agreement, ways
        self._size, self._stream = size, stream
        self._fused = Memory(gpu, 0)

    def all_reduce(self, view: View, how: Reduction, arrivals: int | None = None) -> bool:
        """Combine an array in place.

        Args:
            view: of the array.
            how: what is asked for.
            arrivals: a stream that waits for what the array waits for, and for nothing that peers
                do; that of the queue unless given.

        Returns:
            Whether peers did all of it, in their memory.
        """
        if self._size == 1:
            return False
        if how.check:
            self._compare(f"reduces {view.size} elements", view.dtype, how)
        return self._reduce(view, how, arrivals)

    def grouped_all_reduce(self, views: Sequence[View], how: Reduction, fusion_bytes: int) -> None:
        """Combine arrays of one dtype in place; small neighbours in one piece."""
        if self._size == 1 or not views:
            return
        sizes = " and ".join(str(view.size) for view in views)
        dtypes = " and ".join(sorted({view.dtype for view in views}))
        what = f"reduces {sizes} elements, in pieces of {fusion_bytes} bytes,"
        self._compare(what, dtypes, how)
        groups = fused([view.nbytes for view in views], fusion_bytes)
        if any(len(group) > 1 for group in groups) and self._fused.nbytes < fusion_bytes:
            make, what = partial(Memory, self._gpu, fusion_bytes), "memory to fuse arrays in"
            self._fused = self._agreement.make(make, what, how.label, how.timeout_s)
        for group in groups:
            if len(group) == 1:
                self._reduce(views[group[0]], how)
            else:
                self._reduce_fused([views[index] for index in group], how)

    def reduce_scatter(self, view: View, how: Reduction) -> None:
        """Combine an array and leave each rank its rows; the others are undefined."""
        if self._size == 1:
            return
        rows = view.shape[0]
        row = view.size // max(rows, 1)
        self._compare(f"scatters {rows} rows of {row} elements", view.dtype, how)
        if view.size == 0:
            return
        peers = self._ways.peers
        if peers is None or not peers.all_reduce(view, how, self._stream, self._stream):
            self._ways.staged.reduce_scatter(view, how)

    def _compare(self, what: str, dtype: str, how: Reduction) -> None:
        """Refuse, on all ranks alike, what is not the same or cannot be."""
        call = f"{what} of {dtype} by {how.op} (algorithm {how.algorithm}, order {how.order})"
        self._agreement.compare(call, how.label, how.timeout_s)
        if how.op not in _OPS:
            raise Refused(f"no operation is called {how.op!r}.{nearest(how.op, _OPS)}")
        if dtype not in (*_FLOATS, *_INTEGERS):
            raise Refused(f"arrays of {dtype} cannot be combined.")
        if how.op == "average" and dtype not in _FLOATS:
            raise Refused(f"an average of {dtype} is not defined; use op='sum'.")

    def _reduce(self, view: View, how: Reduction, arrivals: int | None = None) -> bool:
        """Whether peers did it."""
        if view.size == 0:
            return False
        direct, peers = self._ways.direct, self._ways.peers
        if how.algorithm == "mpi" and direct is not None and direct.can(view, how):
            direct.all_reduce(view, how, self._gpu, self._stream)
            return False
        if how.algorithm not in _IN_MEMORY:
            peers = None
        arrived = self._stream if arrivals is None else arrivals
        if peers is not None and peers.all_reduce(view, how, self._stream, arrived):
            return True
        self._ways.staged.all_reduce(view, how)
        return False

    def _reduce_fused(self, views: Sequence[View], how: Reduction) -> None:
        packed = self._fused.address
        places = [(view.address, view.nbytes) for view in views]
        pack(self._gpu, packed, places, self._stream)
        size = sum(view.size for view in views)
        self._reduce(replace(views[0], address=packed, shape=(size,)), how)
        pack(self._gpu, packed, places, self._stream, back=True)
