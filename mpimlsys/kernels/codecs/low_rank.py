"""PowerSGD: a matrix as the product of two thin ones, by one power iteration.

M is (rows, cols); P is (rank, rows) and Q (rank, cols), one row for each column of the paper's.
Sums are in the order of ``low_rank.inc``, in float32.
"""

from __future__ import annotations

import math

import numpy as np

from mpimlsys.kernels.codecs.random import random_bits
from mpimlsys.types import Array

_F32 = np.float32
_NAN = np.float32(np.nan)


def encode(x: Array, rank: int, *, key: int = 0, first: int = 0) -> Array:
    """The payload of an array, as a matrix that is nearly square, from a random start.

    Args:
        x: (n,) float32.
        rank: at most.
        key, first: the draw.

    Returns:
        (bytes,) uint8: uint32 rows, cols, rank; P; Q.

    Source:
        Vogels, Karimireddy, Jaggi 2019, "PowerSGD", algorithm 1.
    """
    rows, cols = near_square(len(x))
    rank = min(rank, rows, cols)
    m = np.zeros((rows, cols), _F32)
    m.reshape(-1)[: len(x)] = x
    p = orthonormalised(times_q(m, draw_q(rank * cols, key, first).reshape(rank, cols)))
    q = times_p(m, p)
    head = np.array([rows, cols, rank], "<u4")
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in (head, p, q)])


def decode(payload: Array, count: int) -> Array:
    """The array of a payload.

    Returns:
        (count,) float32.
    """
    rows, cols, rank = (int(one) for one in payload[:12].copy().view("<u4"))
    factors = payload[12:].copy().view(_F32)
    p, q = factors[: rank * rows].reshape(rank, rows), factors[rank * rows :].reshape(rank, cols)
    return expanded(p, q).reshape(-1)[:count]


def near_square(n: int) -> tuple[int, int]:
    """Rows and columns: ``ceil(sqrt(n))`` and as many as it takes."""
    rows = math.isqrt(n - 1) + 1 if n else 0
    return rows, -(-n // max(rows, 1))


def draw_q(count: int, key: int, first: int) -> Array:
    """Numbers that are nearly normal: sums of four uniform ones, each of 16 bits."""
    bits = random_bits(key, first, 2 * count).reshape(count, 2).astype(np.int64)
    sums = ((bits & 0xFFFF) + (bits >> 16)).sum(axis=1) - 2 * 0xFFFF
    return sums.astype(_F32) * _F32(2**-16)


def times_q(m: Array, q: Array) -> Array:
    """``M Q``: in 16 sums, of the columns that are alike modulo 16, added up in halves."""
    rows, cols = m.shape
    padded = -(-cols // 16) * 16
    m = np.pad(m, ((0, 0), (0, padded - cols)))
    q = np.pad(q, ((0, 0), (0, padded - cols)))
    sums = np.zeros((len(q), rows, 16), _F32)
    with np.errstate(all="ignore"):
        for j in range(0, padded, 16):
            sums += m[:, j : j + 16] * q[:, None, j : j + 16]
        return _in_halves(sums)


def times_p(m: Array, p: Array) -> Array:
    """``M^T P``: row after row."""
    q = np.zeros((len(p), m.shape[1]), _F32)
    with np.errstate(all="ignore"):
        for i, row in enumerate(m):
            q += row * p[:, i, None]
    return np.where(np.isnan(q), _NAN, q)


def expanded(p: Array, q: Array) -> Array:
    """``P Q^T``: one product of columns after the other."""
    m = np.zeros((p.shape[1], q.shape[1]), _F32)
    for column, other in zip(p, q, strict=True):
        m += column[:, None] * other
    return m


def orthonormalised(p: Array) -> Array:
    """Modified Gram-Schmidt, twice. A column that depends on those before it becomes zero.

    Dots are in float64, in 8 sums, of the rows that are alike modulo 8, added up in halves.
    """
    p = p.copy()
    with np.errstate(all="ignore"):
        for c in range(len(p)):
            before = math.sqrt(_dot(p[c], p[c]))
            for _ in range(2):
                for d in range(c):
                    p[c] = p[c].astype(np.float64) - _dot(p[c], p[d]) * p[d].astype(np.float64)
            norm = math.sqrt(_dot(p[c], p[c]))
            if not math.isfinite(norm):
                p[c] = _NAN
            elif norm <= 2.0**-20 * before:
                p[c] = 0
            else:
                p[c] = p[c].astype(np.float64) / norm
    return p


def _dot(a: Array, b: Array) -> float:
    products = np.zeros(-(-len(a) // 8) * 8)
    products[: len(a)] = a.astype(np.float64) * b.astype(np.float64)
    sums = np.zeros(8)
    for row in products.reshape(-1, 8):
        sums += row
    return float(_in_halves(sums))


def _in_halves(sums: Array) -> Array:
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return sums[..., 0]
