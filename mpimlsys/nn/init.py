"""Initialisation schemes by name: each returns a function that fills an array.

``fan_in`` is the number of inputs of a unit, ``fan_out`` the number of its outputs; for an array
(out, in, kh, kw) they are ``in * kh * kw`` and ``out * kh * kw``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mpimlsys.types import Array

Initializer = Callable[[np.random.Generator, tuple[int, ...]], Array]


def zeros() -> Initializer:
    """All 0."""
    return lambda _, shape: np.zeros(shape)


def ones() -> Initializer:
    """All 1."""
    return lambda _, shape: np.ones(shape)


def uniform(bound: float) -> Initializer:
    """Uniform in [-bound, bound)."""
    return lambda rng, shape: rng.uniform(-bound, bound, shape)


def normal(std: float) -> Initializer:
    """Normal with mean 0."""
    return lambda rng, shape: rng.normal(0.0, std, shape)


def xavier_uniform() -> Initializer:
    """Uniform with variance 2 / (fan_in + fan_out). Source: Glorot, Bengio 2010, eq. 16."""

    def fill(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        fan_in, fan_out = _fans(shape)
        bound = math.sqrt(6 / (fan_in + fan_out))
        return rng.uniform(-bound, bound, shape)

    return fill


def xavier_normal() -> Initializer:
    """Normal with variance 2 / (fan_in + fan_out). Source: Glorot, Bengio 2010."""

    def fill(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        fan_in, fan_out = _fans(shape)
        return rng.normal(0.0, math.sqrt(2 / (fan_in + fan_out)), shape)

    return fill


def kaiming_uniform(gain: float = math.sqrt(2.0)) -> Initializer:
    """Uniform with variance gain**2 / fan_in. Source: He, Zhang, Ren, Sun 2015, eq. 10.

    Args:
        gain: sqrt(2) for ReLU; sqrt(1/3) is PyTorch's default for linear and convolution layers.
    """

    def fill(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        bound = gain * math.sqrt(3 / _fans(shape)[0])
        return rng.uniform(-bound, bound, shape)

    return fill


def kaiming_normal(gain: float = math.sqrt(2.0)) -> Initializer:
    """Normal with variance gain**2 / fan_in. Source: He, Zhang, Ren, Sun 2015, eq. 10."""

    def fill(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.normal(0.0, gain / math.sqrt(_fans(shape)[0]), shape)

    return fill


def orthogonal(gain: float = 1.0) -> Initializer:
    """A random matrix with orthonormal rows or columns. Source: Saxe, McClelland, Ganguli 2014."""

    def fill(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        rows, columns = shape[0], int(np.prod(shape[1:]))
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))
        return gain * (q if rows >= columns else q.T).reshape(shape)

    return fill


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    receptive = int(np.prod(shape[2:]))
    return max(1, shape[1] * receptive), max(1, shape[0] * receptive)
