"""One line of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What was found, and what to do about it.

    Attributes:
        subject: what it is about.
        level: ``error`` when training cannot run, ``warning`` when it would suffer, ``note`` for
            what one should know, else ``ok``.
        what: what was found.
        remedy: what to do, with the command where there is one; empty when nothing is to be done.
    """

    subject: str
    level: Level
    what: str
    remedy: str = ""


def count(number: int, noun: str) -> str:
    """``"1 rank"``, ``"2 ranks"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
