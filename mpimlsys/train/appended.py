"""A file that grows by whole records."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from mpimlsys.train.durable import cannot_write


class AppendedFile:
    """Appends records to a file; holds them back for ``flush_s`` at most while more arrive.

    What a refused write left is taken back, so that the file always ends in a whole record; the
    records of that write are lost, later ones may succeed.

    Args:
        path: made if missing.
        flush_s: seconds between writes.
        clock: seconds, for tests.

    Raises:
        ConfigError: the file system refuses, here and in all methods.
    """

    def __init__(
        self, path: Path, *, flush_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._flush_s, self._clock = path, flush_s, clock
        self._flushed_at = clock()
        self._pending: list[bytes] = []
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor: int | None = os.open(path, flags, 0o666)
        except OSError as error:
            raise cannot_write(path, error, "job.out") from error

    def append(self, record: bytes) -> None:
        """Add one record."""
        self._pending.append(record)
        if self._clock() - self._flushed_at >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        """Hand what is held back to the system: it survives this process."""
        if self._descriptor is None:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self._flushed_at = self._clock()
        whole = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # the first refusal is the one to tell
                os.ftruncate(self._descriptor, whole)
            raise cannot_write(self._path, error, "job.out") from error

    def close(self) -> None:
        """Flush and close; closing again does nothing."""
        if self._descriptor is None:
            return
        try:
            self.flush()
        finally:
            os.close(self._descriptor)
            self._descriptor = None
