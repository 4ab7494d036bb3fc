"""``compress = "auto"``: whether a codec would make the steps shorter, and which. Pure.

What is measured during the first, dense steps goes into a model of a step. The codecs with the
shortest predicted steps are tried for some steps each, and the fastest is taken if it saves at
least 5 %. See docs/compression.md for the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mpimlsys.compress.codec import Codec, parse

CANDIDATES: tuple[Codec, ...] = tuple(map(parse, ("fp16", "int8", "int4", "top_k:0.01")))
LEAST_SAVING = 0.05  # of a step
_TRIALS = 3
_TRIED_WITHIN = 1.35  # of the shortest predicted step


@dataclass(frozen=True)
class Speed:
    """Of a codec on one core, in seconds per element, and its frame, in bytes per element."""

    encode_s: float
    decode_s: float
    frame_bytes: float


@dataclass(frozen=True)
class Measured:
    """What the first steps showed; the slowest rank counts.

    Attributes:
        ranks: of the exchange.
        counts: elements of each bucket.
        ready_s: when each bucket was ready, from the beginning of the step.
        compute_s: forward, backward and update, without waiting for the exchange.
        step_s: the whole dense step.
        dense_s: an all-reduce of each bucket.
        latency_s: of a message.
        seconds_per_byte: of a rank's link.
        busy_cores: whether ranks have no core to spare, so that coding delays computing.
        speeds: of the candidates.
    """

    ranks: int
    counts: tuple[int, ...]
    ready_s: tuple[float, ...]
    compute_s: float
    step_s: float
    dense_s: tuple[float, ...]
    latency_s: float
    seconds_per_byte: float
    busy_cores: bool
    speeds: Mapping[Codec, Speed]


@dataclass(frozen=True)
class Prediction:
    """A step with a codec.

    Attributes:
        codec: None for dense.
        step_s: seconds.
        compressed: which buckets are compressed: those that travel faster so.
        sent_bytes: by each rank.
        exchange_s: of all buckets, whether something else goes on meanwhile or not.
    """

    codec: Codec | None
    step_s: float
    compressed: tuple[bool, ...]
    sent_bytes: float
    exchange_s: float


@dataclass(frozen=True)
class Decision:
    """What to do, why, and what all candidates were predicted to take.

    Attributes:
        chosen: dense, or what is predicted to be fastest.
        why: in one line.
        predictions: dense first.
    """

    chosen: Prediction
    why: str
    predictions: tuple[Prediction, ...]

    def contenders(self) -> list[Prediction]:
        """What is worth trying, the shortest step first; nothing where dense was chosen."""
        if self.chosen.codec is None:
            return []
        close = (p for p in self.predictions[1:] if p.step_s <= _TRIED_WITHIN * self.chosen.step_s)
        return sorted(close, key=_order)[:_TRIALS]


def traffic(speed: Speed, count: int, ranks: int) -> tuple[float, float, float]:
    """Bytes sent, messages that follow one another, and seconds of coding, of one bucket."""
    frame = speed.frame_bytes * count
    if ranks <= 2:  # every rank sends its frame to all others
        return (ranks - 1) * frame, ranks - 1, count * (speed.encode_s + ranks * speed.decode_s)
    sent = 2 * (ranks - 1) / ranks * frame
    encode_s = count * (1 + 1 / ranks) * speed.encode_s
    return sent, 2 * (ranks - 1), encode_s + 2 * count * speed.decode_s


def predict(measured: Measured, codec: Codec | None) -> Prediction:
    """A step in which each bucket travels as soon as it is ready and the one before it is done."""
    now = coding_s = sent_bytes = exchange_s = 0.0
    compressed = []
    for count, ready_s, dense_s in zip(
        measured.counts, measured.ready_s, measured.dense_s, strict=True
    ):
        took_s, sent = dense_s, 8 * (measured.ranks - 1) / measured.ranks * count
        pays = False
        if codec is not None:
            fewer, messages, coded_s = traffic(measured.speeds[codec], count, measured.ranks)
            wire_s = messages * measured.latency_s + fewer * measured.seconds_per_byte
            pays = wire_s + coded_s < dense_s
            if pays:
                took_s, sent = wire_s + coded_s, fewer
                coding_s += coded_s if measured.busy_cores else 0.0
        compressed.append(pays)
        now = max(now, ready_s) + took_s
        sent_bytes += sent
        exchange_s += took_s
    step_s = max(measured.compute_s + coding_s, now)
    return Prediction(codec, step_s, tuple(compressed), sent_bytes, exchange_s)


def decide(measured: Measured) -> Decision:
    """The fastest candidate, if it saves enough; dense otherwise."""
    dense = predict(measured, None)
    predictions = (dense, *(predict(measured, codec) for codec in measured.speeds))
    best = min(predictions, key=_order)
    saved = 1 - best.step_s / dense.step_s if dense.step_s else 0.0
    share = 1 - measured.compute_s / dense.step_s if dense.step_s else 0.0
    on_wire = f"dense steps of {_ms(dense.step_s)} wait {max(share, 0):.0%} for the exchange"
    if best.codec is None or saved < LEAST_SAVING:
        closest = min(predictions[1:], key=_order, default=dense)
        name = closest.codec or "no codec"
        return Decision(
            dense, f"none: {on_wire}; {name} would take {_ms(closest.step_s)}", predictions
        )
    buckets = f"{sum(best.compressed)} of {len(best.compressed)} buckets"
    return Decision(
        best,
        f"{best.codec} for {buckets}: {on_wire}; predicted {_ms(best.step_s)}, {saved:.0%} less",
        predictions,
    )


def _order(prediction: Prediction) -> float:
    """Of steps that are equally long, the one whose exchange is shorter has more to spare."""
    return prediction.step_s + 0.1 * prediction.exchange_s


def at_ranks(measured: Measured, ranks: int) -> Measured:
    """The same job on another number of ranks, each of which computes as long as now.

    Dense exchanges take what a ring takes on these links.
    """
    dense = tuple(
        2 * (ranks - 1) * measured.latency_s
        + 8 * (ranks - 1) / ranks * count * measured.seconds_per_byte
        for count in measured.counts
    )
    return replace(measured, ranks=ranks, dense_s=dense)


@dataclass
class Guard:
    """Goes back to dense when compression does harm. Everything it sees is the same on all ranks.

    Attributes:
        dense_loss: of the dense steps.
    """

    dense_loss: float
    loss: float = math.nan
    steps: int = 0
    errors: int = 0

    def loss_of_step(self, loss: float) -> str:
        """The reason to go back, or nothing."""
        smooth = 0.05
        self.loss = loss if math.isnan(self.loss) else (1 - smooth) * self.loss + smooth * loss
        self.steps += 1
        if self.steps >= 20 and self.loss > self.dense_loss + 0.5 * abs(self.dense_loss) + 1e-3:
            return f"the loss rose to {self.loss:.3g}, from {self.dense_loss:.3g} in dense steps"
        return ""

    def error_of_step(self, error: float) -> str:
        """The same of the relative error ``|C(y) - y|^2 / |y|^2``, where it was measured."""
        if error < 0:
            return ""
        self.errors = self.errors + 1 if not error < 0.999 else 0
        return f"frames hold next to nothing: error {error:.4g}" if self.errors >= 3 else ""


def fastest(tried: Mapping[Codec, float], dense_step_s: float) -> tuple[Codec | None, str]:
    """The codec with the shortest steps as they were measured, or None, and why.

    Args:
        tried: median seconds of a step with each codec that was tried.
        dense_step_s: the same of the dense steps.
    """
    best = min(tried, key=lambda codec: tried[codec])
    found = ", ".join(f"{codec} {_ms(step_s)}" for codec, step_s in tried.items())
    if tried[best] > (1 - LEAST_SAVING) * dense_step_s:
        return None, f"none: steps took {found}; dense ones {_ms(dense_step_s)}"
    return best, f"{best}: steps took {found}; dense ones {_ms(dense_step_s)}"


def table(decision: Decision) -> list[str]:
    """The predictions, a line each."""
    dense = decision.predictions[0]
    lines = []
    for prediction in sorted(decision.predictions, key=lambda p: p.step_s):
        name = str(prediction.codec or "none")
        lines.append(
            f"{name:<16} {_ms(prediction.step_s):>10} per step "
            f"{dense.step_s / prediction.step_s:7.2f} x  {_bytes(prediction.sent_bytes):>10} sent"
        )
    return lines


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"
