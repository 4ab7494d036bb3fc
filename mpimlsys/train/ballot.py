"""What all workers vote on in each step: the loss, failures, wishes to stop or to save.

Votes are summed by an all-reduce. Where workers may be some steps apart, so may its result: votes
of step t are counted in step t + lag, by all workers alike, without making anybody wait who may
run ahead.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from mpimlsys.context import Context
from mpimlsys.types import Array

LABEL = "the ballot"


class Ballots:
    """The votes of a run.

    Args:
        ctx: of the workers.
        lag: steps after which votes are counted; 0 waits for all.

    Attributes:
        lag: of these workers; 0 where there is one.
    """

    def __init__(self, ctx: Context, lag: int) -> None:
        self._ctx = ctx
        self.lag = lag if ctx.group.size > 1 else 0
        self._engine: Any = ctx.peers.open_engine() if self.lag else None
        self._cast: deque[tuple[int, Array]] = deque()

    def cast(self, votes: Array) -> Array | None:
        """Add this worker's votes of a step. Collective.

        Returns:
            The sums of the votes that are due; None in the first ``lag`` steps.
        """
        ctx = self._ctx
        if self._engine is None:
            ctx.native.all_reduce(
                ctx.peers.transport, votes, "sum", label=LABEL, timeout_s=ctx.timeout_s
            )
            return votes
        own = votes.copy()
        ticket = self._engine.all_reduce(own, "sum", label=LABEL, timeout_s=ctx.timeout_s)
        self._cast.append((ticket, own))
        return self._count() if len(self._cast) > self.lag else None

    def rest(self) -> list[Array]:
        """Votes that were cast and not counted yet, in their order. Collective."""
        return [self._count() for _ in range(len(self._cast))]

    def close(self) -> None:
        """Stop the background thread."""
        if self._engine is not None:
            self._engine.close(timeout_s=5.0)

    def _count(self) -> Array:
        ticket, votes = self._cast.popleft()
        self._engine.wait(ticket, timeout_s=self._ctx.timeout_s)
        return votes


def estimate(votes: Array, workers: int) -> Array:
    """What stands for the sums while nothing is due: nobody wishes anything."""
    sums = np.zeros_like(votes)
    sums[0] = votes[0] * workers
    return sums
