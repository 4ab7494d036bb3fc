"""The kernels as operations on whole arrays, for a GPU and for numbers of 16 bits.

The same functions as in ``reference``. Loops run over the entries of a kernel or a window, never
over pixels or samples, and add up in the order of ``reference``, so that the bits are the same;
halves are added up in float32. On a GPU the order of :func:`scatter_add` is any.
"""

from __future__ import annotations

import numpy as np

from mpimlsys.kernels.arrays import namespace, wide
from mpimlsys.types import Array


def im2col(images: Array, kernel: int, stride: int, padding: int, columns: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.im2col`."""
    channels, height, width, samples = images.shape
    padded = images
    if padding:
        padded = _padded_zeros(images, padding)
        padded[:, padding : padding + height, padding : padding + width] = images
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    rows = columns.reshape(channels, kernel * kernel, *sides, samples)
    for place in range(kernel * kernel):
        rows[:, place] = _under(padded, kernel, stride, place)


def col2im(columns: Array, kernel: int, stride: int, padding: int, images: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.col2im`."""
    channels, height, width, samples = images.shape
    padded = wide(_padded_zeros(images, padding))
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    rows = columns.reshape(channels, kernel * kernel, *sides, samples)
    for place in range(kernel * kernel):
        window = _under(padded, kernel, stride, place)
        window += rows[:, place]
    images[...] = padded[:, padding : padding + height, padding : padding + width]


def max_pool(images: Array, size: int, stride: int, pooled: Array, winners: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.max_pool`."""
    pooled[...] = _under(images, size, stride, 0)
    winners[...] = 0
    for place in range(1, size * size):
        other = _under(images, size, stride, place)
        # a NaN is larger than what is not
        later = (other > pooled) | ((other != other) & (pooled == pooled))
        pooled[...] = np.where(later, other, pooled)
        winners[...] = np.where(later, winners.dtype.type(place), winners)


def max_pool_backward(
    gradient: Array, winners: Array, size: int, stride: int, images: Array
) -> None:
    """See :func:`mpimlsys.kernels.reference.max_pool_backward`."""
    sums = wide(namespace(images).zeros(images.shape, images.dtype))
    # a pixel's windows from the first to the last have it at their last to their first place
    for place in reversed(range(size * size)):
        window = _under(sums, size, stride, place)
        window += np.where(winners == place, gradient, gradient.dtype.type(0))
    images[...] = sums


def scatter_add(rows: Array, updates: Array, table: Array) -> None:
    """See :func:`mpimlsys.kernels.reference.scatter_add`."""
    namespace(table).add.at(table, rows, updates.astype(table.dtype, copy=False))


def _padded_zeros(images: Array, padding: int) -> Array:
    channels, height, width, samples = images.shape
    shape = (channels, height + 2 * padding, width + 2 * padding, samples)
    return namespace(images).zeros(shape, images.dtype)


def _under(images: Array, size: int, stride: int, place: int) -> Array:
    """The pixels that a window's entry meets, a view (C, OH, OW, N); entries row by row."""
    i, j = divmod(place, size)
    height, width = ((side - size) // stride * stride + 1 for side in images.shape[1:3])
    return images[:, i : i + height : stride, j : j + width : stride]
