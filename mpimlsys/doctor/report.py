"""The report, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence

from mpimlsys.doctor.facts import Facts, Place
from mpimlsys.doctor.finding import Finding, count
from mpimlsys.doctor.findings import can_train
from mpimlsys.doctor.placement import gpu_of_each
from mpimlsys.doctor.ranges import compact

_MARKS = {"ok": "ok", "note": "note", "warning": "WARN", "error": "ERROR"}
_WIDTH = 100
_ROWS = 14  # of the table of ranks
_RANKS_WIDTH = 24


def text(findings: Sequence[Finding], places: Sequence[Place] = ()) -> str:
    """The findings, where the ranks run, then what to do, the gravest first."""
    width = max(len(finding.subject) for finding in findings)
    indent = " " * (5 + 2 + width + 2)
    lines = []
    for finding in findings:
        head = f"{_MARKS[finding.level]:5}  {finding.subject:{width}}  "
        lines += textwrap.wrap(
            head + finding.what, _WIDTH, subsequent_indent=indent, drop_whitespace=True
        )
    if places:
        lines += ["", *table(places)]
    todo = [
        finding
        for level in ("error", "warning", "note")
        for finding in findings
        if finding.level == level and finding.remedy
    ]
    if todo:
        lines += ["", "What to do"]
        for finding in todo:
            lines += [f"  {finding.subject}:", f"    {finding.remedy}"]
    lines += ["", "Training can run." if can_train(findings) else "Training cannot run."]
    return "\n".join(lines)


def table(places: Sequence[Place]) -> list[str]:
    """One row per kind of place, at most 16 lines.

    Hosts that are alike share rows when there would be too many. The GPU is the one that the rank
    would use.
    """
    rows = _rows(places, each_host=True)
    if len(rows) > _ROWS:
        rows = _rows(places, each_host=False)
    cells = [("ranks", "host", "cores", "NUMA", "GPU"), *rows[:_ROWS]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    if len(rows) > _ROWS:
        lines.append(f"{len(rows) - _ROWS} more rows: mpimlsys doctor --json")
    return lines


def _rows(places: Sequence[Place], *, each_host: bool) -> list[tuple[str, ...]]:
    alike: dict[tuple[str, ...], list[int]] = {}
    for rank, (place, gpu) in enumerate(zip(places, gpu_of_each(places), strict=True)):
        shown = (gpu[:12] if each_host else f"one of {len(place.gpus)}") if gpu else "none"
        host = place.host if each_host else ""
        alike.setdefault((host, place.cores, place.numa or "?", shown), []).append(rank)
    rows = []
    for (host, *others), ranks in alike.items():
        hosts = len({places[rank].host for rank in ranks})
        numbers = compact(ranks)
        if len(numbers) > _RANKS_WIDTH:
            numbers = count(len(ranks), "rank")
        rows.append((numbers, host or count(hosts, "host"), *others))
    return rows


def as_json(facts: Facts, findings: Sequence[Finding]) -> str:
    """One object.

    ``{"format": 1, "can_train": bool, "findings": [{"subject", "level", "what", "remedy"}],
    "facts": {...}}`` with ``facts`` as in :mod:`mpimlsys.doctor.facts`; fields may be added to
    format 1 but neither removed nor changed.
    """
    return json.dumps(
        {
            "format": 1,
            "can_train": can_train(findings),
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "facts": dataclasses.asdict(facts),
        },
        indent=2,
    )
