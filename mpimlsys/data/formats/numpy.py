"""NPY and NPZ, without pickle."""

from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np

from mpimlsys.errors import CorruptData
from mpimlsys.types import Array


def read_npy(content: bytes, name: str) -> Array:
    """The array of an NPY file.

    Raises:
        CorruptData: not NPY, cut short, or an array of objects.
    """
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise CorruptData(f"{name} is not an NPY file that can be read: {error}.") from error
    if not isinstance(array, np.ndarray):
        raise CorruptData(f"{name} is not an NPY file.")
    return array


def read_npz(content: bytes, name: str) -> dict[str, Array]:
    """The arrays of an NPZ file by name.

    Raises:
        CorruptData: not NPZ, damaged, or holding objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (
        ValueError, EOFError, SyntaxError, OverflowError, MemoryError, AttributeError, KeyError,
        NotImplementedError, zipfile.BadZipFile, zlib.error, OSError, RuntimeError,
    ) as error:  # fmt: skip
        raise CorruptData(f"{name} is not an NPZ file that can be read: {error}.") from error
