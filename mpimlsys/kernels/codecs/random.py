"""The numbers that codecs draw; see ``csrc/codec/random.hpp``."""

from __future__ import annotations

import numpy as np

from mpimlsys.types import Array

_WORD = (1 << 64) - 1


def random_bits(key: int, first: int, count: int) -> Array:
    """Numbers ``first`` to ``first + count - 1`` of the stream ``key``.

    Returns:
        (count,) uint32.

    Source:
        Wellons 2018, "Prospecting for hash functions": lowbias32, once with each half of the key.
    """
    index = np.uint64(first & _WORD) + np.arange(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        own = np.uint64(key & _WORD) + (index >> np.uint64(32)) * np.uint64(0x9E3779B97F4A7C15)
    low, high = own.astype(np.uint32), (own >> np.uint64(32)).astype(np.uint32)
    return _mixed(_mixed(index.astype(np.uint32) ^ low) + high)


def key_of(seed: int, stream: int) -> int:
    """Key number ``stream`` of a seed: SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (seed + 0x9E3779B97F4A7C15 * (stream + 1)) & _WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 31


def _mixed(x: Array) -> Array:
    x = (x ^ x >> 16) * np.uint32(0x7FEB352D)
    x = (x ^ x >> 15) * np.uint32(0x846CA68B)
    return x ^ x >> 16
