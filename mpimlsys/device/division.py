"""Which rank owns which elements of an array, where owners add up; as csrc/comm/division.hpp."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

# the numbers of patterns in a state, see csrc/comm/compressor.hpp
NOBODY, OWNERS, BALANCED = 0, 2, 4
BLOCK = 64  # elements that follow one another, where owners have them in turn


@dataclass(frozen=True)
class Part:
    """Elements ``start`` to ``stop - 1``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Rows:
    """``count`` rows of ``length`` elements, whose starts are ``step`` elements apart."""

    start: int
    step: int
    length: int
    count: int


@dataclass(frozen=True)
class Division:
    """How an array is cut.

    Attributes:
        pattern: ``OWNERS``: parts of whole granules; ``BALANCED``: blocks in turn; ``NOBODY``.
        granule: elements.
    """

    pattern: int = NOBODY
    granule: int = 1

    def rows(self, owner: int, count: int, ranks: int) -> list[Rows]:
        """The elements that a rank owns of ``count``, in the order in which it keeps them."""
        found = []
        if self.pattern == OWNERS:
            part = parts_of(count, self.granule, ranks)[owner]
            found = [Rows(part.start, part.length, part.length, 1)]
        elif self.pattern == BALANCED:
            step, first = BLOCK * ranks, BLOCK * owner
            turns, rest = divmod(count, step)
            last = min(max(rest - first, 0), BLOCK)
            found = [Rows(first, step, BLOCK, turns), Rows(turns * step + first, step, last, 1)]
        return [rows for rows in found if rows.length and rows.count]

    def share(self, owner: int, count: int, ranks: int) -> int:
        """How many these are."""
        return sum(rows.length * rows.count for rows in self.rows(owner, count, ranks))


def parts_of(count: int, granule: int, ranks: int) -> list[Part]:
    """The part of each rank: whole granules, whose numbers differ by at most one."""
    granules = -(-count // granule)
    each, longer = divmod(granules, ranks)
    edges = [min((rank * each + min(rank, longer)) * granule, count) for rank in range(ranks + 1)]
    return [Part(start, stop) for start, stop in pairwise(edges)]
