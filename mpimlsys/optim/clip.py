"""Gradient clipping by the norm of all gradients together."""

from __future__ import annotations

import numpy as np

from mpimlsys.kernels.arrays import on_host
from mpimlsys.types import Array

_PIECE = 1 << 24  # elements


def clip_by_global_norm(gradients: Array, max_norm: float) -> float | Array:
    """Scale ``gradients`` in place so that their Euclidean norm is at most ``max_norm``.

    Args:
        gradients: (n,) flat array.
        max_norm: limit, greater than 0.

    Returns:
        The norm before; of gradients on a device an array there, for which nobody has waited yet.

    Source:
        Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural networks",
        algorithm 1; the factor ``max_norm / (norm + 1e-6)`` is PyTorch's.
    """
    # in pieces, as the squares take twice the memory of the gradients
    pieces = range(0, max(1, len(gradients)), _PIECE)
    squares = [np.square(gradients[at : at + _PIECE], dtype=np.float64).sum() for at in pieces]
    norm = np.sqrt(sum(squares[1:], squares[0]))
    factor = max_norm / (norm + 1e-6)
    if not on_host(gradients):
        gradients *= np.minimum(factor, 1).astype(gradients.dtype)
    elif factor < 1:
        gradients *= gradients.dtype.type(factor)
    return norm
