"""What ranks tell each other before the arrays of their GPUs are touched."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import NoReturn, TypeVar

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.network import Blocking
from mpimlsys.types import Array

_TEXT = 232  # bytes of what a rank is about to do
_CALL = struct.Struct(f"<16s{_TEXT}sq")
T = TypeVar("T")


class Refused(ConfigError):
    """All ranks met it alike, and nothing has happened: what comes next may go on."""

    on_all_ranks = True


class Agreement:
    """The ranks of a queue, whose operations run one after the other.

    Args:
        ranks: what they do together.
        size: number of ranks.
    """

    def __init__(self, ranks: Blocking, size: int) -> None:
        self._ranks, self._size = ranks, size

    def tell(self, record: bytes, label: str, timeout_s: float) -> list[bytes]:
        """Every rank's record; all are of one length."""
        mine: Array = np.frombuffer(record, np.uint8).copy()
        told = np.empty((self._size, len(record)), np.uint8)
        self._ranks.all_gather(mine, told, label=label, timeout_s=timeout_s)
        return [row.tobytes() for row in told]

    def compare(self, call: str, label: str, timeout_s: float, *, own: int = 0) -> list[int]:
        """Find out whether all ranks are about to do the same.

        Args:
            call: what this rank does, as a part of a sentence.
            label, timeout_s: of the operation.
            own: a number to tell the others; it need not be the same.

        Returns:
            Every rank's number.

        Raises:
            Refused: they are not.
        """
        text = call.encode()
        shown = text if len(text) <= _TEXT else text[: _TEXT - 3] + b"..."
        record = _CALL.pack(hashlib.sha256(text).digest()[:16], shown, own)
        calls = [_CALL.unpack(told) for told in self.tell(record, label, timeout_s)]
        for rank, (digest, told, _) in enumerate(calls):
            if digest != calls[0][0]:
                first, other = (_read(text) for text in (calls[0][1], told))
                raise Refused(f"the ranks disagree: rank 0 {first}, rank {rank} {other}.")
        return [number for _, _, number in calls]

    def refuse(self, call: str, label: str, timeout_s: float) -> NoReturn:
        """Tell the others, who compare what they do, that this rank cannot.

        Raises:
            Refused: on them, too; it says why.
        """
        self.compare(call.rstrip("."), label, timeout_s)
        raise Refused(f"every rank {call}")

    def make(self, make: Callable[[], T], what: str, label: str, timeout_s: float) -> T:
        """What ``make`` makes.

        Raises:
            Refused: a rank could not make it, on all of them.
        """
        why = ""
        try:
            made = make()
        except (ConfigError, MemoryError, RuntimeError) as error:  # ours, CuPy's, PyTorch's
            why = f"lacks {what}: {error}"
        if why:
            self.refuse(why, label, timeout_s)
        self.compare(f"has {what}", label, timeout_s)
        return made

    def all_can(self, can: bool, label: str, timeout_s: float) -> bool:
        """Whether all ranks can."""
        return all(record == b"\1" for record in self.tell(bytes([can]), label, timeout_s))

    def meet(self, label: str, timeout_s: float) -> None:
        """Return when all ranks are here."""
        self._ranks.barrier(label=label, timeout_s=timeout_s)


def _read(text: bytes) -> str:
    return text.rstrip(b"\0").decode(errors="ignore")
