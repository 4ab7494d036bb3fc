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
    channels, height, width, samples = images.shape
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1
    for channel in range(channels):
        for i in range(kernel):
            for j in range(kernel):
                row = columns[(channel * kernel + i) * kernel + j]
                for y in range(out_height):
                    line = row[y * out_width * samples : (y + 1) * out_width * samples]
                    source = stride * y + i - padding
                    if source < 0 or source >= height:
                        line[:] = 0
                        continue
                    pixels = images[channel, source].reshape(width * samples)
                    if stride == 1 and padding == 0:
                        shift = j * samples
                        for k in range(out_width * samples):
                            line[k] = pixels[shift + k]
                        continue
                    for x in range(out_width):
                        left = stride * x + j - padding
                        if left < 0 or left >= width:
                            for n in range(samples):
                                line[x * samples + n] = 0
                        else:
                            for n in range(samples):
                                line[x * samples + n] = pixels[left * samples + n]


@_jit
def col2im(columns: Array, kernel: int, stride: int, padding: int, images: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.col2im`."""
    channels, height, width, samples = images.shape
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1
    images[...] = 0
    for channel in range(channels):
        for i in range(kernel):
            for j in range(kernel):
                row = columns[(channel * kernel + i) * kernel + j]
                for y in range(out_height):
                    line = row[y * out_width * samples : (y + 1) * out_width * samples]
                    target = stride * y + i - padding
                    if target < 0 or target >= height:
                        continue
                    pixels = images[channel, target].reshape(width * samples)
                    if stride == 1 and padding == 0:
                        shift = j * samples
                        for k in range(out_width * samples):
                            pixels[shift + k] += line[k]
                        continue
                    for x in range(out_width):
                        left = stride * x + j - padding
                        if left >= 0 and left < width:
                            for n in range(samples):
                                pixels[left * samples + n] += line[x * samples + n]


@_jit
def max_pool(images: Array, size: int, stride: int, pooled: Array, winners: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.max_pool`."""
    channels, out_height, out_width, samples = pooled.shape
    for channel in range(channels):
        for y in range(out_height):
            for x in range(out_width):
                best = pooled[channel, y, x]
                winner = winners[channel, y, x]
                first = images[channel, y * stride, x * stride]
                for n in range(samples):
                    best[n] = first[n]
                    winner[n] = 0
                for place in range(1, size * size):
                    i, j = place // size, place % size
                    other = images[channel, y * stride + i, x * stride + j]
                    mark = numba.uint8(place)
                    for n in range(samples):
                        # without branches: a NaN is larger than what is not
                        later = (other[n] > best[n]) | (
                            (other[n] != other[n]) & (best[n] == best[n])
                        )
                        best[n] = other[n] if later else best[n]
                        winner[n] = mark if later else winner[n]


@_jit
def max_pool_backward(
    gradient: Array, winners: Array, size: int, stride: int, images: Array
) -> None:
    """See :func:`mpimlsys.kernels.reference.max_pool_backward`."""
    channels, out_height, out_width, samples = gradient.shape
    zero = gradient.dtype.type(0)
    images[...] = 0
    for channel in range(channels):
        for y in range(out_height):
            for x in range(out_width):
                change = gradient[channel, y, x]
                winner = winners[channel, y, x]
                for place in range(size * size):
                    i, j = place // size, place % size
                    pixels = images[channel, y * stride + i, x * stride + j]
                    mark = numba.uint8(place)
                    for n in range(samples):
                        pixels[n] += change[n] if winner[n] == mark else zero


@_jit
def scatter_add(rows: Array, updates: Array, table: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.scatter_add`."""
    for index in range(len(rows)):
        row: Any = table[rows[index]]
        for column in range(updates.shape[1]):
            row[column] += updates[index, column]
