"""What a step and an evaluation tell, and what ranks ask for; and the clock of a step's parts."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from mpimlsys.errors import MpimlsysError


@dataclass(frozen=True)
class Intentions:
    """What one rank asks for at the next step; the ranks act on what any of them asks.

    Attributes:
        stop_signal: number of the signal that asked to stop, 0 for none.
        checkpoint: whether a checkpoint is due.
        written: whether this rank has written its share of the last checkpoint.
        failure: an error of this rank alone, to be raised on all.
    """

    stop_signal: int = 0
    checkpoint: bool = False
    written: bool = False
    failure: MpimlsysError | None = None


@dataclass(frozen=True)
class StepReport:
    """One step as all ranks saw it; the times are this rank's, in seconds.

    Attributes:
        step: steps done, counting this one.
        epoch: from 0.
        epoch_end: whether it was the epoch's last step.
        loss: mean over the global batch.
        samples: size of the global batch.
        lr: the learning rate that was used.
        stop_signal, checkpoint: what any rank asked for.
        written: whether all ranks have written their share of the last checkpoint.
        time_s: of the whole step.
        data_s: waiting for the batch.
        forward_s, backward_s: computing, with the loss in forward.
        exchange_s: waiting for the exchange after backward has ended (exposed).
        optimizer_s: clipping and updating.
        sent_bytes: by this rank, in frames; None where gradients travelled dense.
        staleness: pulls of parameters that found the slowest worker 0, 1, ... steps behind; the
            last counts all above. None where they wait for all.
    """

    step: int
    epoch: int
    epoch_end: bool
    loss: float
    samples: int
    lr: float
    stop_signal: int
    checkpoint: bool
    written: bool
    time_s: float
    data_s: float
    forward_s: float
    backward_s: float
    exchange_s: float
    optimizer_s: float
    sent_bytes: int | None = None
    staleness: list[int] | None = None


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and measure over a data set (accuracy, or mean squared error)."""

    loss: float
    measure: float
    measure_name: str
    samples: int


class Clock:
    """Splits a step's time into parts, see :class:`StepReport`, and notes them in a trace.

    Args:
        trace: the rank's, see :func:`mpimlsys.trace`.
    """

    def __init__(self, trace: Any) -> None:
        parts = ("data", "forward", "backward", "exchange", "optimizer")
        self.seconds = {f"{part}_s": 0.0 for part in parts}
        self._trace = trace
        self._started = self._last = perf_counter()

    def lap(self, part: str) -> None:
        """Count the time since the last lap to a part."""
        now = perf_counter()
        self.seconds[f"{part}_s"] += now - self._last
        self._trace.add(part, self._last, now)
        self._last = now

    def end(self, step: int) -> float:
        """The time of the whole step, of this number."""
        now = perf_counter()
        self._trace.add("step", self._started, now, step)
        return now - self._started
