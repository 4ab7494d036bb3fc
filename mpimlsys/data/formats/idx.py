"""IDX, the format of MNIST.

Big-endian: two zero bytes, a type code, the number of dimensions, the dimensions (uint32), the
elements. Source: LeCun, Cortes, Burges, "The MNIST database", file formats.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from mpimlsys.errors import CorruptData
from mpimlsys.types import Array

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(content: bytes) -> bool:
    """Whether the content begins as an IDX file does."""
    return len(content) >= 4 and content[:2] == b"\0\0" and content[2] in _TYPES and content[3] > 0


def read_idx(content: bytes, name: str) -> Array:
    """The array of an IDX file, in native byte order.

    Args:
        content: of the file, uncompressed.
        name: of the file, for messages.

    Raises:
        CorruptData: not IDX, or its length does not fit its header.
    """
    if not is_idx(content):
        raise CorruptData(
            f"{name} is not an IDX file: it begins with {content[:4].hex() or 'nothing'}."
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise CorruptData(f"{name} is cut short: its header alone has {start} bytes.")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    dtype = np.dtype(_TYPES[content[2]])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise CorruptData(
            f"{name} has {len(content):,} bytes, but its header of shape {shape} asks for "
            f"{expected:,}. Fetch it again."
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)
