"""What ``compress = "auto"`` has to know: steps, the link, and the codecs on this machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from mpimlsys.compress.auto import CANDIDATES, Speed
from mpimlsys.compress.codec import Codec
from mpimlsys.context import Context
from mpimlsys.types import Array

SAMPLE = 1 << 18  # elements: 1 MiB
_SMALL = 1 << 12  # 16 KiB, which a link's latency dominates
_REPEATS = 3


class Measures(ABC):
    """What depends on where gradients are.

    Attributes:
        busy: coding delays computing.
    """

    busy: bool

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    @abstractmethod
    def mark(self) -> Any:
        """Now, as :meth:`seconds` takes it."""

    @abstractmethod
    def seconds(self, start: Any, end: Any) -> float:
        """From one mark to another."""

    @abstractmethod
    def zeros(self, count: int) -> Any:
        """An array of float32 that lies as the gradient's do."""

    @abstractmethod
    def reduce(self, array: Any) -> None:
        """All-reduce it as the job would. Collective."""

    @abstractmethod
    def speed(self, spec: Any, gradient: Any) -> Speed:
        """A codec on a sample of a gradient. Local."""

    def dense(self, counts: Sequence[int]) -> dict[int, float]:
        """Seconds of an all-reduce of so many elements. Collective.

        Beyond 1 MiB the time is taken to grow with the size.
        """
        times = {}
        for count in sorted(set(counts)):
            took_s = self.least(self.reduce, self.zeros(min(count, SAMPLE)))
            times[count] = took_s * max(1.0, count / SAMPLE)
        return times

    def speeds(self, gradient: Any) -> dict[Codec, Speed]:
        """The candidates. Local."""
        native = self._ctx.native
        return {codec: self.speed(codec.native(native), gradient) for codec in CANDIDATES}

    def least(self, work: Callable[..., object], *arguments: object) -> float:
        """The shortest time of a few, in seconds."""
        times = []
        for _ in range(_REPEATS):
            started = self.mark()
            work(*arguments)
            times.append(self.seconds(started, self.mark()))
        return min(times)


class HostMeasures(Measures):
    """Of gradients in the host's memory."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self.busy = ctx.cores <= 1

    def mark(self) -> float:
        """See the base class."""
        return perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """See the base class."""
        return end - start

    def zeros(self, count: int) -> Array:
        """See the base class."""
        array = self._ctx.empty(count, np.float32)
        array[...] = 0
        return array

    def reduce(self, array: Array) -> None:
        """See the base class."""
        self._reduce(array, self._ctx.comm.algorithm)

    def speed(self, spec: Any, gradient: Array) -> Speed:
        """See the base class."""
        native = self._ctx.native
        x = np.ascontiguousarray(gradient[:SAMPLE])
        into = np.zeros_like(x)
        frame = np.empty(native.frame_bound(spec, x.size), np.uint8)
        length = native.encode_into(spec, x, frame)
        encode_s = self.least(native.encode_into, spec, x, frame)
        decode_s = self.least(native.add_into, frame[:length], 1.0, into)
        return Speed(encode_s / x.size, decode_s / x.size, length / x.size)

    def link(self) -> tuple[float, float]:
        """Seconds of a message and seconds per byte, from a ring of two sizes. Collective."""
        size = self._ctx.group.size
        steps = 2 * (size - 1)
        small_s, large_s = (
            self.least(self._reduce, np.zeros(count, np.float32), "ring")
            for count in (_SMALL, SAMPLE)
        )
        moved = steps / size * 4 * (SAMPLE - _SMALL)
        return small_s / steps, max(large_s - small_s, 0.0) / moved

    def _reduce(self, array: Array, algorithm: str) -> None:
        ctx = self._ctx
        ctx.native.all_reduce(
            ctx.peers.transport, array, algorithm=algorithm, timeout_s=ctx.timeout_s
        )
