"""Arrays that come out of operations: of the kind that went in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from mpimlsys.device.arrays import View, by_dlpack, is_tensor, view
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import Memory

_Shape = tuple[int, ...]


class Region:
    """A contiguous array that is neither CuPy's nor PyTorch's.

    ``cupy.asarray``, ``numba.cuda.as_cuda_array`` and others take it without a copy.

    Args:
        owner: of the memory, kept alive.
        address: in the memory of the GPU.
        shape: of the array.
        like: an array of the same dtype and stream.
    """

    def __init__(self, owner: Any, address: int, shape: _Shape, like: Any) -> None:
        self._owner = owner
        about = dict(like.__cuda_array_interface__)
        about.update(shape=shape, data=(address, False), strides=None)
        self.__cuda_array_interface__ = about
        self.dtype = getattr(like, "dtype", None)


class Result:
    """An array that an operation makes, like the one that it is given.

    Args:
        gpu: of this process.

    Attributes:
        array: what was made.
        counts: rows from each rank.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.array: Any = None
        self.counts: list[int] = []
        self._gpu = gpu

    def be_like(self, array: Any, place: View) -> None:
        """Note what is given, and the stream that is now the caller's."""
        self._make, self._stream = _maker(array, place, self._gpu), place.stream

    def make(self, shape: _Shape, stream: int) -> Any:
        """An array, on any thread; what comes on ``stream`` may use it."""
        array = self._make(shape)
        native = self._gpu.native
        with self._gpu.event() as there:  # what its memory was used for before is done
            native.record(there, self._stream)
            native.follow(stream, there)
        return array


def rows_of(array: Any, rows: slice) -> Any:
    """A view of some rows of an array."""
    if is_tensor(array):
        return array.detach()[rows]
    if not hasattr(array, "__cuda_array_interface__"):
        array = by_dlpack(array)
    if _is_cupy(array):
        return array[rows]
    place = view(array)
    row = place.nbytes // max(place.shape[0], 1)
    shape = (rows.stop - rows.start, *place.shape[1:])
    return Region(array, place.address + rows.start * row, shape, array)


def _maker(like: Any, place: View, gpu: Gpu) -> Callable[[_Shape], Any]:
    """What makes arrays for the stream that is now the caller's current one."""
    if is_tensor(like):

        def make_tensor(shape: _Shape) -> Any:
            with sys.modules["torch"].cuda.stream(place.keeper):
                return like.detach().new_empty(shape)

        return make_tensor
    if not hasattr(like, "__cuda_array_interface__"):
        like = by_dlpack(like)
    if _is_cupy(like):
        cupy = sys.modules["cupy"]

        def make_array(shape: _Shape) -> Any:
            with cupy.cuda.Device(gpu.number), place.keeper:
                return cupy.empty(shape, like.dtype)

        return make_array

    def make_region(shape: _Shape) -> Region:
        nbytes = View(0, shape, place.dtype, place.itemsize, place.stream).nbytes
        memory = Memory(gpu, nbytes, place.stream)
        return Region(memory, memory.address, shape, like)

    return make_region


def _is_cupy(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "cupy"
