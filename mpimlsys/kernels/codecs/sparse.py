"""Some elements only: top_k, random_k, threshold; and the code of ascending indices.

Magnitudes are compared as the integers that their bits are: NaN is above infinity, and of equal
ones the first is taken.
"""

from __future__ import annotations

import math

import numpy as np

from mpimlsys.kernels.codecs import cast, quantise
from mpimlsys.kernels.codecs.random import key_of, random_bits
from mpimlsys.types import Array

CODECS = ("top_k", "random_k", "threshold")
_WITHOUT_SAMPLE = 16384
_LEAST_SAMPLE = 4096
_SAMPLE_ONE = 1000  # of so many elements


def encode(
    codec: str,
    x: Array,
    amount: float,
    values: str = "none",
    *,
    sampled: bool = False,
    unbiased: bool = False,
    stochastic: bool = False,
    key: int = 0,
    first: int = 0,
) -> Array:
    """The payload of an array.

    Args:
        codec: one of ``CODECS``.
        x: (n,) float32.
        amount: share of the elements, of top_k and random_k; bound of threshold.
        values: the codec of the values.
        sampled: top_k: the threshold comes from a sample.
        unbiased: random_k: values are multiplied by the length of their stratum.
        stochastic: of the values' codec.
        key, first: the draw.

    Returns:
        (bytes,) uint8.

    Source:
        top_k: Aji, Heafield 2017, "Sparse communication for distributed gradient descent"; sampled:
        Lin et al. 2018, "Deep gradient compression", section 3; random_k: Stich et al. 2018,
        "Sparsified SGD with memory".
    """
    n = len(x)
    if codec == "random_k":
        own_key = key_of(key, first)
        indices, lengths = strata(own_key, k_of(amount, n), n)
        head = np.array([own_key], "<u8").view(np.uint8)
        chosen = x[indices] * lengths.astype(np.float32) if unbiased else x[indices]
    else:
        if codec == "threshold":
            indices = np.flatnonzero(_magnitude(x) > _magnitude(np.array([amount], np.float32)))
        elif sampled:
            indices = by_sample(x, k_of(amount, n), key_of(key, first))
        else:
            indices = largest(x, k_of(amount, n))
        head = encode_indices(indices, n)
        chosen = x[indices]
    if values in cast.CODECS:
        tail = cast.encode(values, chosen)
    else:
        tail = quantise.encode(values, chosen, stochastic=stochastic, key=key, first=first)
    return np.concatenate([np.array([len(indices)], "<u4").view(np.uint8), head, tail])


def decode(codec: str, payload: Array, count: int, values: str = "none") -> Array:
    """The array of a payload: zero where nothing was sent.

    Returns:
        (count,) float32.
    """
    k = int(payload[:4].copy().view("<u4")[0])
    if codec == "random_k":
        indices, _ = strata(int(payload[4:12].copy().view("<u8")[0]), k, count)
        at = 12
    else:
        at = 4 + index_code_bytes(k, count)
        indices = decode_indices(payload[4:at], k, count)
    sent = payload[at:].copy()
    x = np.zeros(count, np.float32)
    x[indices] = (
        cast.decode(values, sent) if values in cast.CODECS else quantise.decode(values, sent, k)
    )
    return x


def k_of(amount: float, n: int) -> int:
    """Elements that are sent of n: the share, to nearest and half up, at least one."""
    return min(max(math.floor(amount * n + 0.5), min(n, 1)), n)


def largest(x: Array, k: int) -> Array:
    """The ascending indices of the k largest magnitudes."""
    return np.sort(np.argsort(~_magnitude(x), kind="stable")[:k])


def by_sample(x: Array, k: int, key: int) -> Array:
    """The ascending indices of what passes the threshold of a sample: k / 2 to k of the largest."""
    n = len(x)
    if n <= _WITHOUT_SAMPLE:
        return largest(x, k)
    size = max(_LEAST_SAMPLE, n // _SAMPLE_ONE)
    rank = -(-size * k // n)
    if rank >= size:
        return largest(x, k)
    places = random_bits(key, 0, size).astype(np.uint64) * np.uint64(n) >> np.uint64(32)
    threshold = np.sort(_magnitude(x[places]))[-rank]
    passed = int(np.count_nonzero(_magnitude(x) >= threshold))
    return largest(x, min(passed, k) if 2 * passed >= k else k)


def strata(key: int, k: int, n: int) -> tuple[Array, Array]:
    """One index of each stratum ``[i n / k, (i + 1) n / k)``, and the strata's lengths."""
    edges = np.arange(k + 1, dtype=np.uint64) * np.uint64(n) // np.uint64(max(k, 1))
    lengths = np.diff(edges)
    return edges[:-1] + (random_bits(key, 0, k) * lengths >> np.uint64(32)), lengths


def index_code_bytes(k: int, n: int) -> int:
    """Bytes of the code of k indices below n."""
    if k == 0:
        return 0
    low = _low_bits(k, n)
    return -(-k * low // 8) + -(-(k + (n - 1 >> low)) // 8)


def encode_indices(indices: Array, n: int) -> Array:
    """The code of ascending indices below n.

    The ``low = floor(log2(n / k))`` low bits of each, then a bitmap in which bit
    ``(index >> low) + i`` is set for the i-th.

    Returns:
        (bytes,) uint8.

    Source:
        Elias 1974, "Efficient storage and retrieval by content and address of static files"; Fano
        1971.
    """
    k = len(indices)
    if k == 0:
        return np.zeros(0, np.uint8)
    low = _low_bits(k, n)
    lows = indices[:, None] >> np.arange(low, dtype=indices.dtype) & indices.dtype.type(1)
    bitmap = np.zeros(k + (n - 1 >> low), np.uint8)
    bitmap[(indices >> indices.dtype.type(low)).astype(np.int64) + np.arange(k)] = 1
    return np.concatenate(
        [
            np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little")
            for bits in (lows, bitmap)
        ]
    )


def decode_indices(code: Array, k: int, n: int) -> Array:
    """The k indices below n of a code."""
    if k == 0:
        return np.zeros(0, np.int64)
    low = _low_bits(k, n)
    at = -(-k * low // 8)
    bits = np.unpackbits(code[:at], bitorder="little")[: k * low].reshape(k, low).astype(np.int64)
    high = np.flatnonzero(np.unpackbits(code[at:], bitorder="little")) - np.arange(k)
    return (high << low) + (bits << np.arange(low)).sum(axis=1)


def _low_bits(k: int, n: int) -> int:
    return (n // k).bit_length() - 1


def _magnitude(x: Array) -> Array:
    return x.view(np.uint32) & np.uint32(0x7FFFFFFF)
