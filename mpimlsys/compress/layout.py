"""Which elements of a bucket are compressed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpimlsys.compress.compression import Compression
from mpimlsys.types import Bucket, Segment


@dataclass(frozen=True)
class Layout:
    """Elements of a bucket, counted from its start.

    Attributes:
        parts: (start, length) of what is compressed, ascending; the rest travels as it is.
        matrices: (start, rows, columns) of what ``power_sgd`` factorises, where ``start`` counts
            compressed elements only.
    """

    parts: tuple[tuple[int, int], ...]
    matrices: tuple[tuple[int, int, int], ...] = ()

    @property
    def compressed(self) -> int:
        """Number of elements that are compressed."""
        return sum(length for _, length in self.parts)


def layout(bucket: Bucket, segments: Sequence[Segment], compression: Compression) -> Layout:
    """What is compressed of a bucket.

    Args:
        bucket: a range of the flat gradient.
        segments: the places of all parameters.
        compression: its ``min_elements``, and its codec.
    """
    inside = [s for s in segments if bucket.start <= s.start and s.stop <= bucket.stop]
    if compression.codec.name == "power_sgd":
        return _matrices(bucket, inside, int(compression.codec.amount), compression.min_elements)
    if compression.min_elements == 0:
        return Layout(((0, bucket.stop - bucket.start),))
    parts: list[tuple[int, int]] = []
    for segment in sorted(inside, key=lambda s: s.start):
        length = segment.stop - segment.start
        if length >= compression.min_elements and len(segment.shape) > 1:
            start = segment.start - bucket.start
            if parts and sum(parts[-1]) == start:
                start, before = parts.pop()
                length += before
            parts.append((start, length))
    return Layout(tuple(parts))


def _matrices(bucket: Bucket, inside: Sequence[Segment], rank: int, min_elements: int) -> Layout:
    parts: list[tuple[int, int]] = []
    matrices: list[tuple[int, int, int]] = []
    at = 0
    for segment in sorted(inside, key=lambda s: s.start):
        if len(segment.shape) < 2:
            continue
        rows, columns = segment.shape[0], math.prod(segment.shape[1:])
        count = rows * columns
        # two factors that are no smaller than the matrix are no compression
        if count < min_elements or rank * (rows + columns) >= count:
            continue
        parts.append((segment.start - bucket.start, count))
        matrices.append((at, rows, columns))
        at += count
    return Layout(tuple(parts), tuple(matrices))
