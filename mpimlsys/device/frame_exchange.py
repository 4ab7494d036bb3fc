"""One compressed all-reduce of a GPU's array: what is sent, and what becomes of what is kept.

The numbers are those of csrc/comm/frames.cpp. Where nothing stands against it, frames are made and
the gradient is taken in by one kernel; else it is taken in first, as on the host.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mpimlsys.device.compressor import GpuCompressor
from mpimlsys.device.division import Division, Part
from mpimlsys.device.memory import Memory
from mpimlsys.device.passage import Passage, Request
from mpimlsys.kernels.codecs.random import key_of
from mpimlsys.types import Array

Placed = tuple[int, int]  # address and bytes of a frame on the GPU

FLOAT = 4  # bytes
_SUM = 8  # bytes of a sum of squares


class FrameExchange:
    """What the patterns are made of.

    Args:
        passage: of the frames.
        memory: of the array.
        request: what is asked for.
        x: address of the gradients that are compressed, and of their sum at the end.

    Attributes:
        passage, memory, request, x: as given.
        count: elements.
        key: of this array and step.
        y: address of what this rank sends; with feedback, from :meth:`load` on.
    """

    def __init__(self, passage: Passage, memory: GpuCompressor, request: Request, x: int) -> None:
        self.passage, self.memory, self.request, self.x = passage, memory, request, x
        self.count = count = memory.compressed
        self.key = key_of(memory.seed, request.step)
        self._native, self._stream = passage.gpu.native, passage.stream
        self._feedback = memory.feedback != "none"
        self._loaded = not self._feedback
        self._sums: Memory | None = None
        self._passing: Memory | None = None
        memory.sent_bytes = memory.messages = 0
        memory.error = -1.0
        self.y = x
        if not self._feedback:
            return
        if memory.clip_norm:
            most = memory.clip_norm / math.sqrt(passage.size)
            self._native.clip(x, count, most, stream=self._stream)
        if memory.momentum:
            self.y = memory.accumulate("velocity", x, count)
        if memory.feedback == "ef21":
            memory.kept("estimate", count)
        if request.measure:
            self.load()
            self._sums = Memory(passage.gpu, 2 * _SUM, self._stream)
            self._native.squares(self.y, count, self._sums.address, stream=self._stream)

    def load(self) -> None:
        """Take the gradient in; frames are then made of ``y`` as it is."""
        if self._loaded:
            return
        self._loaded = True
        kept = self.memory.kept("residual", self.count)
        if self.memory.feedback == "classic":
            self.blend(self.count, kept, 1.0, self.y, kept)
            self.y = kept
        else:
            self.blend(self.count, self.y, -1.0, kept, self.x)
            self.y = self.x

    def encode(self, parts: list[Part]) -> list[Array]:
        """Frames of parts of what this rank has to send, on the host."""
        memory, spec = self.memory, self.request.spec
        lengths = [part.length for part in parts]
        frames, _ = self.passage.places(spec, lengths)
        kept = 0 if self._loaded else memory.kept("residual", self.count)
        for part, frame in zip(parts, frames, strict=True):
            self._native.encode(
                spec,
                self.y + part.start * FLOAT,
                part.length,
                frame,
                stream=self._stream,
                feedback="none" if self._loaded else memory.feedback,
                kept=kept + part.start * FLOAT if kept else 0,
                key=key_of(self.key, self.passage.rank + 1),
                first=part.start,
            )
            self.settle(spec, part, (frame, self.passage.native.frame_bound(spec, part.length)))
        return self.passage.to_host(spec, lengths, self.request)

    def frame_of(self, spec: Any, key: int) -> Array:
        """A frame of all of ``y``, on the host; the feedback hears nothing of it."""
        [frame], _ = self.passage.places(spec, [self.count])
        self._native.encode(spec, self.y, self.count, frame, stream=self._stream, key=key, first=0)
        return self.passage.to_host(spec, [self.count], self.request)[0]

    def settle(self, spec: Any, part: Part, frame: Placed) -> None:
        """Let the feedback know what a frame of a part says."""
        if not self._feedback:
            return
        place, classic = part.start * FLOAT, self.memory.feedback == "classic"
        if self._loaded and (classic or self.request.measure):
            self.add(spec, part.length, [frame], self.y + place, -1.0)
        if self._loaded and not classic:
            kept = self.memory.kept("residual", self.count)
            self.add(spec, part.length, [frame], kept + place)
        if classic and self.memory.momentum and self.request.spec.sparse:
            velocity = self.memory.kept("velocity", self.count)
            self._native.clear(spec, part.length, *frame, velocity + place, stream=self._stream)

    def encode_owned(self, spec: Any, owned: int, length: int, told: int, key: int) -> Array:
        """A frame of the sum of what this rank owns, on the host.

        Args:
            spec: of the frame.
            owned: address of the sum; with ``classic``, what the frame leaves out of it remains.
            length: elements.
            told: with ``ef21``, address of what was told of them so far; then also with the frame.
            key: what it is drawn with.
        """
        [frame], room = self.passage.places(spec, [length])
        ef21 = self.memory.feedback == "ef21"
        self._native.encode(
            spec,
            owned,
            length,
            frame,
            stream=self._stream,
            feedback="ef21" if ef21 else "none",
            kept=told if ef21 else 0,
            key=key,
            first=0,
        )
        if self.memory.feedback == "classic":
            self.add(spec, length, [(frame, room)], owned, -1.0)
        return self.passage.to_host(spec, [length], self.request)[0]

    def deliver(self, frame: Placed, part: Part) -> None:
        """Put what a frame of sums says into the result; with ``ef21``, add it to the estimate."""
        spec, place = self.request.spec, part.start * FLOAT
        if self.memory.feedback == "ef21":
            estimate = self.memory.kept("estimate", self.count)
            self.add(spec, part.length, [frame], estimate + place)
            return
        self._native.decode(spec, part.length, *frame, self.x + place, stream=self._stream)

    def deliver_sum(self, frames: list[Placed]) -> None:
        """The same of the sum of frames of the whole array."""
        first, *others = frames
        self.deliver(first, Part(0, self.count))
        ef21 = self.memory.feedback == "ef21"
        into = self.memory.kept("estimate", self.count) if ef21 else self.x
        self.add(self.request.spec, self.count, others, into)

    def finish(self) -> None:
        """Note the error where it is measured, and copy the estimate out."""
        if self._sums is not None:  # before the estimate takes the place of y
            self._note_error(self._sums)
        if self.memory.feedback == "ef21":
            estimate = self.memory.kept("estimate", self.count)
            self._native.copy(self.x, estimate, self.count * FLOAT, stream=self._stream)

    def owned_for(self, division: Division) -> int:
        """The address of what this rank owns; without feedback zeros, for this step alone."""
        share = division.share(self.passage.rank, self.count, self.passage.size)
        if self._feedback:
            return self.memory.kept("owned", share)
        self._passing = self.room(share)
        return self._passing.address

    def divide(self, now: Division) -> None:
        """Take back what was owned where this step cuts the array in another way."""
        if not self._feedback:
            return
        memory, rank, size = self.memory, self.passage.rank, self.passage.size
        before = memory.cut or Division()
        share = before.share(rank, self.count, size)
        fits = memory.has("owned") == share
        if now == before and fits:
            return
        if fits and share:
            self._take_back(before, share)
        length = now.share(rank, self.count, size)
        owned = memory.kept("owned", length)
        self._native.zero(owned, length * FLOAT, stream=self._stream)
        if memory.feedback == "ef21":
            self.collect(memory.kept("estimate", self.count), now, rank, owned)
        memory.cut = now

    def _take_back(self, before: Division, share: int) -> None:
        """Classic: what was owned is this rank's own again. ef21: so is its gap to what was told,
        as if the rank's h were smaller by it."""
        self.load()
        gap = self.memory.kept("owned", share)
        if self.memory.feedback == "ef21":
            told = self.room(share)
            estimate = self.memory.kept("estimate", self.count)
            self.collect(estimate, before, self.passage.rank, told.address)
            self.blend(share, gap, -1.0, told.address, gap)
            self._add_to(self.memory.kept("residual", self.count), before, share, gap, -1.0)
        self._add_to(self.y, before, share, gap, 1.0)

    def _add_to(self, whole: int, division: Division, share: int, own: int, factor: float) -> None:
        """Add what a rank owns, times a factor, to the elements of the array that it owns."""
        there = self.room(share)
        self.collect(whole, division, self.passage.rank, there.address)
        self.blend(share, there.address, factor, own, there.address)
        self.spread(there.address, division, self.passage.rank, whole)

    def collect(self, whole: int, division: Division, owner: int, into: int) -> None:
        """Copy what a rank owns of an array, one after the other."""
        for rows in division.rows(owner, self.count, self.passage.size):
            here, there = rows.length * FLOAT, rows.step * FLOAT
            start = whole + rows.start * FLOAT
            self._native.copy_rows(into, here, start, there, here, rows.count, stream=self._stream)
            into += here * rows.count

    def spread(self, source: int, division: Division, owner: int, whole: int) -> None:
        """Copy it back to its places."""
        for rows in division.rows(owner, self.count, self.passage.size):
            here, there = rows.length * FLOAT, rows.step * FLOAT
            start = whole + rows.start * FLOAT
            self._native.copy_rows(
                start, there, source, here, here, rows.count, stream=self._stream
            )
            source += here * rows.count

    def room(self, count: int) -> Memory:
        """GPU memory of ``count`` zeros, as long as it is held."""
        return Memory(self.passage.gpu, count * FLOAT, self._stream)

    def add(
        self, spec: Any, count: int, frames: list[Placed], into: int, factor: float = 1.0
    ) -> None:
        """``into += factor * decoded``, for one frame after the other."""
        self._native.add(spec, count, frames, into, stream=self._stream, factor=factor)

    def blend(self, count: int, x: int, factor: float, y: int, into: int) -> None:
        """``into = x + factor * y``."""
        self._native.blend(count, 1.0, x, factor, y, into, stream=self._stream)

    def _note_error(self, sums: Memory) -> None:
        self._native.squares(self.y, self.count, sums.address + _SUM, stream=self._stream)
        host = self.passage.fetch(sums.address, 2 * _SUM, self.request)
        before, after = host.view(np.float64).tolist()
        self.memory.error = after / before if before > 0 else -1.0
