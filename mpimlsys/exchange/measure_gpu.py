"""The same of gradients in a GPU's memory: times are those of its work, not of the launches."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from mpimlsys.compress.auto import Speed
from mpimlsys.context import Context
from mpimlsys.device import Gpu, Queue, gpu_of, view
from mpimlsys.device.memory import Memory, Pinned
from mpimlsys.device.passage import frame_bytes
from mpimlsys.exchange.measure import SAMPLE, Measures
from mpimlsys.kernels.arrays import namespace
from mpimlsys.types import Array

_FLOAT = 4  # bytes


class Mark:
    """A place in the order of a stream's work."""

    def __init__(self, gpu: Gpu, stream: int) -> None:
        self.event = int(gpu.native.make_event(timed=True))
        gpu.native.record(self.event, stream)
        finalizer = weakref.finalize(self, gpu.native.drop_event, self.event)
        finalizer.atexit = False  # a process gives all back when it ends


class GpuMeasures(Measures):
    """Of gradients in a GPU's memory.

    Args:
        ctx: of the ranks.
        queue: that sums them.
        gradient: one of them.
    """

    busy = True  # kernels of codecs take the processors from those that compute

    def __init__(self, ctx: Context, queue: Queue, gradient: Array) -> None:
        super().__init__(ctx)
        self._gpu, self._queue, self._gradient = gpu_of(ctx, gradient), queue, gradient

    def mark(self) -> Mark:
        """See the base class; on the stream that the caller computes on."""
        return Mark(self._gpu, view(self._gradient).stream)

    def seconds(self, start: Mark, end: Mark) -> float:
        """See the base class; waits for the GPU."""
        self._gpu.wait(end.event, self._ctx.timeout_s, "what is timed")
        return float(self._gpu.native.seconds_between(start.event, end.event))

    def zeros(self, count: int) -> Array:
        """See the base class."""
        zeros: Array = namespace(self._gradient).zeros(count, np.float32)
        return zeros

    def reduce(self, array: Array) -> None:
        """See the base class."""
        timeout_s = self._ctx.timeout_s
        ticket = self._queue.all_reduce(
            array,
            label="a measurement",
            algorithm=self._ctx.comm.algorithm,
            order=self._ctx.comm.order,
            timeout_s=timeout_s,
        )
        self._queue.wait(ticket, timeout_s)

    def speed(self, spec: Any, gradient: Array) -> Speed:
        """See the base class; with the way of a frame to the host, and back."""
        native, x = self._gpu.native, view(gradient)
        count, stream = min(x.size, SAMPLE), x.stream
        bound = self._ctx.native.frame_bound(spec, count)
        frame = Memory(self._gpu, bound + 3, stream)
        into = Memory(self._gpu, count * _FLOAT, stream)
        pinned = Pinned(self._gpu)
        host = pinned.take(bound)

        def encode() -> None:
            native.encode(spec, x.address, count, frame.address, stream=stream)
            native.copy(host.ctypes.data, frame.address, bound, stream=stream)

        def decode() -> None:
            native.copy(frame.address, host.ctypes.data, length, stream=stream)
            native.add(spec, count, [(frame.address, length)], into.address, stream=stream)

        encode_s = self.least(encode)
        length = min(frame_bytes(host), bound)
        decode_s = self.least(decode)
        pinned.close()
        return Speed(encode_s / count, decode_s / count, length / count)
