"""A few bits of every element and a scale for each block of 256; formulas in ``quantise.inc``.

Everything is computed in float32, operation for operation as there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpimlsys.kernels.codecs.random import random_bits
from mpimlsys.types import Array

BITS = {"int8": 8, "int4": 4, "int2": 2, "sign": 1, "ternary": 2, "natural": 8}
BLOCK = 256  # elements
_LEVELS = {"int8": 127, "int4": 7, "int2": 1, "ternary": 1}
_F32 = np.float32
_LANES = 16


def encode(
    codec: str, x: Array, *, stochastic: bool = False, key: int = 0, first: int = 0
) -> Array:
    """The payload of an array.

    Args:
        codec: one of ``BITS``.
        x: (n,) float32.
        stochastic: of int8, int4 and int2: round up or down at random, without bias.
        key, first: the draw; ternary and natural always use it.

    Returns:
        (bytes,) uint8.

    Source:
        int8, int4, int2: Alistarh et al. 2017, "QSGD"; ternary: Wen et al. 2017, "TernGrad"; sign:
        Karimireddy et al. 2019, "Error feedback fixes SignSGD"; natural: Horvath et al. 2019,
        "Natural compression for distributed deep learning".
    """
    blocks = np.zeros((-(-len(x) // BLOCK), BLOCK), _F32)
    blocks.reshape(-1)[: len(x)] = x
    draws = stochastic or codec in ("ternary", "natural")
    random = random_bits(key, first, blocks.size).reshape(blocks.shape) if draws else None
    with np.errstate(all="ignore"):
        if codec == "sign":
            scale, codes = _sign(blocks, len(x))
        elif codec == "natural":
            scale, codes = _natural(blocks, random)
        else:
            scale, codes = _uniform(blocks, _F32(_LEVELS[codec]), random)
    finite = np.isfinite(blocks).all(axis=1)
    scale = np.where(finite, scale, _F32(np.nan)).astype("<f4")
    codes[~finite] = 0
    rows = np.concatenate([scale[:, None].view(np.uint8), _packed(codes, BITS[codec])], axis=1)
    return rows.reshape(-1)[: payload_bytes(codec, len(x))]


def decode(codec: str, payload: Array, count: int) -> Array:
    """The array of a payload.

    Args:
        codec: one of ``BITS``.
        payload: (bytes,) uint8.
        count: n, elements.

    Returns:
        (n,) float32.
    """
    bits = BITS[codec]
    rows = np.zeros((-(-count // BLOCK), 4 + BLOCK * bits // 8), np.uint8)
    rows.reshape(-1)[: len(payload)] = payload
    scale = rows[:, :4].copy().view("<f4")
    codes = _unpacked(rows[:, 4:], bits)
    with np.errstate(all="ignore"):
        if codec == "sign":
            values = np.where(codes == 1, -scale, scale)
        elif codec == "natural":
            power = ((codes.astype(np.uint32) & 0x7F) << 23).view(_F32)
            values = np.where(codes & 0x80, -power, power) * scale
        else:
            whole = codes.astype(np.int32)
            whole -= (whole >> (bits - 1)) << bits
            values = whole.astype(_F32) * (_F32(1) / _F32(_LEVELS[codec])) * scale
    return values.reshape(-1)[:count]


def payload_bytes(codec: str, count: int) -> int:
    """Bytes of the payload of ``count`` elements."""
    whole, rest = divmod(count, BLOCK)
    last = 4 + -(-rest * BITS[codec] // 8) if rest else 0
    return whole * (4 + BLOCK * BITS[codec] // 8) + last


def _uniform(blocks: Array, levels: np.float32, random: Array | None) -> tuple[Array, Array]:
    scale = np.abs(blocks).max(axis=1)
    exact = _divided(blocks, scale, levels)
    if random is None:
        codes = np.rint(exact)
    else:
        level = np.minimum(np.abs(exact), levels)
        whole = np.floor(level)
        up = (random >> 8) < np.floor((level - whole) * _F32(2**24))
        codes = np.copysign(whole + up, blocks)
    codes[(scale == 0) | ~np.isfinite(scale)] = 0
    return scale, codes.astype(np.int8).view(np.uint8)


def _sign(blocks: Array, count: int) -> tuple[Array, Array]:
    parts = (np.abs(blocks) * _F32(2**-9)).reshape(len(blocks), BLOCK // _LANES, _LANES)
    lanes = np.zeros((len(blocks), _LANES), _F32)
    for k in range(parts.shape[1]):
        lanes += parts[:, k]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    lengths = np.minimum(count - BLOCK * np.arange(len(blocks)), BLOCK).astype(_F32)
    mean = lanes[:, 0] * (_F32(512) / lengths)
    return np.minimum(mean, np.finfo(_F32).max), np.signbit(blocks).astype(np.uint8)


def _natural(blocks: Array, random: Any) -> tuple[Array, Array]:
    largest = np.abs(blocks).max(axis=1).view(np.uint32)
    power = np.clip((largest + 0x7FFFFF) & 0x7F800000, 0x00800000, 0x7F000000)
    scale = power.astype(np.uint32).view(_F32)
    magnitude = np.abs(_divided(blocks, scale, _F32(1))).view(np.uint32)
    codes = np.minimum((magnitude + (random >> 9)) >> 23, 127)
    return scale, (codes | np.signbit(blocks) * 128).astype(np.uint8)


def _divided(blocks: Array, scale: Array, levels: np.float32) -> Array:
    """``blocks / scale * levels``, in two factors that are normal numbers."""
    powers = [_F32(2**64), _F32(2.0**-64)]
    lift = np.select([scale < 2.0**-60, scale > 2.0**60], powers, _F32(1))
    rest = levels / (scale * lift)
    return blocks * lift[:, None] * rest[:, None]


def _packed(codes: Array, bits: int) -> Array:
    """The lowest bits of every code, the first code in the lowest bits of a byte."""
    single = codes[:, :, None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(single.reshape(len(codes), BLOCK * bits), axis=1, bitorder="little")


def _unpacked(rows: Array, bits: int) -> Array:
    single = np.unpackbits(rows, axis=1, bitorder="little").reshape(len(rows), BLOCK, bits)
    return (single << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
