"""Gradients by all-reduce: each bucket is summed over the workers while backward still runs.

The loss is already divided by the global batch, so the sum over ranks is the gradient of the
mean loss. Buckets leave in the order of their index on every rank, whatever order they become
ready in, so that the background threads of all ranks run the same operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpimlsys import compress as compression
from mpimlsys import device
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError
from mpimlsys.exchange.stateless import Stateless
from mpimlsys.types import Array, Bucket, Segment

_STORY_S = 1.0  # lets the operation's own deadline come first: its error names the peer


@dataclass(frozen=True)
class AllReduce:
    """The all-reduce exchange.

    Args:
        compress: a codec such as ``"top_k:0.01"``, a :class:`mpimlsys.compress.Compression`, or
            ``"auto"``, which measures whether one would pay; None sends the gradients as they are.
        seed: of codecs that draw at random; the same on all ranks.
    """

    compress: str | compression.Compression | None = None
    seed: int = 0

    def open(
        self,
        ctx: Context,
        buckets: Sequence[Bucket],
        segments: Sequence[Segment] = (),
        *,
        parameters: Array | None = None,  # noqa: ARG002 the optimiser has them
        optimizer: Any = None,  # noqa: ARG002 it runs here
    ) -> AllReduceExchange:
        """The live exchange of a model. Collective over workers.

        Args:
            buckets: of the model's gradient.
            segments: the places of its parameters.

        Raises:
            ConfigError: the gradients cannot be compressed.
        """
        if self.compress is None:
            return AllReduceExchange(ctx, buckets)
        if self.compress == "auto":
            from mpimlsys.exchange.auto import AutoExchange

            return AutoExchange(ctx, buckets, segments, self.seed)
        from mpimlsys.exchange.compressed import CompressedExchange

        how = compression.of(self.compress)
        return CompressedExchange(ctx, buckets, segments, how, self.seed)


class AllReduceExchange(Stateless):
    """The live exchange; made by :meth:`AllReduce.open`."""

    kind = "allreduce"
    updates_parameters = False
    lag = 0

    def __init__(self, ctx: Context, buckets: Sequence[Bucket]) -> None:
        self._engine: Any = None
        self._on_gpu = bool(buckets) and device.is_on_gpu(buckets[0].gradient)
        if ctx.group.size > 1 and self._on_gpu:
            with ctx.together():  # one error where a rank has no GPU or no extension for it
                device.gpu_of(ctx, buckets[0].gradient)
            self._engine = device.open_queue(ctx, ctx.peers, buckets[0].gradient)
        elif ctx.group.size > 1:
            self._engine = ctx.peers.open_engine()
        self._count = len(buckets)
        self._comm = ctx.comm
        self._ready: dict[int, Bucket] = {}
        self._tickets: list[int] = []
        self._checked = False

    def begin_step(self, lr: float) -> None:
        """The learning rate changes nothing here."""

    def begin(self, bucket: Bucket) -> None:
        """Send ``bucket`` as soon as all buckets before it are on their way."""
        if bucket.index in self._ready or bucket.index < len(self._tickets):
            raise ConfigError(f"bucket {bucket.index} was begun twice in one step.")
        self._ready[bucket.index] = bucket
        while len(self._tickets) in self._ready:
            self._tickets.append(self._submit(self._ready.pop(len(self._tickets))))

    def finish(self) -> None:
        """Return when all gradients hold their global sum.

        Raises:
            Timeout: a rank did not take part; names the bucket, the peer and the phase.
            RankFailed: a rank is gone.
        """
        if len(self._tickets) != self._count:
            raise ConfigError(
                f"the step ended with {len(self._tickets)} of {self._count} buckets begun: some "
                "parameters got no gradient."
            )
        tickets, self._tickets = self._tickets, []
        if self._engine is not None:
            for ticket in tickets:
                self._engine.wait(ticket, timeout_s=self._comm.timeout_s + _STORY_S)
        self._checked = True

    def gather(self) -> None:
        """All ranks have the same parameters and state at all times."""

    def sent_bytes(self) -> int | None:
        """What this rank sent in the last step; None where that is not counted."""
        return None

    def close(self) -> None:
        """Stop the background thread."""
        if self._engine is not None:
            self._engine.close(timeout_s=5.0)

    def _submit(self, bucket: Bucket) -> int:
        if self._engine is None:
            return 0
        # sizes cannot change after the first step, so only that one pays for the comparison
        ticket: int = self._engine.all_reduce(
            bucket.gradient,
            "sum",
            label=f"bucket {bucket.index}",
            check=not self._checked,
            algorithm=self._comm.algorithm,
            order=self._comm.order,
            timeout_s=self._comm.timeout_s,
        )
        return ticket
