"""A GPU as the checks of gpu_laws.py use it, and what they count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mpi4py
import numpy as np

mpi4py.rc.initialize = False  # its library is loaded, but MPI does not start

from mpimlsys import native  # noqa: E402

GUARD_BYTES = 64
GUARD = 0x3C
TIMEOUT_S = 60.0


@dataclass
class Report:
    """How often a law was looked at, at what last, and where it did not hold."""

    checked: int = 0
    last: str = ""
    failures: list[str] = field(default_factory=list)

    def check(self, holds: bool, what: str) -> None:
        """Count one look."""
        self.checked += 1
        self.last = what
        if not holds:
            self.failures.append(what)


@dataclass
class Placed:
    """An array on the device; ``block`` keeps its memory."""

    block: Any
    address: int
    dtype: np.dtype[Any]
    count: int
    room: int  # bytes from `address` to the guard


class Card:
    """A GPU, a stream of it, and where its memory comes from.

    Args:
        gpu: a :class:`mpimlsys.device.Gpu`.
        allocate: gives memory of so many bytes, an object with an ``address``.
    """

    def __init__(self, gpu: Any, allocate: Callable[[int], Any]) -> None:
        self.gpu = gpu
        self.device = gpu.native
        self.allocate = allocate
        self.extension = native.load()
        self.stream = self.device.make_stream()

    def put(self, values: Any, shift: int = 0, room: int = 0) -> Placed:
        """Copy an array to the device, ``shift`` elements behind the start of an allocation."""
        before = shift * values.itemsize
        room = max(room, values.nbytes)
        image = np.full(before + room + GUARD_BYTES, GUARD, np.uint8)
        image[before : before + values.nbytes] = values.view(np.uint8).reshape(-1)
        block = self.allocate(image.nbytes)
        self.device.copy(block.address, image.ctypes.data, image.nbytes, stream=self.stream)
        self.finish(self.stream)
        return Placed(block, block.address + before, values.dtype, values.size, room)

    def get(self, placed: Placed) -> tuple[Any, bool]:
        """The array, and whether nothing was written behind it."""
        image = np.empty(placed.room + GUARD_BYTES, np.uint8)
        self.device.copy(image.ctypes.data, placed.address, image.nbytes, stream=self.stream)
        self.finish(self.stream)
        length = placed.count * placed.dtype.itemsize
        values = image[:length].view(placed.dtype)
        return values, bool((image[placed.room :] == GUARD).all())

    def room_for_frame(self, spec: Any, count: int) -> Placed:
        """Room for a frame; up to the next multiple of 4 it may be written to."""
        bound = self.extension.frame_bound(spec, count)
        return self.put(np.full(bound, GUARD, np.uint8), room=-(-bound // 4) * 4)

    def finish(self, stream: int) -> None:
        with self.gpu.event() as event:
            self.device.record(event, stream)
            self.gpu.wait(event, TIMEOUT_S, "a check's work")
