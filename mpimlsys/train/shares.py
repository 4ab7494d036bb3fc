"""Which rank writes which part of a state. Pure.

Ranks write contiguous ranges of equal bytes; a range may begin and end inside a tensor, so that
one large tensor does not make one rank slow. Reading puts the pieces together again, whatever the
number of ranks then is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpimlsys.types import Array

_SMALLEST_BYTES = 4 << 20  # a state below twice this is one file of rank 0
_ALIGN_BYTES = 64


@dataclass(frozen=True)
class Part:
    """A range of a tensor's elements in row-major order.

    Attributes:
        name: of the tensor.
        shape: of the whole tensor.
        first: index of the first element.
        values: (count,) the elements; from :func:`shares` a view where the tensor is C-contiguous.
    """

    name: str
    shape: tuple[int, ...]
    first: int
    values: Array


def shares(tensors: Mapping[str, Array], ranks: int) -> list[list[Part]]:
    """The parts of each writer.

    Args:
        tensors: the state.
        ranks: at least 1; rank ``i`` writes share ``i``, and ranks beyond the shares write nothing.

    Returns:
        From 1 to ``ranks`` shares. Every element is in one of them, and every tensor has a part.
    """
    total = sum(value.nbytes for value in tensors.values())
    writers = max(1, min(ranks, total // _SMALLEST_BYTES))
    quota = -(-total // writers)
    found: list[list[Part]] = [[] for _ in range(writers)]
    writer, room = 0, quota
    # wide elements first, so that each tensor is aligned for readers that map the file
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        flat = value.reshape(-1)
        step, first = _ALIGN_BYTES // value.itemsize, 0
        while True:
            count = value.size - first
            if writer + 1 < writers and count * value.itemsize > room:
                count = room // value.itemsize // step * step
            if count or not value.size:
                found[writer].append(Part(name, value.shape, first, flat[first : first + count]))
            first, room = first + count, room - count * value.itemsize
            if first == value.size:
                break
            writer, room = writer + 1, quota
    return found
