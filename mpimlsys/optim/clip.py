"""Gradient clipping by the norm of all gradients together."""

from __future__ import annotations

import numpy as np

from mpimlsys.kernels.arrays import on_host
from mpimlsys.types import Array


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
    norm = np.sqrt(np.sum(np.square(gradients, dtype=np.float64)))
    factor = max_norm / (norm + 1e-6)
    if not on_host(gradients):
        gradients *= np.minimum(factor, 1).astype(gradients.dtype)
    elif factor < 1:
        gradients *= gradients.dtype.type(factor)
    return norm
