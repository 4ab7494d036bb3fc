"""Gradients by compressed all-reduce: codecs, error feedback and patterns run in C++.

All ranks hold the same bits after each step. What a rank keeps between steps, its residuals, is
its own: :meth:`CompressedExchange.own_state_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpimlsys import device
from mpimlsys.compress import DENSE, Codec, Compression, layout
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError
from mpimlsys.exchange.allreduce import AllReduceExchange
from mpimlsys.exchange.residuals import common, handed_out, steps_of
from mpimlsys.types import Array, Bucket, Segment, State


@dataclass(frozen=True)
class Traffic:
    """What one bucket cost this rank in the last step.

    Attributes:
        bucket: its index.
        codec: what it was encoded with; ``"none"`` where it was not.
        dense_bytes: of the bucket.
        sent_bytes, messages: what this rank sent in frames; 0 where it travelled dense.
        error: ``|C(y) - y|^2 / |y|^2`` of what it had to send; negative where it was not measured.
    """

    bucket: int
    codec: str
    dense_bytes: int
    sent_bytes: int
    messages: int
    error: float


class CompressedExchange(AllReduceExchange):
    """The live exchange; made by :meth:`AllReduce.open`.

    Attributes:
        steps: exchanged so far; part of the state.
        measure_every: the compression error is measured each so many steps; 0: never.
    """

    def __init__(
        self,
        ctx: Context,
        buckets: Sequence[Bucket],
        segments: Sequence[Segment],
        compression: Compression,
        seed: int,
    ) -> None:
        for bucket in buckets:
            if bucket.gradient.dtype != np.float32:
                error = ConfigError(
                    f"compressed gradients must be float32, not {bucket.gradient.dtype}; set "
                    "job.dtype = 'float32' or exchange.compress = 'none'."
                )
                error.on_all_ranks = True  # all have the same model
                raise error
        super().__init__(ctx, buckets)
        if self._on_gpu and self._engine is None:  # one rank: momentum alone
            self._engine = device.open_queue(ctx, ctx.peers, buckets[0].gradient)
        self._native = ctx.native
        self._rank, self._ranks = ctx.group.rank, ctx.group.size
        # a GPU's array is compressed by each rank, whatever its node
        nodes = [0] * self._ranks if self._on_gpu else ctx.peers.nodes
        self._nodes = sharing_nodes(nodes, compression)
        self._compression = compression
        self._codecs: dict[Codec, Any] = {}
        self._agreed = False
        self.steps = 0
        self.measure_every = 0
        total = sum(bucket.gradient.size for bucket in buckets)
        self._memories = [self._memory(bucket, segments, total, seed) for bucket in buckets]
        self._sizes = [bucket.gradient.nbytes for bucket in buckets]
        self._sent_as: list[Codec | None] = [None] * len(buckets)

    def finish(self) -> None:
        """Return when all gradients hold their global sum, see the base class.

        Raises:
            CorruptData: a frame was damaged; names the rank that it came from.
        """
        super().finish()
        self._agreed = bool(self._codecs)  # the first step that compresses compares the codecs
        self.steps += 1

    def traffic(self) -> list[Traffic]:
        """What the last step cost, bucket by bucket."""
        return [
            Traffic(index, str(codec), size, memory.sent_bytes, memory.messages, memory.error)
            if codec is not None
            else Traffic(index, "none", size, 0, 0, -1.0)
            for index, (codec, size, memory) in enumerate(
                zip(self._sent_as, self._sizes, self._memories, strict=True)
            )
        ]

    def sent_bytes(self) -> int | None:
        """What this rank sent in the last step; None where a bucket travelled dense."""
        if None in self._sent_as:
            return None
        return sum(memory.sent_bytes for memory in self._memories)

    def state_dict(self) -> State:
        """What all ranks have alike."""
        return common(self.steps, self._nodes, self._compression.error_feedback)

    def own_state_dict(self) -> State | None:
        """Residuals and the like, as ``"rank.bucket.name"``; copies."""
        return {
            f"{self._rank}.{index}.{name}": value
            for index, memory in enumerate(self._memories)
            for name, value in memory.state().items()
        }

    def handed_out(self, own: Mapping[str, Array], state: Mapping[str, Array], rank: int) -> State:
        """What ``rank`` has of the residuals; with another number of ranks they are shared out."""
        return handed_out(own, state["nodes"], rank, self._nodes) if "nodes" in state else {}

    def load_state_dict(self, state: Mapping[str, Array], own: Mapping[str, Array]) -> None:
        """Take over what all ranks had, and what was handed out to this one."""
        self.steps = steps_of(state, self._compression.error_feedback)
        for index, memory in enumerate(self._memories):
            prefix = f"{self._rank}.{index}."
            memory.load_state(
                {
                    name.removeprefix(prefix): value
                    for name, value in own.items()
                    if name.startswith(prefix)
                }
            )

    def _memory(self, bucket: Bucket, segments: Sequence[Segment], total: int, seed: int) -> Any:
        how = self._compression
        place = layout(bucket, segments, how)
        share = math.sqrt(bucket.gradient.size / total) if total else 0.0
        make = self._engine.compressor if self._on_gpu else self._native.Compressor
        return make(
            bucket.gradient.size,
            parts=list(place.parts),
            matrices=list(place.matrices),
            feedback=how.error_feedback,
            momentum=how.momentum,
            clip_norm=how.clip_norm * share,
            pattern=how.pattern,
            seed=((seed << 20) + bucket.index) % 2**64,
        )

    def _codec_of(self, bucket: int) -> Codec:  # noqa: ARG002
        """How a bucket travels in the step that runs."""
        return self._compression.at(self.steps)

    def _submit(self, bucket: Bucket) -> int:
        if self._engine is None:  # one rank
            self._memories[bucket.index].carry_on(bucket.gradient)
            return 0
        codec = self._codec_of(bucket.index)
        # momentum correction goes on while nothing is compressed
        if codec == DENSE and not self._compression.momentum:
            self._sent_as[bucket.index] = None
            return super()._submit(bucket)
        return self._submit_as(codec, bucket)

    def _submit_as(self, codec: Codec, bucket: Bucket) -> int:
        self._sent_as[bucket.index] = codec
        if codec not in self._codecs:
            self._codecs[codec] = codec.native(self._native)
        ticket: int = self._engine.compressed_all_reduce(
            bucket.gradient,
            self._memories[bucket.index],
            self._codecs[codec],
            step=self.steps,
            measure=bool(self.measure_every) and self.steps % self.measure_every == 0,
            label=f"bucket {bucket.index}",
            check=not self._agreed,
            timeout_s=self._comm.timeout_s,
        )
        return ticket


def sharing_nodes(nodes: Sequence[int], compression: Compression) -> Array:
    """The node of each rank where the ranks of a node share out what is compressed, or else 0."""
    shares = 1 < len(set(nodes)) < len(nodes) and compression.codec.name != "power_sgd"
    return np.array(nodes if shares else [0] * len(nodes), np.int64)
