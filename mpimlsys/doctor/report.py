"""The report, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Sequence

from mpimlsys.doctor.facts import Facts
from mpimlsys.doctor.findings import Finding, can_train

_MARKS = {"ok": "ok", "note": "note", "warning": "WARN", "error": "ERROR"}
_WIDTH = 100


def text(findings: Sequence[Finding]) -> str:
    """A table of the findings, then what to do, the gravest first."""
    width = max(len(finding.subject) for finding in findings)
    indent = " " * (5 + 2 + width + 2)
    lines = []
    for finding in findings:
        head = f"{_MARKS[finding.level]:5}  {finding.subject:{width}}  "
        lines += textwrap.wrap(
            head + finding.what, _WIDTH, subsequent_indent=indent, drop_whitespace=True
        )
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
