"""Signals that ask a run to stop: noted at once, acted on at the next step by all ranks.

SIGINT (Ctrl-C), SIGTERM (a scheduler's end of time) and SIGUSR1 (a launcher that cannot forward
the others, a scheduler's early warning) all mean: finish the step, write a checkpoint, end. A
second Ctrl-C does not wait.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Context manager that catches :data:`STOP_SIGNALS` and remembers the first one.

    Attributes:
        signal_number: the first signal received, 0 for none.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal_number == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number
