"""Memory that the package owns: on a GPU, and pinned on the host."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Iterable

import numpy as np

from mpimlsys.device.gpu import Gpu
from mpimlsys.types import Array


class Memory:
    """Bytes on a GPU, zeros at first; given back when nobody holds them any more.

    Args:
        gpu: whose.
        nbytes: how many.
        stream: whose operations alone use them; without one they are zeros at once, for all
            streams and processes, and the GPU is waited for.

    Attributes:
        address: a multiple of 256.
        nbytes: how many.
    """

    def __init__(self, gpu: Gpu, nbytes: int, stream: int | None = None) -> None:
        self.nbytes = nbytes
        self.address = int(gpu.native.allocate(nbytes, stream=stream))
        finalizer = weakref.finalize(self, gpu.native.release, self.address, stream=stream)
        finalizer.atexit = False  # a process gives all back when it ends


class Pinned:
    """Host memory that copies to and from a GPU need no detour for; grows as it is asked for."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._memory: Array = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> Array:
        """(nbytes,) uint8, not initialised; what was taken before is given up."""
        if self._memory.nbytes < nbytes:
            self.close()
            # pages of its own: none may be pinned twice
            self._memory = np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
            self._gpu.native.pin(self._memory.ctypes.data, nbytes)
        return self._memory[:nbytes]

    def close(self) -> None:
        """Give it back."""
        if self._memory.nbytes:
            self._gpu.native.unpin(self._memory.ctypes.data)
        self._memory = np.empty(0, np.uint8)


def pack(
    gpu: Gpu, packed: int, places: Iterable[tuple[int, int]], stream: int, *, back: bool = False
) -> None:
    """Copy what is in many places to one, one after the other; or back to them.

    Args:
        gpu: of this process.
        packed: address of the one place, of the GPU or of pinned memory.
        places: (address, bytes) of the many.
        stream: whose operations the copies are.
        back: from the one place to the many.
    """
    for address, nbytes in places:
        into, source = (address, packed) if back else (packed, address)
        if nbytes:
            gpu.native.copy(into, source, nbytes, stream=stream)
        packed += nbytes
