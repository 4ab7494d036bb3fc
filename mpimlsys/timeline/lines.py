"""Events as lines of the Trace Event format, which ui.perfetto.dev and chrome://tracing read. Pure.

A process of the format is a rank, a thread of it a thread of the rank. What a thread did is a
complete event (``X``); those of one thread are nested. What waited for a thread is a pair of
asynchronous events (``b``, ``e``), as several may wait at a time. Times are microseconds.

Source: "Trace Event Format", Nicholas Duca and Dean Sinclair, Google.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mpimlsys.types import Array

QUEUE = 0  # the track of what waits


SEPARATOR = ",\n"
TAIL = "\n]}\n"


def head(metadata: Mapping[str, Any]) -> str:
    """The beginning of a file, up to its first line; separators go between lines, then the tail."""
    return f'{{"displayTimeUnit": "ms",\n"otherData": {json.dumps(metadata)},\n"traceEvents": [\n'


def names(rank: int, title: str, tracks: Sequence[str]) -> Iterator[str]:
    """Lines that name a rank and its threads.

    Args:
        rank: in the world.
        title: of the rank.
        tracks: of the rank; the first is that of what waits.
    """
    yield _metadata(rank, 0, "process_name", name=title)
    yield _metadata(rank, 0, "process_sort_index", sort_index=rank)
    for track, name in list(enumerate(tracks))[1:]:
        yield _metadata(rank, track, "thread_name", name=name)
        yield _metadata(rank, track, "thread_sort_index", sort_index=track)


def events(
    rank: int, first: int, rows: Any, starts_ns: Array, ends_ns: Array, known: Sequence[str]
) -> Iterator[str]:
    """Lines of some events of a rank.

    Args:
        rank: in the world.
        first: number of the first of these events among those of the rank.
        rows: as ``Trace.records`` of the extension gives them.
        starts_ns, ends_ns: of each, by rank 0's clock, since the beginning.
        known: names that the events refer to.
    """
    quoted = [json.dumps(name) for name in known]
    columns = (rows["name"], rows["track"], rows["number"], rows["bytes"], starts_ns, ends_ns)
    table = zip(*(column.tolist() for column in columns), strict=True)
    for index, (name, track, number, size, start, end) in enumerate(table, start=first):
        common = f'"name": {quoted[name]}, "pid": {rank}'
        if track == QUEUE:
            common += f', "tid": 0, "cat": "queue", "id2": {{"local": "{index:#x}"}}'
            yield f'{{"ph": "b", {common}, "ts": {_us(start)}}}'
            yield f'{{"ph": "e", {common}, "ts": {_us(end)}}}'
            continue
        facts = [f'"number": {number}'] if number else []
        facts += [f'"bytes": {size}'] if size else []
        args = f', "args": {{{", ".join(facts)}}}' if facts else ""
        times = f'"ts": {_us(start)}, "dur": {_us(end - start)}'
        yield f'{{"ph": "X", {common}, "tid": {track}, {times}{args}}}'


def _metadata(rank: int, track: int, kind: str, **args: Any) -> str:
    return json.dumps({"ph": "M", "name": kind, "pid": rank, "tid": track, "args": args})


def _us(ns: int) -> str:
    whole, rest = divmod(ns, 1000)  # exact, so that events stay nested
    return f"{whole}.{rest:03d}"
