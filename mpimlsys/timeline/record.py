"""Notes what every rank does while a part of a program runs, and writes it into one file."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from mpimlsys import __version__, context
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, MpimlsysError
from mpimlsys.timeline import clocks, lines

LIMIT = 1_000_000  # events of a rank, of 40 bytes
_TURNS = 20  # messages to rank 0 for one comparison of clocks
_AT_A_TIME = 20_000  # events of a rank that are sent together


@contextmanager
def trace(path: str | Path, *, limit: int = LIMIT) -> Iterator[None]:
    """Note what every rank does meanwhile, and write it to ``path`` on rank 0. Collective.

    Nothing is written when an error ends the part that not all ranks raise.

    Args:
        path: of a file that ui.perfetto.dev opens; compressed if it ends in ``.gz``.
        limit: events of a rank that are kept; later ones are only counted.

    Raises:
        ConfigError: the file cannot be written, or a trace is being recorded already.

    Example:
        >>> with mls.trace("steps.json.gz"):
        ...     trainer.fit(dataset, max_steps=20)
    """
    ctx = context.init().among_peers()
    if ctx.trace.on:
        raise ConfigError("a trace is being recorded already; end it before the next one.")
    with ExitStack() as stack:
        stack.callback(ctx.trace.stop)
        timeline = _Timeline(ctx, Path(path), limit)
        stack.callback(timeline.close)
        try:
            yield
        except MpimlsysError as error:
            if error.on_all_ranks:
                timeline.write()
            raise
        timeline.write()


class _Timeline:
    """A trace under way. Making and writing it is collective."""

    def __init__(self, ctx: Context, path: Path, limit: int) -> None:
        self._ctx, self._path = ctx, path
        self._part = path.with_name(f".{path.name}.part")
        self._file: IO[bytes] | gzip.GzipFile | None = None  # on rank 0
        self._failure: OSError | None = None
        with ctx.together():
            if ctx.is_root:
                self._file = self._open()
        self._first = self._reading()
        ctx.trace.start(limit)

    def write(self) -> None:
        """Write the file; rank 0 says where it is, and closes it."""
        ctx = self._ctx
        ctx.trace.stop()
        last = self._reading()
        rows, names, tracks, dropped = ctx.trace.records()
        starts = clocks.aligned(rows["start_ns"], self._first, last)
        ends = clocks.aligned(rows["start_ns"] + rows["duration_ns"], self._first, last)
        firsts = ctx.gather(np.array([starts.min(initial=np.iinfo(np.int64).max)]))
        starts, ends = starts - firsts.min(), ends - firsts.min()
        host = socket.gethostname()
        about = {
            "rank": ctx.rank,
            "host": host,
            "events": len(rows),
            "events_dropped": dropped,
            "clock_offset_us": [self._first.offset_ns / 1e3, last.offset_ns / 1e3],
            "clock_error_us": max(self._first.error_ns, last.error_ns) / 1e3,
        }
        ranks = [json.loads(text) for text in ctx.gather_bytes(json.dumps(about).encode())]
        self._append(lines.head({"mpimlsys": __version__, "ranks": ranks}))
        mine = list(lines.names(ctx.rank, f"rank {ctx.rank} ({host}, {ctx.role})", tracks))
        for start in range(0, max(1, *(rank["events"] for rank in ranks)), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            mine += lines.events(ctx.rank, start, rows[part], starts[part], ends[part], names)
            collected = self._collected(lines.SEPARATOR.join(mine))
            self._append(lines.SEPARATOR * (start > 0) + collected)
            mine = []
        self._append(lines.TAIL)
        with ctx.together():
            if self._file is not None:
                self._commit()
                print(self._told(ranks), flush=True)

    def close(self) -> None:
        """Remove what was not completed. Local."""
        if self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)

    def _reading(self) -> clocks.Reading:
        ctx = self._ctx
        echoes = ctx.native.exchange_clocks(ctx.transport, _TURNS, timeout_s=ctx.timeout_s)
        return clocks.reading(echoes)

    def _collected(self, mine: str) -> str:
        """The lines of all ranks, on rank 0 only. Collective."""
        ctx, sent = self._ctx, np.frombuffer(mine.encode(), np.uint8)
        lengths = [len(sent)] + [0] * (ctx.size - 1)
        parts = ctx.native.all_to_all(ctx.transport, sent, lengths, timeout_s=ctx.timeout_s)
        texts = np.split(parts.data, np.cumsum(parts.lengths)[:-1])
        return lines.SEPARATOR.join(text.tobytes().decode() for text in texts if len(text))

    def _open(self) -> IO[bytes] | gzip.GzipFile:
        try:
            if self._path.suffix == ".gz":
                return gzip.open(self._part, "wb", compresslevel=6)
            return self._part.open("wb")
        except OSError as error:
            raise self._cannot_write(error) from error

    def _append(self, text: str) -> None:
        """Write on rank 0; a failure is kept for the end, as the others still send."""
        if self._file is None or self._failure is not None:
            return
        try:
            self._file.write(text.encode())
        except OSError as error:
            self._failure = error

    def _commit(self) -> None:
        assert self._file is not None
        try:
            if self._failure is not None:
                raise self._failure
            self._file.close()
            self._part.replace(self._path)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"cannot write the trace {self._path}: {error.strerror or error}. Name a file in a "
            "folder that exists, is writable and has room."
        )

    def _told(self, ranks: list[dict[str, Any]]) -> str:
        events = sum(rank["events"] for rank in ranks)
        dropped = sum(rank["events_dropped"] for rank in ranks)
        lost = f"; {dropped:,} later ones found no room" if dropped else ""
        count = f"{len(ranks)} rank{'s' * (len(ranks) > 1)}"
        return f"trace {self._path}: {events:,} events of {count}{lost}; open it at ui.perfetto.dev"
