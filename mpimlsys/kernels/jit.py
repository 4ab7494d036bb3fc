"""The kernels compiled by numba; the same functions as in ``reference``, bit for bit the same.

One thread, no fast-math, lock released; compiled code is cached on disk per processor type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from mpimlsys.types import Array


def _jit(function: Callable[..., None]) -> Callable[..., None]:
    compiled: Callable[..., None] = numba.njit(cache=True, nogil=True)(function)
    return compiled


@_jit
def im2col(images: Array, kernel: int, stride: int, padding: int, columns: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.im2col`."""
    channels, samples, height, width = images.shape
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1
    for channel in range(channels):
        for i in range(kernel):
            for j in range(kernel):
                row = columns[(channel * kernel + i) * kernel + j]
                at = 0
                for sample in range(samples):
                    plane = images[channel, sample]
                    for y in range(out_height):
                        source = stride * y + i - padding
                        if source < 0 or source >= height:
                            row[at : at + out_width] = 0
                        elif stride == 1 and padding == 0:
                            for x in range(out_width):
                                row[at + x] = plane[source, x + j]
                        else:
                            for x in range(out_width):
                                left = stride * x + j - padding
                                inside = left >= 0 and left < width
                                row[at + x] = plane[source, left] if inside else 0
                        at += out_width


@_jit
def col2im(columns: Array, kernel: int, stride: int, padding: int, images: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.col2im`."""
    channels, samples, height, width = images.shape
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1
    images[...] = 0
    for channel in range(channels):
        for i in range(kernel):
            for j in range(kernel):
                row = columns[(channel * kernel + i) * kernel + j]
                at = 0
                for sample in range(samples):
                    plane = images[channel, sample]
                    for y in range(out_height):
                        target = stride * y + i - padding
                        if target >= 0 and target < height:
                            if stride == 1 and padding == 0:
                                for x in range(out_width):
                                    plane[target, x + j] += row[at + x]
                            else:
                                for x in range(out_width):
                                    left = stride * x + j - padding
                                    if left >= 0 and left < width:
                                        plane[target, left] += row[at + x]
                        at += out_width


@_jit
def max_pool(images: Array, size: int, stride: int, pooled: Array, winners: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.max_pool`."""
    planes, out_height, out_width = pooled.shape
    if size == 2 and stride == 2:
        for plane in range(planes):
            for y in range(out_height):
                upper = images[plane, 2 * y]
                lower = images[plane, 2 * y + 1]
                for x in range(out_width):
                    best = upper[2 * x]
                    winner = 0
                    value = upper[2 * x + 1]
                    later = value > best or (value != value and best == best)
                    best = value if later else best
                    winner = 1 if later else winner
                    value = lower[2 * x]
                    later = value > best or (value != value and best == best)
                    best = value if later else best
                    winner = 2 if later else winner
                    value = lower[2 * x + 1]
                    later = value > best or (value != value and best == best)
                    best = value if later else best
                    winner = 3 if later else winner
                    pooled[plane, y, x] = best
                    winners[plane, y, x] = winner
        return
    for plane in range(planes):
        for y in range(out_height):
            for x in range(out_width):
                best = images[plane, y * stride, x * stride]
                winner = 0
                for i in range(size):
                    for j in range(size):
                        value = images[plane, y * stride + i, x * stride + j]
                        if value > best or (value != value and best == best):
                            best = value
                            winner = i * size + j
                pooled[plane, y, x] = best
                winners[plane, y, x] = winner


@_jit
def max_pool_backward(
    gradient: Array, winners: Array, size: int, stride: int, images: Array
) -> None:
    """See :func:`mpimlsys.kernels.reference.max_pool_backward`."""
    planes, out_height, out_width = gradient.shape
    zero = images.dtype.type(0)
    if size == 2 and stride == 2 and 2 * out_height == images.shape[1]:
        if 2 * out_width < images.shape[2]:
            images[:, :, 2 * out_width :] = 0
        for plane in range(planes):
            for y in range(out_height):
                upper = images[plane, 2 * y]
                lower = images[plane, 2 * y + 1]
                for x in range(out_width):
                    value = gradient[plane, y, x]
                    winner = winners[plane, y, x]
                    upper[2 * x] = value if winner == 0 else zero
                    upper[2 * x + 1] = value if winner == 1 else zero
                    lower[2 * x] = value if winner == 2 else zero
                    lower[2 * x + 1] = value if winner == 3 else zero
        return
    images[...] = 0
    for plane in range(planes):
        for y in range(out_height):
            for x in range(out_width):
                i = winners[plane, y, x] // size
                j = winners[plane, y, x] % size
                images[plane, y * stride + i, x * stride + j] += gradient[plane, y, x]


@_jit
def scatter_add(rows: Array, updates: Array, table: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.scatter_add`."""
    for index in range(len(rows)):
        row: Any = table[rows[index]]
        for column in range(updates.shape[1]):
            row[column] += updates[index, column]
