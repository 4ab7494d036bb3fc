"""``metrics.jsonl``: one JSON object per line, one line per step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys.errors import CorruptData
from mpimlsys.train.appended import AppendedFile
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
        ConfigError: the file system refuses, here and in all methods; the file ends in a whole
            line all the same.
    """

    def __init__(
        self,
        path: Path,
        resume_step: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            replace_file(path, b"" if resume_step is None else _lines_up_to(path, resume_step))
        except OSError as error:
            raise cannot_write(path, error, "job.out") from error
        self._file = AppendedFile(path, flush_s=_FLUSH_S, clock=clock)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. Numbers that are not finite become null."""
        self._file.append(f"{to_json(record)}\n".encode())

    def flush(self) -> None:
        """Hand what is held back to the system: it survives this process."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close; closing again does nothing."""
        self._file.close()


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
