"""Sets of small numbers as the Linux kernel writes them: ``0-3,8``. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def compact(numbers: Iterable[int]) -> str:
    """``{0, 1, 2, 5}`` as ``"0-2,5"``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def expand(text: str) -> frozenset[int]:
    """The inverse of :func:`compact`."""
    found: set[int] = set()
    for run in filter(None, text.strip().split(",")):
        first, _, last = run.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)
