"""Elements as narrower floats: none, fp16, bf16, fp8_e4m3, fp8_e5m2. To nearest even."""

from __future__ import annotations

from functools import cache

import numpy as np

from mpimlsys.types import Array

# bits of exponent and mantissa, and the code above the largest number: NaN or infinity
_FP8 = {"fp8_e4m3": (4, 3, 0x7F), "fp8_e5m2": (5, 2, 0x7C)}
CODECS = ("none", "fp16", "bf16", *_FP8)


def encode(codec: str, x: Array) -> Array:
    """The payload of an array.

    Args:
        codec: one of ``CODECS``.
        x: (n,) float32.

    Returns:
        (bytes,) uint8.

    Source:
        Micikevicius et al. 2022, "FP8 formats for deep learning", table 1. What rounds beyond the
        largest number of fp8_e4m3, which has no infinity, becomes NaN.
    """
    if codec == "none":
        return x.view(np.uint8)
    if codec == "fp16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).view(np.uint8)
    bits = x.view(np.uint32)
    if codec == "bf16":
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        quiet = bits >> 16 | 0x40
        return np.where(np.isnan(x), quiet, rounded).astype(np.uint16).view(np.uint8)
    overflow = _FP8[codec][2]
    numbers = _magnitudes(codec)[: overflow + 1]
    middles = (numbers[:-1] + numbers[1:]) / 2
    codes = np.searchsorted(middles, np.abs(x), side="left")  # the lower one at a tie
    tie = np.abs(x) == middles[np.minimum(codes, overflow - 1)]
    codes += tie & (codes % 2 == 1)
    codes[np.isnan(x)] = 0x7F if codec == "fp8_e4m3" else 0x7E
    return (codes | (bits >> 24 & 0x80)).astype(np.uint8)


def decode(codec: str, payload: Array) -> Array:
    """The array of a payload.

    Args:
        codec: one of ``CODECS``.
        payload: (bytes,) uint8.

    Returns:
        (n,) float32.
    """
    if codec == "none":
        return payload.view(np.float32)
    if codec == "fp16":
        return payload.view(np.float16).astype(np.float32)
    if codec == "bf16":
        return (payload.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    overflow = _FP8[codec][2]
    magnitudes = _magnitudes(codec).copy()
    magnitudes[overflow] = np.nan if codec == "fp8_e4m3" else np.inf
    magnitudes[overflow + 1 :] = np.nan
    values = np.concatenate([magnitudes, np.copysign(magnitudes, -1)])
    return values[payload].astype(np.float32)


@cache
def _magnitudes(codec: str) -> Array:
    """What the codes 0 to 127 would be if the format had neither infinity nor NaN; float64."""
    exponent_bits, mantissa_bits, _ = _FP8[codec]
    exponent, mantissa = np.divmod(np.arange(128), 1 << mantissa_bits)
    normal = exponent > 0
    bias = (1 << (exponent_bits - 1)) - 1
    fraction = mantissa / (1 << mantissa_bits) + normal
    return np.ldexp(fraction, np.maximum(exponent, 1) - bias)
