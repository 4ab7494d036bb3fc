"""The loops that NumPy is slow at: ``reference`` is the oracle, ``jit`` and ``device`` are fast.

All have the same functions with the same arguments; :func:`of` says which are used.
"""

from __future__ import annotations

from typing import Any

from mpimlsys.kernels.arrays import on_host
from mpimlsys.types import Array


def of(array: Array) -> Any:
    """The kernels for arrays like this: compiled for the host, or whole-array operations.

    numba compiles neither for CuPy's arrays nor for numbers of 16 bits.
    """
    if on_host(array) and array.dtype.char in "fd":
        from mpimlsys.kernels import jit

        return jit
    from mpimlsys.kernels import device

    return device
