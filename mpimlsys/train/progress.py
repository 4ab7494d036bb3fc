"""How far a run is: a bar on a terminal, lines at a bounded rate otherwise.

Guarantees: no threads; a step that is not shown costs a microsecond. A rank behind Open MPI's
``mpirun`` always writes to a pseudo-terminal; when ``mpirun`` itself does not write to a terminal
that one has no columns, and gets lines.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

_BAR_INTERVAL_S = 0.1
_FIRST_LINES, _FIRST_INTERVAL_S, _LINE_INTERVAL_S = 5, 2.0, 10.0
_SHORTEST_S = 1.0  # between lines at the ends of short epochs
_WINDOW_S = 5.0
_LINE_ABOVE = "\x1b[1A\x1b[2K"  # ANSI: up one line, erase it


@dataclass(frozen=True)
class Moment:
    """What is shown.

    Attributes:
        step, total_steps: steps done and to do, from the run's beginning.
        epoch, epochs: the epoch from 0, and how many there are.
        loss: of the last step.
        samples_per_s, left_s: None while unknown.
    """

    step: int
    total_steps: int
    epoch: int
    epochs: int
    loss: float
    samples_per_s: float | None
    left_s: float | None


class Display(Protocol):
    """A way to show moments."""

    def interval_s(self, shown: int) -> float:
        """Seconds until the next moment, after ``shown`` of them."""

    def show(self, moment: Moment) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


class Progress:
    """Follows a run on one rank.

    Args:
        unit: what a sample is, in the plural: ``"images"``.
        display: by default what fits standard output.
        clock: seconds, for tests.

    Example:
        >>> with Progress("images") as progress:
        ...     progress.start(total_steps=468, first_step=0, epochs=3)
        ...     progress.step(1, epoch=0, loss=2.3, samples=64)
    """

    def __init__(
        self,
        unit: str = "samples",
        *,
        display: Display | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._display = display or display_for(sys.stdout, unit)
        self._clock = clock
        self._total = self._epochs = self._step = self._epoch = self._samples = 0
        self._loss = float("nan")
        self._shown = self._shown_step = 0
        self._at = self._shown_at = self._due = 0.0
        self._pace = Pace()

    def start(self, total_steps: int, first_step: int, epochs: int) -> None:
        """Begin, after ``first_step`` steps of ``total_steps`` in ``epochs`` epochs."""
        self._total, self._epochs = total_steps, epochs
        self._step = self._shown_step = first_step
        self._at = self._shown_at = now = self._clock()
        self._due = now + self._display.interval_s(0)
        self._pace.restart(now, first_step, 0)

    def step(self, step: int, epoch: int, loss: float, samples: int) -> None:
        """Take note of a step: how many are done, the epoch from 0, loss, size of the batch."""
        if epoch != self._epoch:
            self._show_pending()
        self._step, self._epoch, self._loss, self._at = step, epoch, loss, self._clock()
        self._samples += samples
        if self._at >= self._due or step == self._total:
            self._show()

    def note(self, text: str) -> None:
        """Print a line; the time since the last step does not count as training."""
        self._show_pending()
        self._display.note(text)
        now = self._clock()
        self._due = now + self._display.interval_s(self._shown)
        self._pace.restart(now, self._step, self._samples)

    def close(self) -> None:
        """Show where it ended."""
        self._show_pending()
        self._display.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _show_pending(self) -> None:
        """Show the last step of an epoch, unless the epochs are so short that it floods."""
        if self._step != self._shown_step and self._at - self._shown_at >= _SHORTEST_S:
            self._show()

    def _show(self) -> None:
        self._pace.add(self._at, self._step, self._samples)
        self._shown += 1
        self._shown_at, self._shown_step = self._at, self._step
        self._due = self._at + self._display.interval_s(self._shown)
        self._display.show(
            Moment(
                self._step,
                self._total,
                self._epoch,
                self._epochs,
                self._loss,
                self._pace.samples_per_s,
                self._pace.left_s(self._total - self._step),
            )
        )


class Pace:
    """Speed over the last seconds.

    Attributes:
        samples_per_s, steps_per_s: None until known; kept over :meth:`restart`.
    """

    def __init__(self) -> None:
        self.samples_per_s: float | None = None
        self.steps_per_s: float | None = None
        self._points: deque[tuple[float, int, int]] = deque()

    def restart(self, now: float, step: int, samples: int) -> None:
        """Measure from here on."""
        self._points.clear()
        self._points.append((now, step, samples))

    def add(self, now: float, step: int, samples: int) -> None:
        """Take up where training is at ``now``: steps and samples so far."""
        points = self._points
        points.append((now, step, samples))
        while len(points) > 2 and points[1][0] <= now - _WINDOW_S:
            points.popleft()
        then, first_step, first_samples = points[0]
        if now > then and step > first_step:
            self.samples_per_s = (samples - first_samples) / (now - then)
            self.steps_per_s = (step - first_step) / (now - then)

    def left_s(self, steps: int) -> float | None:
        """Seconds that ``steps`` take at this speed."""
        return steps / self.steps_per_s if self.steps_per_s else None


class Lines:
    """Plain lines, for logs."""

    def __init__(self, stream: TextIO, unit: str) -> None:
        self._stream, self._unit = stream, unit

    def interval_s(self, shown: int) -> float:
        return _FIRST_INTERVAL_S if shown < _FIRST_LINES else _LINE_INTERVAL_S

    def show(self, moment: Moment) -> None:
        self.note(line(moment, self._unit))

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        self._stream.flush()


class Bar:
    """A bar at the foot of a terminal; what is printed meanwhile goes above it.

    Every frame is a whole line, drawn over the one before: launchers such as Open MPI's hold back
    what does not end in a newline, so that a bar that stays on its line would not be seen.
    """

    def __init__(self, console: Any, unit: str) -> None:
        self._console, self._unit = console, unit
        self._frame = ""

    def interval_s(self, shown: int) -> float:
        return _BAR_INTERVAL_S if shown else 0.0

    def show(self, moment: Moment) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        epoch, *rest = parts(moment, self._unit)
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        bar = ProgressBar(
            moment.total_steps, moment.step, complete_style="cyan", finished_style="green"
        )
        row.add_row(epoch, bar, "  ".join(rest))
        with self._console.capture() as capture:
            self._console.print(row)
        self._draw(capture.get())

    def note(self, text: str) -> None:
        frame = self._frame
        self._draw(f"{text}\n")
        self._frame = ""
        if frame:
            self._draw(frame)

    def close(self) -> None:
        """The last frame stays."""
        self._frame = ""

    def _draw(self, frame: str) -> None:
        over = _LINE_ABOVE if self._frame else ""
        self._console.file.write(over + frame)
        self._console.file.flush()
        self._frame = frame


def display_for(stream: TextIO, unit: str) -> Display:
    """A bar where someone watches, lines otherwise."""
    if stream.isatty() and os.get_terminal_size(stream.fileno()).columns:
        from rich.console import Console

        console = Console(file=stream)
        if not console.is_dumb_terminal:
            return Bar(console, unit)
    return Lines(stream, unit)


def line(moment: Moment, unit: str) -> str:
    """``epoch 1/3  step 120/468  loss 0.3124   12,345 images/s  00:42 left``."""
    return "  ".join(parts(moment, unit))


def parts(moment: Moment, unit: str) -> tuple[str, ...]:
    """The parts of :func:`line`; equal widths from one to the next, as far as that goes."""
    digits = len(str(moment.total_steps))
    speed = "--" if moment.samples_per_s is None else f"{moment.samples_per_s:,.0f}"
    left = "--:--" if moment.left_s is None else duration(moment.left_s)
    return (
        f"epoch {min(moment.epoch + 1, moment.epochs)}/{moment.epochs}",
        f"step {moment.step:{digits}}/{moment.total_steps}",
        f"loss {moment.loss:<7.4g}",
        f"{speed:>6} {unit}/s",
        f"{left} left",
    )


def duration(seconds: float) -> str:
    """``00:42``, ``1:02:03`` or ``2 d 03:04``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"
