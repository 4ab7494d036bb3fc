"""``compress = "auto"``: dense steps that are measured, trials, and a guard that takes it back.

    dense, measured  ->  dense for good, or trials of up to three codecs
    trials           ->  the codec with the shortest steps, or dense for good
    a codec          ->  dense for good, when the guard says so

Every decision is a function of numbers that are the same on all ranks, and part of the state: a
run that goes on from a checkpoint goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from mpimlsys.compress import DENSE, Codec, Compression
from mpimlsys.compress.auto import (
    CANDIDATES,
    Decision,
    Guard,
    Measured,
    Prediction,
    Speed,
    decide,
    fastest,
    table,
)
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError
from mpimlsys.exchange.compressed import CompressedExchange
from mpimlsys.exchange.measure import HostMeasures, Measures
from mpimlsys.exchange.measure_gpu import GpuMeasures
from mpimlsys.types import Array, Bucket, Segment, State

_SETTLE = 3  # steps that are not measured
_MEASURED = 8
MEASURED_AFTER = _SETTLE + _MEASURED  # steps
_ERROR_EVERY = 10

_UNDECIDED, _DENSE = -2, -1  # or the number of a candidate


class AutoExchange(CompressedExchange):
    """The live exchange; made by ``AllReduce(compress="auto").open``.

    Attributes:
        decision: once it is made.
        measured: what it was made from.
    """

    def __init__(
        self, ctx: Context, buckets: Sequence[Bucket], segments: Sequence[Segment], seed: int
    ) -> None:
        super().__init__(ctx, buckets, segments, Compression(CANDIDATES[0], "classic"), seed)
        self.decision: Decision | None = None
        self.measured: Measured | None = None
        self._ctx = ctx
        self._buckets = buckets
        self._host = HostMeasures(ctx)
        self._measures: Measures = self._host
        if self._on_gpu:
            self._measures = GpuMeasures(ctx, self._engine, buckets[0].gradient)
        self._chosen = _UNDECIDED
        self._compressed = np.zeros(len(buckets), bool)
        self._touched = np.zeros(len(buckets), bool)  # that have residuals
        self._trials: list[Prediction] = []  # that have still to end, the one that runs first
        self._tried: dict[Codec, float] = {}
        self._flush = False  # what is left in the residuals goes along with the next step
        self._guard: Guard | None = None
        self._news: list[str] = []
        self._timing = True  # of the dense steps, then of the first compressed ones
        self._ready_s: list[list[float]] = []
        self._took: list[tuple[float, float]] = []  # of a step, of it waiting
        self._losses: list[float] = []
        self._started = self._measures.mark()
        self._begun: list[Any] = [self._started] * len(buckets)  # marks

    def begin(self, bucket: Bucket) -> None:
        """See the base class; notes when the bucket was ready."""
        if self._timing:
            self._begun[bucket.index] = self._measures.mark()
        super().begin(bucket)

    def finish(self) -> None:
        """See the base class; decides after the steps that are measured. Collective."""
        measures = self._measures
        waits_from = measures.mark()
        super().finish()
        now = measures.mark()
        self._flush = False
        if self._ranks == 1:
            return
        if self._timing:
            seconds = measures.seconds
            self._took.append((seconds(self._started, now), seconds(waits_from, now)))
            self._ready_s.append([seconds(self._started, begun) for begun in self._begun])
        if self._chosen == _UNDECIDED and len(self._took) == MEASURED_AFTER:
            self._decide()
        elif self._chosen >= 0 and self._guard is not None:
            self._watch()
        self._started = measures.mark()

    def note_loss(self, loss: float) -> None:
        """See the base class."""
        if self._chosen == _UNDECIDED:
            self._losses.append(loss)
        elif self._chosen >= 0 and self._guard is not None:
            self._back_to_dense(self._guard.loss_of_step(loss))

    def news(self) -> list[str]:
        """See the base class."""
        news, self._news = self._news, []
        return news

    def state_dict(self) -> State:
        """What all ranks have alike, with the decision."""
        return {
            **super().state_dict(),
            # a run that goes on measures again what was not decided
            "chosen": np.array(_UNDECIDED if self._trials else self._chosen, np.int64),
            "compressed": self._compressed.copy(),
            "touched": self._touched.copy(),
            "flush": np.array(self._flush),
        }

    def load_state_dict(self, state: Mapping[str, Array], own: Mapping[str, Array]) -> None:
        """Take it over; the guard watches only the part of a run that decided."""
        if "chosen" not in state or state["compressed"].shape != self._compressed.shape:
            raise ConfigError(
                "this checkpoint was not written with exchange.compress = 'auto'; use the job it "
                "was written with."
            )
        super().load_state_dict(state, own)
        self._chosen = int(state["chosen"])
        self._compressed = state["compressed"].astype(bool)
        self._touched = state["touched"].astype(bool)
        self._flush = bool(state["flush"])
        self._timing = self._chosen == _UNDECIDED

    def _codec_of(self, bucket: int) -> Codec:
        if self._chosen >= 0 and self._compressed[bucket]:
            return CANDIDATES[self._chosen]
        return DENSE

    def _submit(self, bucket: Bucket) -> int:
        if self._flush and self._touched[bucket.index]:
            return self._submit_as(DENSE, bucket)
        return super()._submit(bucket)

    def _decide(self) -> None:
        self.measured = self._measure()
        self.decision = decide(self.measured)
        self._news.append(f"compress = auto: {self.decision.why}")
        self._news += [f"  {line}" for line in table(self.decision)]
        self._trials = self.decision.contenders()
        if not self._trials:
            self._chosen = _DENSE
            self._timing = False
            return
        losses = self._losses[-_MEASURED:]
        self._guard = Guard(float(np.mean(losses)) if losses else float("nan"))
        self.measure_every = _ERROR_EVERY
        self._take(self._trials[0])

    def _take(self, prediction: Prediction) -> None:
        assert prediction.codec is not None
        self._chosen = CANDIDATES.index(prediction.codec)
        self._compressed = np.array(prediction.compressed)
        self._touched |= self._compressed
        self._timing = bool(self._trials)
        self._took, self._ready_s = [], []

    def _end_trial(self) -> None:
        assert self.measured is not None
        assert self.decision is not None
        step_s = np.array([median(took for took, _ in self._took[_SETTLE:])])
        self._max(step_s)
        self._tried[CANDIDATES[self._chosen]] = float(step_s[0])
        self._trials.pop(0)
        if self._trials:
            self._take(self._trials[0])
            return
        codec, why = fastest(self._tried, self.measured.step_s)
        if codec is None:
            self._back_to_dense(why)
            return
        self._news.append(f"compress = auto: {why}")
        self._take(next(p for p in self.decision.predictions if p.codec == codec))

    def _watch(self) -> None:
        assert self._guard is not None
        if self.measure_every and (self.steps - 1) % self.measure_every == 0:
            errors = [memory.error for memory in self._memories]
            worst = np.array([np.max(errors)])
            self._max(worst)
            self._back_to_dense(self._guard.error_of_step(float(worst[0])))
        if self._trials and len(self._took) == MEASURED_AFTER:
            self._end_trial()

    def _back_to_dense(self, why: str) -> None:
        if not why or self._chosen < 0:
            return
        self._news.append(f"compress = auto: back to dense at step {self.steps}: {why}")
        self._chosen = _DENSE
        self._trials = []
        self._timing = False
        self._flush = True

    def _measure(self) -> Measured:
        counts = [bucket.gradient.size for bucket in self._buckets]
        largest = max(self._buckets, key=lambda bucket: bucket.gradient.size)
        latency_s, per_byte_s = self._host.link()  # frames of a GPU travel on the host, too
        dense = self._measures.dense(counts)
        found = self._measures.speeds(largest.gradient)
        took = self._took[_SETTLE:]
        numbers = np.array(
            [
                latency_s,
                per_byte_s,
                median(step - wait for step, wait in took),
                median(step for step, _ in took),
                float(self._measures.busy),
                *(dense[count] for count in counts),
                *np.median(self._ready_s[_SETTLE:], axis=0),
                *(
                    value
                    for speed in found.values()
                    for value in (speed.encode_s, speed.decode_s, speed.frame_bytes)
                ),
            ]
        )
        self._max(numbers)
        values = iter(numbers.tolist())

        def some(count: int) -> tuple[float, ...]:
            return tuple(next(values) for _ in range(count))

        latency_s, per_byte_s, compute_s, step_s, busy = some(5)
        dense_s, ready_s = some(len(counts)), some(len(counts))
        return Measured(
            ranks=self._ranks,
            counts=tuple(counts),
            ready_s=ready_s,
            compute_s=compute_s,
            step_s=step_s,
            dense_s=dense_s,
            latency_s=latency_s,
            seconds_per_byte=per_byte_s,
            busy_cores=bool(busy),
            speeds={codec: Speed(*some(3)) for codec in found},
        )

    def _max(self, numbers: Array) -> None:
        """The largest of all ranks. Collective."""
        ctx = self._ctx
        ctx.native.all_reduce(ctx.peers.transport, numbers, "max", timeout_s=ctx.timeout_s)
