"""PowerSGD of a GPU's array: two sums of small factors, see csrc/comm/frames_factors.cpp.

Products with the matrices are made on the GPU. The factors are added up on the host, where their
columns are also made orthonormal, so that all ranks have the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpimlsys.device.compressor import GpuCompressor
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import Memory, Pinned
from mpimlsys.device.passage import Request
from mpimlsys.network import Blocking

_FLOAT = 4  # bytes


class Factors:
    """Memory for the factors, and the ranks that add them up.

    Args:
        gpu: of this process.
        native: the extension of the host.
        ranks: what they do together.
        stream: of the GPU, for everything here.
    """

    def __init__(self, gpu: Gpu, native: Any, ranks: Blocking, stream: int) -> None:
        self._gpu, self._native, self._ranks, self._stream = gpu, native, ranks, stream
        self._host = Pinned(gpu)
        self._p = Memory(gpu, 0, stream)

    def all_reduce(
        self, y: int, out: int, memory: GpuCompressor, request: Request, key: int
    ) -> None:
        """Put what the factors of all ranks' sum say into ``out``.

        Args:
            y: address of what this rank has to send; with ``classic``, of its residual. What was
                sent is taken from it there, and where it is measured.
            out: address of the sum; with ``ef21`` the estimate, to which it is added.
            memory: of the array; keeps Q.
            request: what is asked for; its codec says the rank of the approximation.
            key: what Q is drawn with at first.
        """
        native = self._gpu.native
        rank, label, timeout_s = int(request.spec.amount), request.label, request.timeout_s
        shapes = shapes_of(memory.matrices, rank)
        p_count = sum(rows * own for _, rows, _, own in shapes)
        q_count = sum(cols * own for _, _, cols, own in shapes)
        fresh = memory.has("basis") != q_count
        q = memory.kept("basis", q_count)
        if fresh:
            host = self._host.take(q_count * _FLOAT).view(np.float32)
            host[:] = self._native.draw_basis(q_count, key)
            self._copy(q, host.ctypes.data, q_count, timeout_s)
        if self._p.nbytes < p_count * _FLOAT:
            self._p = Memory(self._gpu, p_count * _FLOAT, self._stream)
        p = self._p.address
        for start, rows, cols, own, p_at, q_at in places_of(shapes, p, q):
            m = y + start * _FLOAT
            native.multiply_q(rows, cols, own, m, q_at, p_at, stream=self._stream)
        self._add_up(p, p_count, label, timeout_s, orthonormal=(memory, rank))
        for start, rows, cols, own, p_at, q_at in places_of(shapes, p, q):
            m = y + start * _FLOAT
            native.multiply_p(rows, cols, own, m, p_at, q_at, stream=self._stream)
            if memory.feedback == "classic" or (memory.feedback == "ef21" and request.measure):
                native.expand(rows, cols, own, p_at, q_at, m, stream=self._stream, factor=-1.0)
            if memory.feedback == "ef21":
                kept = memory.kept("residual", memory.compressed) + start * _FLOAT
                native.expand(rows, cols, own, p_at, q_at, kept, stream=self._stream, factor=1.0)
        self._add_up(q, q_count, label, timeout_s)
        factor = 1.0 if memory.feedback == "ef21" else None
        for start, rows, cols, own, p_at, q_at in places_of(shapes, p, q):
            into = out + start * _FLOAT
            native.expand(rows, cols, own, p_at, q_at, into, stream=self._stream, factor=factor)

    def close(self) -> None:
        """Give memory back."""
        self._host.close()

    def _add_up(
        self,
        address: int,
        count: int,
        label: str,
        timeout_s: float,
        orthonormal: tuple[GpuCompressor, int] | None = None,
    ) -> None:
        """The sum over the ranks in the place of a factor; of P with orthonormal columns."""
        host = self._host.take(count * _FLOAT).view(np.float32)
        self._copy(host.ctypes.data, address, count, timeout_s)
        self._ranks.all_reduce(host, "sum", label=label, timeout_s=timeout_s)
        if orthonormal is not None:
            memory, rank = orthonormal
            self._native.orthonormalise(list(memory.matrices), rank, host)
        self._copy(address, host.ctypes.data, count, timeout_s)

    def _copy(self, into: int, source: int, count: int, timeout_s: float) -> None:
        native = self._gpu.native
        with self._gpu.event() as copied:
            native.copy(into, source, count * _FLOAT, stream=self._stream)
            native.record(copied, self._stream)
            self._gpu.wait(copied, timeout_s, "copying factors")


Shape = tuple[int, int, int, int]  # start, rows, columns, rank


def shapes_of(matrices: tuple[tuple[int, int, int], ...], rank: int) -> list[Shape]:
    """Each matrix with the rank that it is approximated with; vectors are no part of it."""
    return [
        (start, rows, cols, min(rank, rows, cols))
        for start, rows, cols in matrices
        if rows > 1 and cols > 1
    ]


def places_of(shapes: list[Shape], p: int, q: int) -> list[tuple[int, int, int, int, int, int]]:
    """The same with the addresses of its P and Q, which follow one another."""
    found = []
    for start, rows, cols, own in shapes:
        found.append((start, rows, cols, own, p, q))
        p += rows * own * _FLOAT
        q += cols * own * _FLOAT
    return found
