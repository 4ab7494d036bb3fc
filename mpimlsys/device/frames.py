"""Compressed all-reduce of a GPU's array: frames are made and read on the GPU, and travel on the
host.

Two patterns, as csrc/comm/frames.cpp has them, with the same numbers:

    gather  every rank's frame to all; all decode all
    owners  every rank adds up a part, of which it gets a frame from each, and sends a frame of the
            sum to all

What comes is checked on the host before it goes to the GPU.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mpimlsys.device.agreement import STORY_S, Agreement
from mpimlsys.device.compressor import OWNERS, GpuCompressor
from mpimlsys.device.factors import Factors
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import Memory, Pinned
from mpimlsys.errors import CorruptData
from mpimlsys.kernels.codecs.random import key_of
from mpimlsys.types import Array

_FLOAT = 4  # bytes
_HEADER = 32
_LENGTH = slice(24, 32)  # of the payload, in a header
_ALIGNED = 64  # bytes, of the start of a frame
_WAIT_S = 300.0
_LATENCY_BOUND = 16 * 1024  # bytes of all frames that come, below which they go to all


@dataclass(frozen=True)
class Part:
    """Elements ``start`` to ``stop - 1``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        spec: of the extension.
        step: of the training, for codecs that draw.
        label, check, timeout_s: as for other operations.
    """

    spec: Any
    step: int
    label: str
    check: bool
    timeout_s: float


class Frames:
    """Host and GPU memory for frames, and the ranks that exchange them.

    Args:
        gpu: of this process.
        native: the extension of the host, which checks frames.
        engine: of the ranks.
        rank, size: of the process set.
        stream: of the GPU, for everything here.
    """

    def __init__(
        self, gpu: Gpu, native: Any, engine: Any, rank: int, size: int, stream: int
    ) -> None:
        self._gpu, self._native, self._engine = gpu, native, engine
        self._rank, self._size, self._stream = rank, size, stream
        self._host = Pinned(gpu)
        self._device = self._passing = Memory(gpu, 0, stream)
        self._factors = Factors(gpu, native, engine, stream)
        self._agreement = Agreement(engine, size)

    def all_reduce(self, x: int, memory: GpuCompressor, request: Request) -> None:
        """Put the sum of what all ranks send in the place of what is compressed.

        Args:
            x: address of ``memory.compressed`` float32, the compressed elements.
            memory: of the array.
            request: what is asked for.

        Raises:
            ConfigError: ranks mean different compressions; on all of them.
            CorruptData: a frame was damaged; names its rank.
        """
        if request.check:
            self._compare(memory, request)
        key = key_of(memory.seed, request.step)
        source = x
        if memory.momentum:
            source = memory.accumulate("velocity", x, memory.compressed)
        if memory.matrices:
            self._factorised(source, x, memory, request, key)
            return
        memory.sent_bytes = memory.messages = 0
        count = memory.compressed
        bound = self._native.frame_bound(request.spec, count)
        few = self._size <= 2 or (self._size - 1) * bound <= _LATENCY_BOUND
        if memory.feedback == "ef21":
            memory.kept("estimate", count)
        if memory.pattern == "gather" or (memory.pattern == "auto" and few):
            self._gather(source, x, memory, request, key)
        else:
            self._owners(source, x, memory, request, key)
        if memory.feedback == "ef21":
            estimate = memory.kept("estimate", count)
            self._gpu.native.copy(x, estimate, count * _FLOAT, stream=self._stream)

    def close(self) -> None:
        """Give memory back."""
        self._host.close()
        self._factors.close()

    def _factorised(
        self, source: int, x: int, memory: GpuCompressor, request: Request, key: int
    ) -> None:
        """PowerSGD: no frames."""
        native, count = self._gpu.native, memory.compressed
        self._divide(memory, None)
        y = out = x
        if memory.feedback == "classic":
            y = memory.kept("residual", count)
            native.reduce([y, source], [y], count, stream=self._stream, dtype="float32")
        elif memory.feedback == "ef21":
            out = memory.kept("estimate", count)
            if source != x:
                native.copy(x, source, count * _FLOAT, stream=self._stream)
            self._add(x, memory.kept("residual", count), count, -1.0)
        self._factors.all_reduce(
            y, out, memory, int(request.spec.amount), key, request.label, request.timeout_s
        )
        if memory.feedback == "ef21":
            native.copy(x, out, count * _FLOAT, stream=self._stream)

    def _gather(
        self, source: int, x: int, memory: GpuCompressor, request: Request, key: int
    ) -> None:
        whole = Part(0, memory.compressed)
        self._divide(memory, None)
        mine = self._encode([whole], source, memory, request, key_of(key, self._rank + 1))[0]
        came = self._gathered(mine, request)
        memory.messages = self._size - 1
        memory.sent_bytes = memory.messages * len(mine)
        self._check(came, [whole.length] * self._size, request)
        for peer, address in enumerate(self._to_gpu(came)):
            first = peer == 0
            self._deliver(address, len(came[peer]), whole, x, memory, request, first=first)

    def _owners(
        self, source: int, x: int, memory: GpuCompressor, request: Request, key: int
    ) -> None:
        native = self._gpu.native
        parts = parts_of(memory.compressed, max(request.spec.granule, 1), self._size)
        mine = parts[self._rank]
        self._divide(memory, max(request.spec.granule, 1))
        frames = self._encode(parts, source, memory, request, key_of(key, self._rank + 1))
        memory.messages = 2 * (self._size - 1)
        memory.sent_bytes = sum(len(frame) for frame in frames) - len(frames[self._rank])
        came = self._exchanged(frames, request)
        self._check(came, [mine.length] * self._size, request)
        if memory.feedback == "none":  # nothing is owned beyond this step
            if self._passing.nbytes < mine.length * _FLOAT:
                self._passing = Memory(self._gpu, mine.length * _FLOAT, self._stream)
            owned = self._passing.address
            native.zero(owned, mine.length * _FLOAT, stream=self._stream)
        else:
            owned = memory.kept("owned", mine.length)
        for address, frame in zip(self._to_gpu(came), came, strict=True):
            native.decode(
                request.spec,
                mine.length,
                address,
                len(frame),
                owned,
                stream=self._stream,
                factor=1.0,
            )
        own = self._encode_owned(owned, mine, memory, request, key)
        memory.sent_bytes += (self._size - 1) * len(own)
        sums = self._gathered(own, request)
        self._check(sums, [part.length for part in parts], request)
        for peer, address in enumerate(self._to_gpu(sums)):
            if memory.feedback == "ef21" and peer == self._rank:
                continue  # what it was told is what it told
            self._deliver(address, len(sums[peer]), parts[peer], x, memory, request, first=True)

    def _encode(
        self, parts: list[Part], x: int, memory: GpuCompressor, request: Request, key: int
    ) -> list[Array]:
        """Frames of parts of what this rank has to send, on the host."""
        kept = memory.kept("residual", memory.compressed) if memory.feedback != "none" else 0
        starts, room = self._places([part.length for part in parts], request)
        frames = self._room(room)
        for part, start in zip(parts, starts, strict=True):
            self._gpu.native.encode(
                request.spec,
                x + part.start * _FLOAT,
                part.length,
                frames + start,
                stream=self._stream,
                feedback=memory.feedback,
                kept=kept + part.start * _FLOAT if kept else 0,
                key=key,
                first=part.start,
            )
            if memory.momentum and memory.feedback == "classic" and request.spec.sparse:
                self._gpu.native.clear(
                    request.spec,
                    part.length,
                    frames + start,
                    room - start,
                    memory.kept("velocity", memory.compressed) + part.start * _FLOAT,
                    stream=self._stream,
                )
        return self._to_host(starts, room, [part.length for part in parts], request)

    def _encode_owned(
        self, owned: int, mine: Part, memory: GpuCompressor, request: Request, key: int
    ) -> Array:
        """A frame of the sum; what is kept of it is then what the frame left out."""
        native = self._gpu.native
        starts, room = self._places([mine.length], request)
        frame = self._room(room)
        told = 0
        if memory.feedback == "ef21":  # the difference to what was told so far
            told = memory.kept("estimate", memory.compressed) + mine.start * _FLOAT
        native.encode(
            request.spec,
            owned,
            mine.length,
            frame,
            stream=self._stream,
            feedback="ef21" if told else "none",
            kept=told,
            key=key_of(key, self._size + self._rank + 1),
            first=0,
        )
        if memory.feedback == "classic":
            native.decode(
                request.spec, mine.length, frame, room, owned, stream=self._stream, factor=-1.0
            )
        return self._to_host(starts, room, [mine.length], request)[0]

    def _deliver(
        self,
        frame: int,
        nbytes: int,
        part: Part,
        x: int,
        memory: GpuCompressor,
        request: Request,
        *,
        first: bool,
    ) -> None:
        into, factor = x, None if first else 1.0
        if memory.feedback == "ef21":
            into, factor = memory.kept("estimate", memory.compressed), 1.0
        self._gpu.native.decode(
            request.spec,
            part.length,
            frame,
            nbytes,
            into + part.start * _FLOAT,
            stream=self._stream,
            factor=factor,
        )

    def _divide(self, memory: GpuCompressor, granule: int | None) -> None:
        """Take back what was owned where the next step cuts the array in another way."""
        if memory.feedback == "none":
            return
        cut = (OWNERS, granule) if granule else (0, 1)
        before, count = memory.cut or (0, 1), memory.compressed
        length = parts_of(count, granule, self._size)[self._rank].length if granule else 0
        if before == cut and memory.has("owned") == length:
            return
        native = self._gpu.native
        if before[0] == OWNERS:
            part = parts_of(count, before[1], self._size)[self._rank]
            if memory.has("owned") == part.length > 0:
                self._take_back(memory, part)
        owned = memory.kept("owned", length)
        native.zero(owned, length * _FLOAT, stream=self._stream)
        if memory.feedback == "ef21" and granule:
            start = parts_of(count, granule, self._size)[self._rank].start
            estimate = memory.kept("estimate", count) + start * _FLOAT
            native.copy(owned, estimate, length * _FLOAT, stream=self._stream)
        memory.cut = cut

    def _take_back(self, memory: GpuCompressor, part: Part) -> None:
        """Classic: what was owned is this rank's own again. ef21: so is its gap to what was told,
        as if the rank's h were smaller by it."""
        owned = memory.kept("owned", part.length)
        place = part.start * _FLOAT
        if memory.feedback == "classic":
            residual = memory.kept("residual", memory.compressed) + place
            self._add(residual, owned, part.length)
            return
        self._add(memory.kept("residual", memory.compressed) + place, owned, part.length, -1.0)
        estimate = memory.kept("estimate", memory.compressed) + place
        self._add(memory.kept("residual", memory.compressed) + place, estimate, part.length)

    def _add(self, into: int, source: int, count: int, factor: float = 1.0) -> None:
        """``into += factor * source``, as a frame of float32 is added."""
        native, stream = self._gpu.native, self._stream
        room = _HEADER + count * _FLOAT
        frame = self._room(room)
        native.copy(frame + _HEADER, source, count * _FLOAT, stream=stream)
        spec = self._native.Spec("none")
        native.decode(spec, count, frame, room, into, stream=stream, factor=factor)

    def _places(self, lengths: list[int], request: Request) -> tuple[list[int], int]:
        """Where frames of these arrays start in memory for all of them, and its bytes."""
        starts, at = [], 0
        for length in lengths:
            starts.append(at)
            bound = self._native.frame_bound(request.spec, length) + 3
            at += -(-bound // _ALIGNED) * _ALIGNED
        return starts, at

    def _room(self, nbytes: int) -> int:
        """GPU memory that the next operations on the stream may write to."""
        if self._device.nbytes < nbytes:
            self._device = Memory(self._gpu, nbytes, self._stream)
        return self._device.address

    def _to_host(
        self, starts: list[int], room: int, lengths: list[int], request: Request
    ) -> list[Array]:
        host = self._host.take(room)
        native = self._gpu.native
        with self._gpu.event() as copied:
            native.copy(host.ctypes.data, self._device.address, room, stream=self._stream)
            native.record(copied, self._stream)
            self._gpu.wait(copied, request.timeout_s, "encoding")
        frames = []
        for start, length in zip(starts, lengths, strict=True):
            bound = self._native.frame_bound(request.spec, length)
            told = int(host[start:][_LENGTH].view(np.uint64)[0])
            frames.append(host[start : start + min(_HEADER + told, bound)])
        return frames

    def _to_gpu(self, frames: list[Array]) -> list[int]:
        """Addresses of frames on the GPU, through pinned memory; for the next operations."""
        starts, at = [], 0
        for frame in frames:
            starts.append(at)
            at += -(-len(frame) // _ALIGNED) * _ALIGNED
        host = self._host.take(at)
        for frame, start in zip(frames, starts, strict=True):
            host[start : start + len(frame)] = frame
        native = self._gpu.native
        device = self._room(at)
        with self._gpu.event() as copied:
            native.copy(device, host.ctypes.data, at, stream=self._stream)
            native.record(copied, self._stream)
            self._gpu.wait(copied, _WAIT_S, "copying frames")  # the host's copy is used again
        return [device + start for start in starts]

    def _gathered(self, mine: Array, request: Request) -> list[Array]:
        """Every rank's frame."""
        ticket, parts = self._engine.gather_parts(
            mine, label=request.label, timeout_s=request.timeout_s
        )
        return self._parts_of(ticket, parts, request)

    def _exchanged(self, frames: list[Array], request: Request) -> list[Array]:
        """Frame r to rank r; what every rank has sent to this one."""
        ticket, parts = self._engine.all_to_all(
            np.concatenate(frames),
            [len(frame) for frame in frames],
            label=request.label,
            timeout_s=request.timeout_s,
        )
        return self._parts_of(ticket, parts, request)

    def _parts_of(self, ticket: int, parts: Any, request: Request) -> list[Array]:
        self._engine.wait(ticket, timeout_s=request.timeout_s + STORY_S)
        return np.split(parts.data, np.cumsum(parts.lengths)[:-1])

    def _check(self, frames: list[Array], counts: list[int], request: Request) -> None:
        for rank, (frame, count) in enumerate(zip(frames, counts, strict=True)):
            try:
                self._native.check_frame(frame, request.spec, count)
            except CorruptData as error:
                raise CorruptData(f"from rank {rank}: {error}") from error

    def _compare(self, memory: GpuCompressor, request: Request) -> None:
        """Refuse, on all ranks alike, compressions that differ."""
        what = (
            request.spec.told,
            memory.parts,
            memory.matrices,
            memory.feedback,
            memory.momentum,
            memory.pattern,
            memory.seed,
        )
        digest = hashlib.sha256(repr(what).encode()).hexdigest()[:8]
        self._agreement.compare(
            f"compresses {memory.count} elements at step {request.step} by {request.spec.told} "
            f"(codec and layout {digest})",
            request.label,
            request.timeout_s,
        )


def parts_of(count: int, granule: int, ranks: int) -> list[Part]:
    """The part of each rank: whole granules, whose numbers differ by at most one."""
    granules = -(-count // granule)
    each, longer = divmod(granules, ranks)
    edges = [min((rank * each + min(rank, longer)) * granule, count) for rank in range(ranks + 1)]
    return [Part(start, stop) for start, stop in pairwise(edges)]
