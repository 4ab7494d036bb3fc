"""Times of one rank's clock as rank 0's clock would have shown them. Pure.

Steady clocks of two hosts differ by anything, and drift apart by some microseconds a second. Of
several messages to rank 0 and back, the one that was fastest tells the difference best: the answer
was given at some time between sending and receiving, so the middle of these is wrong by half of
that time at most (Cristian 1989).

A difference that is within this error is none: clocks of ranks on one host are the same clock, and
stay so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mpimlsys.types import Array


@dataclass(frozen=True)
class Reading:
    """One comparison of this rank's clock with rank 0's.

    Attributes:
        at_ns: by this rank's clock.
        offset_ns: what to add to this rank's clock to get rank 0's.
        error_ns: by which the offset may be wrong.
    """

    at_ns: int
    offset_ns: int
    error_ns: int

    def allows(self, offset_ns: int) -> bool:
        """Whether the offset may be this one."""
        return abs(self.offset_ns - offset_ns) <= self.error_ns


def reading(echoes: Any) -> Reading:
    """The best of some echoes, as ``exchange_clocks`` of the extension gives them.

    Args:
        echoes: structured array of ``sent``, ``answered`` and ``received`` in ns; empty on rank 0.
    """
    if len(echoes) == 0:
        return Reading(0, 0, 0)
    best = echoes[np.argmin(echoes["received"] - echoes["sent"])]
    sent, answered, received = (int(best[name]) for name in ("sent", "answered", "received"))
    middle = (sent + received) // 2
    return Reading(middle, answered - middle, (received - sent + 1) // 2)


def aligned(times_ns: Array, first: Reading, last: Reading) -> Array:
    """Times of this rank by rank 0's clock; their order stays.

    Args:
        times_ns: int64, by this rank's clock.
        first, last: comparisons before and after these times. Between them the offset is taken to
            change evenly; if it may be the same at both, it is.
    """
    for offset_ns in (0, (first.offset_ns + last.offset_ns) // 2):
        if first.allows(offset_ns) and last.allows(offset_ns):
            return times_ns + offset_ns
    since = times_ns - first.at_ns
    drift = np.interp(since, [0, last.at_ns - first.at_ns], [0, last.offset_ns - first.offset_ns])
    return times_ns + first.offset_ns + np.rint(drift).astype(np.int64)
