"""Reductions on a GPU beside NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from gpu_card import Card, Report

DTYPES = "float16 bfloat16 float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64"
OPERATIONS: dict[str, Callable[..., Any]] = {
    "sum": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "product": np.multiply,
}


def widened(values: Any, dtype: str) -> Any:
    """What is computed with: 16-bit floats as float32."""
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if dtype == "float16" else values


def narrowed(values: Any, dtype: str) -> Any:
    """Rounded to nearest even."""
    if dtype == "float16":
        return values.astype(np.float16)
    if dtype != "bfloat16":
        return values
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def combined(blocks: list[Any], operation: str, order: str) -> Any:
    """As csrc/base/reduce.hpp says: from the first to the last, or in a balanced tree."""
    call = OPERATIONS[operation]
    if order == "any":
        result = blocks[0]
        for block in blocks[1:]:
            result = call(result, block)
        return result
    leaves = 1 << (len(blocks).bit_length() - 1)
    pairs = len(blocks) - leaves
    level = [call(blocks[2 * i], blocks[2 * i + 1]) for i in range(pairs)] + blocks[2 * pairs :]
    while len(level) > 1:
        level = [call(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def values_of(dtype: str, count: int, seed: int) -> Any:
    """Any bits of integers; floats that overflow and vanish now and then, and NaN."""
    random = np.random.default_rng(seed)
    if dtype == "bfloat16":
        return random.integers(0, 1 << 16, count, np.uint16)
    if dtype == "float16":
        return random.integers(0, 1 << 16, count, np.uint16).view(np.float16)
    if dtype.startswith("float"):
        found = random.standard_normal(count).astype(dtype)
        found[random.random(count) < 0.05] = np.finfo(dtype).max
        found[random.random(count) < 0.01] = np.nan
        return found
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, count, dtype, endpoint=True)


def equal_values(a: Any, b: Any, dtype: str) -> bool:
    floats = dtype.startswith(("float", "bfloat"))
    return np.array_equal(widened(a, dtype), widened(b, dtype), equal_nan=floats)


def reductions(card: Card, report: Report, *, reduced: bool) -> None:
    """All dtypes and operations, in both orders, into two arrays at a time."""
    blocks = (1, 3, 8) if reduced else (1, 2, 3, 4, 7, 8, 64)
    counts = (0, 5, 4099) if reduced else (0, 1, 5, 4099, 300007)
    cases = product(DTYPES.split(), OPERATIONS, ("any", "tree"), blocks, counts)
    for dtype, operation, order, block_count, count in cases:
        if block_count == 64 and count > 5000:
            continue
        what = f"{operation} of {block_count} blocks of {count} {dtype}, order {order}"
        floats = "float" in dtype
        divisor = 3 if floats and operation == "sum" else 1
        arrays = [values_of(dtype, count, 10 * block_count + i) for i in range(block_count)]
        with np.errstate(all="ignore"):
            wide = combined([widened(values, dtype) for values in arrays], operation, order)
            wanted = narrowed(wide / wide.dtype.type(divisor) if divisor > 1 else wide, dtype)
        placed = [card.put(values, count % 2) for values in arrays]
        into = [card.put(np.zeros_like(arrays[0]), count % 2) for _ in range(2)]
        card.device.reduce(
            [one.address for one in placed],
            [one.address for one in into],
            count,
            stream=card.stream,
            dtype=dtype,
            op=operation,
            divisor=divisor,
            order=order,
        )
        for one in into:
            got, whole = card.get(one)
            report.check(equal_values(got, wanted, dtype) and whole, f"{what}: not NumPy's")
