"""``metrics.jsonl``: one JSON object per line, one line per step and per evaluation."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys.errors import CorruptData
from mpimlsys.train.durable import cannot_write, replace_file

_FLUSH_S = 1.0

Record = dict[str, Any]


class MetricsWriter:
    """Appends records; at most a second of them is held back.

    Args:
        path: the file.
        resume_step: None starts an empty file; a number keeps the whole lines up to that step.
        clock: seconds, for tests.

    Raises:
        ConfigError: the file system refuses, here and in all methods. What a refused write left
            is taken back, so that the file always ends in a whole line.
    """

    def __init__(
        self,
        path: Path,
        resume_step: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._clock = clock
        self._flushed_at = clock()
        self._pending: list[str] = []
        try:
            replace_file(path, b"" if resume_step is None else _lines_up_to(path, resume_step))
            self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise cannot_write(path, error, "job.out") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. Numbers that are not finite become null."""
        self._pending.append(to_json(record) + "\n")
        if self._clock() - self._flushed_at >= _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Hand what is held back to the system: it survives this process."""
        if self._descriptor is None:
            return
        data = "".join(self._pending).encode()
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


def read_metrics(path: Path) -> list[Record]:
    """All records; a last line that was cut short by a crash is left out.

    Raises:
        CorruptData: a line before the last is not a JSON object.
        OSError: the file cannot be read.
    """
    records = []
    for number, line in enumerate(_whole_lines(path), start=1):
        record = _parse(line)
        if record is None:
            raise CorruptData(f"{path}: line {number} is not a JSON object")
        records.append(record)
    return records


def to_json(record: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON of a flat record; NumPy scalars as numbers, what is not finite as null."""
    plain = {name: _plain(value) for name, value in record.items()}
    return json.dumps(plain, indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _lines_up_to(path: Path, step: int) -> bytes:
    """The lines that a resumed run keeps; damaged ones are dropped, as metrics decide nothing."""
    if not path.exists():
        return b""
    kept = []
    for line in _whole_lines(path):
        record = _parse(line)
        if record is not None and isinstance(at := record.get("step"), int) and at <= step:
            kept.append(line)
    return b"".join(kept)


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
