"""How frames pass between a GPU and the ranks: through the host, which checks what comes.

Every rank of the queue calls the same, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import Memory, Pinned
from mpimlsys.errors import CorruptData
from mpimlsys.network import Blocking
from mpimlsys.types import Array

_HEADER = 32
_LENGTH = slice(24, 32)  # of the payload, in a header
_ALIGNED = 64  # bytes, of the start of a frame


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        spec: of the extension.
        step: of the training, for codecs that draw.
        measure: whether the error is wanted.
        label, check, timeout_s: as for other operations.
    """

    spec: Any
    step: int
    measure: bool
    label: str
    check: bool
    timeout_s: float


def frame_bytes(frame: Array) -> int:
    """How long a frame that begins here says it is."""
    return _HEADER + int(frame[_LENGTH].view(np.uint64)[0])


class Passage:
    """Memory for frames, and the ranks that exchange them.

    Args:
        gpu: of this process.
        native: the extension of the host, which checks frames.
        ranks: what they do together.
        rank, size: of the process set.
        stream: of the GPU, for everything here.

    Attributes:
        gpu, native, rank, size, stream: as given.
    """

    def __init__(
        self, gpu: Gpu, native: Any, ranks: Blocking, rank: int, size: int, stream: int
    ) -> None:
        self.gpu, self.native, self.stream = gpu, native, stream
        self.rank, self.size = rank, size
        self._ranks = ranks
        self._host = Pinned(gpu)
        self._device = Memory(gpu, 0, stream)
        self._left = gpu.native.make_event()  # what was in the host's memory before
        gpu.native.record(self._left, stream)

    def close(self) -> None:
        """Give memory back."""
        self._host.close()
        self.gpu.native.drop_event(self._left)

    def places(self, spec: Any, lengths: list[int]) -> tuple[list[int], int]:
        """Addresses for frames of arrays so long, for the next operations; bytes of all."""
        starts, at = [], 0
        for length in lengths:
            starts.append(at)
            bound = self.native.frame_bound(spec, length) + 3
            at += -(-bound // _ALIGNED) * _ALIGNED
        base = self._room(at)
        return [base + start for start in starts], at

    def to_host(self, spec: Any, lengths: list[int], request: Request) -> list[Array]:
        """The frames that were made in the ``places`` of these arrays."""
        addresses, room = self.places(spec, lengths)
        host = self.fetch(addresses[0], room, request)
        frames = []
        for address, length in zip(addresses, lengths, strict=True):
            start = address - addresses[0]
            told = frame_bytes(host[start:])
            bound = self.native.frame_bound(spec, length)
            frames.append(host[start : start + min(told, bound)])
        return frames

    def fetch(self, address: int, nbytes: int, request: Request) -> Array:
        """Bytes of the GPU, until the next frames come here."""
        host = self._pinned(nbytes, request)
        with self.gpu.event() as copied:
            self.gpu.native.copy(host.ctypes.data, address, nbytes, stream=self.stream)
            self.gpu.native.record(copied, self.stream)
            self.gpu.wait(copied, request.timeout_s, "encoding")
        return host

    def to_gpu(self, frames: list[Array], request: Request) -> list[tuple[int, int]]:
        """Address and bytes of frames on the GPU, for the next operations."""
        starts, at = [], 0
        for frame in frames:
            starts.append(at)
            at += -(-len(frame) // _ALIGNED) * _ALIGNED
        host = self._pinned(at, request)
        for frame, start in zip(frames, starts, strict=True):
            host[start : start + len(frame)] = frame
        native = self.gpu.native
        device = self._room(at)
        native.copy(device, host.ctypes.data, at, stream=self.stream)
        native.record(self._left, self.stream)
        return [(device + start, len(frame)) for start, frame in zip(starts, frames, strict=True)]

    def gathered(self, mine: Array, counts: list[int], request: Request) -> list[Array]:
        """Every rank's frame, of so many elements."""
        parts = self._ranks.gather_parts(mine, label=request.label, timeout_s=request.timeout_s)
        return self._checked(parts, counts, request)

    def exchanged(self, frames: list[Array], count: int, request: Request) -> list[Array]:
        """Frame r to rank r; what every rank has sent to this one, of so many elements."""
        return self._to_all(frames, [count] * self.size, request)

    def passed_on(self, frame: Array, count: int, request: Request) -> Array:
        """To the next rank; that of the rank before, of so many elements."""
        nothing: Array = np.empty(0, np.uint8)
        frames = [nothing] * self.size
        counts: list[int | None] = [None] * self.size
        before = (self.rank - 1) % self.size
        frames[(self.rank + 1) % self.size], counts[before] = frame, count
        return self._to_all(frames, counts, request)[before]

    def _to_all(
        self, frames: list[Array], counts: Sequence[int | None], request: Request
    ) -> list[Array]:
        parts = self._ranks.all_to_all(
            np.concatenate(frames),
            [len(frame) for frame in frames],
            label=request.label,
            timeout_s=request.timeout_s,
        )
        return self._checked(parts, counts, request)

    def _checked(self, parts: Any, counts: Sequence[int | None], request: Request) -> list[Array]:
        """What came from each rank: a frame of so many elements, or none."""
        frames = np.split(parts.data, np.cumsum(parts.lengths)[:-1])
        for rank, (frame, count) in enumerate(zip(frames, counts, strict=True)):
            if count is None:
                continue
            try:
                self.native.check_frame(frame, request.spec, count)
            except CorruptData as error:
                raise CorruptData(f"from rank {rank}: {error}") from error
        return frames

    def _pinned(self, nbytes: int, request: Request) -> Array:
        """Host memory that nothing on the stream uses any more."""
        self.gpu.wait(self._left, request.timeout_s, "copying frames")
        return self._host.take(nbytes)

    def _room(self, nbytes: int) -> int:
        """GPU memory that the next operations on the stream may write to."""
        if self._device.nbytes < nbytes:
            self._device = Memory(self.gpu, nbytes, self.stream)
        return self._device.address
