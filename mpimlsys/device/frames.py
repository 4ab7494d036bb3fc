"""Compressed all-reduce of a GPU's array: frames are made and read on the GPU, and travel on the
host.

Patterns, as csrc/comm/frames.cpp has them, with the same numbers:

    gather    every rank's frame to all; all decode all
    owners    every rank adds up a part, of which it gets a frame from each, and sends a frame of
              the sum to all
    ring      partial sums go around
    balanced  as owners, for what is largest

What comes is checked on the host before it goes to the GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from mpimlsys.device.agreement import Agreement, Refused
from mpimlsys.device.compressor import GpuCompressor
from mpimlsys.device.division import OWNERS, Division, Part, parts_of
from mpimlsys.device.factors import Factors
from mpimlsys.device.frame_exchange import FLOAT, FrameExchange
from mpimlsys.device.frames_balanced import balanced
from mpimlsys.device.frames_ring import ring
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.passage import Passage, Request
from mpimlsys.kernels.codecs.random import key_of
from mpimlsys.network import Blocking

_LATENCY_BOUND = 16 * 1024  # bytes of all frames that come, below which they go to all


class Frames:
    """The compressed exchanges of one queue.

    Args:
        gpu: of this process.
        native: the extension of the host.
        ranks: what they do together.
        agreement: of them.
        rank, size: of the process set.
        stream: of the GPU, for everything here.
    """

    def __init__(
        self,
        gpu: Gpu,
        native: Any,
        ranks: Blocking,
        agreement: Agreement,
        rank: int,
        size: int,
        stream: int,
    ) -> None:
        self._native, self._size = native, size
        self._passage = Passage(gpu, native, ranks, rank, size, stream)
        self._factors = Factors(gpu, native, ranks, stream)
        self._agreement = agreement

    def all_reduce(self, x: int, memory: GpuCompressor, request: Request) -> None:
        """Put the sum of what all ranks send in the place of what is compressed.

        Args:
            x: address of ``memory.compressed`` float32, the compressed elements.
            memory: of the array.
            request: what is asked for.

        Raises:
            ConfigError: the codec cannot travel in the pattern; on all ranks, which have compared
                what they mean.
            CorruptData: a frame was damaged; names its rank.
        """
        travel = self._pattern(memory, request.spec)
        now = FrameExchange(self._passage, memory, request, x)
        travel(now)
        now.finish()

    def close(self) -> None:
        """Give memory back."""
        self._passage.close()
        self._factors.close()

    def _pattern(self, memory: GpuCompressor, spec: Any) -> Callable[[FrameExchange], None]:
        asked = memory.pattern
        can = self._native.can_travel(spec, memory.feedback, asked)
        if not can and spec.codec != "none":  # which takes another one
            raise Refused(
                f"frames of {spec.codec} with error_feedback = {memory.feedback!r} cannot travel "
                f"in the pattern {asked!r}; use 'auto'."
            )
        if spec.codec == "power_sgd":
            return self._factorised
        if can and asked != "auto":
            return _PATTERNS[asked]
        bound = self._native.frame_bound(spec, memory.compressed)
        few = self._size <= 2 or (self._size - 1) * bound <= _LATENCY_BOUND
        return gather if few else owners

    def _factorised(self, now: FrameExchange) -> None:
        """PowerSGD: no frames."""
        now.divide(Division())
        now.load()
        memory = now.memory
        out = memory.kept("estimate", now.count) if memory.feedback == "ef21" else now.x
        self._factors.all_reduce(now.y, out, memory, now.request, now.key)

    def compare(self, memory: GpuCompressor, request: Request) -> None:
        """Refuse, on all ranks alike, compressions that differ."""
        what = (
            request.spec.told,
            memory.parts,
            memory.matrices,
            memory.feedback,
            memory.momentum,
            memory.clip_norm,
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


def gather(now: FrameExchange) -> None:
    """Every rank's frame to all."""
    memory, passage = now.memory, now.passage
    now.divide(Division())
    [mine] = now.encode([Part(0, now.count)])
    came = passage.gathered(mine, [now.count] * passage.size, now.request)
    memory.messages = passage.size - 1
    memory.sent_bytes = memory.messages * len(mine)
    now.deliver_sum(passage.to_gpu(came, now.request))


def owners(now: FrameExchange) -> None:
    """Every rank adds up a part, and tells all."""
    memory, passage, request = now.memory, now.passage, now.request
    spec, rank, size = request.spec, passage.rank, passage.size
    granule = max(spec.granule, 1)
    parts = parts_of(now.count, granule, size)
    mine = parts[rank]
    division = Division(OWNERS, granule)
    now.divide(division)
    frames = now.encode(parts)
    memory.messages = 2 * (size - 1)
    memory.sent_bytes = sum(len(frame) for frame in frames) - len(frames[rank])
    came = passage.exchanged(frames, mine.length, request)
    owned = now.owned_for(division)
    now.add(spec, mine.length, passage.to_gpu(came, request), owned)
    told = 0
    if memory.feedback == "ef21":
        told = memory.kept("estimate", now.count) + mine.start * FLOAT
    own = now.encode_owned(spec, owned, mine.length, told, key_of(now.key, size + rank + 1))
    memory.sent_bytes += (size - 1) * len(own)
    sums = passage.gathered(own, [part.length for part in parts], request)
    for peer, frame in enumerate(passage.to_gpu(sums, request)):
        if told and peer == rank:
            continue  # what it was told is what it told
        now.deliver(frame, parts[peer])


_PATTERNS = {"gather": gather, "owners": owners, "ring": ring, "balanced": balanced}
