"""When a checkpoint is due: by time, by steps, by epochs, or only at the end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mpimlsys.errors import ConfigError

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Cadence:
    """One of the three intervals is set, or none for "only at the end".

    Attributes:
        seconds, steps, epochs: the interval; 0 where it does not apply.
    """

    seconds: float = 0.0
    steps: int = 0
    epochs: int = 0

    def due(self, *, elapsed_s: float, steps_done: int, epochs_done: int) -> bool:
        """Whether a checkpoint is due.

        Args:
            elapsed_s: seconds since the last one.
            steps_done: steps of the run so far.
            epochs_done: whole epochs of the run if one has just ended, else 0.
        """
        if self.seconds:
            return elapsed_s >= self.seconds
        if self.steps:
            return steps_done % self.steps == 0
        return bool(self.epochs) and epochs_done > 0 and epochs_done % self.epochs == 0


def parse_cadence(text: str) -> Cadence:
    """Read ``checkpoint.every``.

    Raises:
        ConfigError: anything but a time, a number of steps or epochs, or ``end``.

    Example:
        >>> parse_cadence("5min").seconds, parse_cadence("100 steps").steps
        (300.0, 100)
    """
    if text.strip() == "end":
        return Cadence()
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|steps?|epochs?)\s*", text)
    if match and float(match[1]) > 0:
        number, unit = float(match[1]), match[2]
        if unit in _SECONDS:
            return Cadence(seconds=number * _SECONDS[unit])
        if number == int(number):
            if unit.startswith("step"):
                return Cadence(steps=int(number))
            return Cadence(epochs=int(number))
    raise ConfigError(
        f"checkpoint.every = {text!r}: write a time ('30s', '5min', '1h'), '100 steps', '1 epoch' "
        "or 'end'."
    )
