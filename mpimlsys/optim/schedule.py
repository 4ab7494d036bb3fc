"""Learning-rate schedules: functions from the step, counted from 0, to a factor of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """Always 1."""
    return lambda _: 1.0


def step(every: int, gamma: float = 0.1) -> Schedule:
    """Times ``gamma`` after each ``every`` steps."""
    return lambda at: gamma ** (at // every)


def cosine(total: int, floor: float = 0.0) -> Schedule:
    """Half a cosine from 1 to ``floor`` over ``total`` steps, then ``floor``.

    Source:
        Loshchilov, Hutter 2017, "SGDR", eq. 5, without restarts.
    """

    def factor(at: int) -> float:
        progress = min(at, total) / max(1, total)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return factor


def warmup(steps: int, schedule: Schedule) -> Schedule:
    """A linear rise from ``1 / steps`` to 1, then ``schedule`` from its beginning.

    Source:
        Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.2.
    """
    if steps == 0:
        return schedule
    return lambda at: (at + 1) / steps if at < steps else schedule(at - steps)
