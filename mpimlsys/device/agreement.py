"""What ranks tell each other before the arrays of their GPUs are touched."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.types import Array


class Refused(ConfigError):
    """All ranks met it alike, and nothing has happened: what comes next may go on."""

    on_all_ranks = True


class Agreement:
    """The ranks of a queue, whose operations run one after the other.

    Args:
        engine: of the ranks, for this alone.
        size: number of ranks.
    """

    def __init__(self, engine: Any, size: int) -> None:
        self._engine, self._size = engine, size

    def tell(self, record: bytes, label: str, timeout_s: float) -> list[bytes]:
        """Every rank's record; all are of one length."""
        mine: Array = np.frombuffer(record, np.uint8).copy()
        told = np.empty((self._size, len(record)), np.uint8)
        ticket = self._engine.all_gather(mine, told, label=label, timeout_s=timeout_s)
        self._engine.wait(ticket, timeout_s=timeout_s)
        return [row.tobytes() for row in told]

    def all_can(self, can: bool, label: str, timeout_s: float) -> bool:
        """Whether all ranks can."""
        return all(record == b"\1" for record in self.tell(bytes([can]), label, timeout_s))

    def meet(self, label: str, timeout_s: float) -> None:
        """Return when all ranks are here."""
        ticket = self._engine.barrier(label=label, timeout_s=timeout_s)
        self._engine.wait(ticket, timeout_s=timeout_s)
