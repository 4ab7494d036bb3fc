"""Which bytes go where: arithmetic, the same on all ranks.

A *place* is an address and a number of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

Place = tuple[int, int]


@dataclass(frozen=True)
class Pull:
    """Bytes of a rank's array, and where this rank wants them.

    Attributes:
        rank: whose.
        start: the first of them in its array.
        into: address of this rank's memory.
        nbytes: how many.
    """

    rank: int
    start: int
    into: int
    nbytes: int


def cut(place: Place, each: int) -> list[Place]:
    """Consecutive places of ``each`` bytes; the last may have fewer."""
    address, nbytes = place
    return [(address + at, min(each, nbytes - at)) for at in range(0, nbytes, each)]


def consecutive(address: int, lengths: Sequence[int]) -> list[Place]:
    """Places of these lengths, one after the other."""
    return list(zip(accumulate(lengths, initial=address), lengths, strict=False))


def slice_of(places: Sequence[Place], at: int, each: int) -> list[Place]:
    """Of every place at most ``each`` bytes from byte ``at`` on."""
    return [(address + at, min(max(nbytes - at, 0), each)) for address, nbytes in places]


def pulls_of(lengths: Sequence[Sequence[int]], rank: int, into: int) -> list[Pull]:
    """What a rank gets where all have something for all.

    Args:
        lengths: bytes, by sender and receiver.
        rank: the receiver.
        into: address of its memory, where parts follow one another in the order of senders.
    """
    places = consecutive(into, [row[rank] for row in lengths])
    return [
        Pull(sender, sum(row[:rank]), address, nbytes)
        for sender, (row, (address, nbytes)) in enumerate(zip(lengths, places, strict=True))
    ]


def shares(rows: int, ranks: int) -> list[int]:
    """How many rows each rank has: as many as others, the first ones perhaps one more."""
    least, longer = divmod(rows, ranks)
    return [least + (rank < longer) for rank in range(ranks)]


def rounds(rows: int, row: int, ranks: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Share out rows of ``row`` bytes in rounds of equal pieces, each of at most ``most`` bytes.

    Yields:
        (start, length, count): in this round the first ``count`` ranks get so many bytes of their
        shares, from byte ``start`` of them on.
    """
    least, longer = divmod(rows, ranks)
    for start, length in cut((0, least * row), most):
        yield start, length, ranks
    if longer:
        for start, length in cut((least * row, row), most):
            yield start, length, longer


def fused(lengths: Sequence[int], most: int) -> list[range]:
    """Neighbours that have at most ``most`` bytes together; a longer one is alone."""
    groups = []
    first = total = 0
    for index, length in enumerate(lengths):
        if index > first and total + length > most:
            groups.append(range(first, index))
            first, total = index, 0
        total += length
    return [*groups, range(first, len(lengths))] if lengths else []
