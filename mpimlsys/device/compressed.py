"""Sums of a GPU's array of which parts are compressed, and the rest travels as it is."""

from __future__ import annotations

from collections.abc import Sequence

from mpimlsys.device.agreement import Agreement
from mpimlsys.device.arrays import View
from mpimlsys.device.calls import Reduction
from mpimlsys.device.compressor import GpuCompressor
from mpimlsys.device.frames import Frames
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import pack
from mpimlsys.device.passage import Request
from mpimlsys.device.reductions import Reductions


class Compressed:
    """Of one queue; everything is in the order of its stream.

    Args:
        gpu: of this process.
        agreement: of the ranks.
        frames: of the parts that are compressed.
        reductions: of the others.
        size: number of ranks.
        stream: of the GPU.
    """

    def __init__(
        self,
        gpu: Gpu,
        agreement: Agreement,
        frames: Frames,
        reductions: Reductions,
        size: int,
        stream: int,
    ) -> None:
        self._gpu, self._agreement, self._frames = gpu, agreement, frames
        self._reductions, self._size, self._stream = reductions, size, stream

    def all_reduce(self, view: View, memory: GpuCompressor, request: Request) -> None:
        """Sum float32 in place."""
        if view.dtype != "float32" or view.size != memory.count:
            self._agreement.refuse(
                f"passed {view.size} elements of {view.dtype} where the compression is for "
                f"{memory.count} of float32",
                request.label,
                request.timeout_s,
            )
        if self._size == 1:
            memory.carry_on(view.address, memory.count)
            return
        if request.check:
            self._frames.compare(memory, request)
        if not memory.reserved:
            what = "memory for what compression keeps"
            self._agreement.make(memory.reserve, what, request.label, request.timeout_s)
            memory.reserved = True
        if memory.compressed == memory.count:
            self._frames.all_reduce(view.address, memory, request)
            return
        packed = memory.packed()
        places = [
            (view.address + start * view.itemsize, length * view.itemsize)
            for start, length in pieces_of(memory.parts, memory.count)
        ]
        pack(self._gpu, packed.address, places, self._stream)
        if memory.compressed:
            self._frames.all_reduce(packed.address, memory, request)
        others = View(
            packed.address + memory.compressed * view.itemsize,
            (memory.count - memory.compressed,),
            view.dtype,
            view.itemsize,
            self._stream,
        )
        how = Reduction(request.label, request.timeout_s, op="sum", check=False)
        self._reductions.all_reduce(others, how)
        memory.carry_on(others.address, others.size)
        pack(self._gpu, packed.address, places, self._stream, back=True)

    def close(self) -> None:
        """Give memory back."""
        self._frames.close()


def pieces_of(parts: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """(start, length) of what is compressed, then of what is not."""
    ends = [0, *(start + length for start, length in parts)]
    starts = [*(start for start, _ in parts), count]
    gaps = [(end, start - end) for end, start in zip(ends, starts, strict=True) if start > end]
    return [*parts, *gaps]
