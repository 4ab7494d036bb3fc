"""The kernels in plain NumPy: slow, obviously right, the oracle of the tests.

Shapes: images are (channels, height, width, samples). With the samples innermost every run of
memory is long, whatever the size of the pictures, so that copies are copies and comparisons fill
vector registers. *Columns* are (channels * kernel * kernel, out_height * out_width * samples):
a convolution is one matrix product with them, and writes its result in the same order.
"""

from __future__ import annotations

import numpy as np

from mpimlsys.types import Array


def im2col(images: Array, kernel: int, stride: int, padding: int, columns: Array) -> None:
    """Lay out the patches under a kernel as columns.

    ``columns[(c, i, j), (y, x, n)] = images[c, stride * y + i - padding, ..., n]``, 0 outside.

    Args:
        images: (C, H, W, N).
        kernel, stride, padding: of the convolution, in pixels.
        columns: (C * kernel**2, OH * OW * N), overwritten.

    Source:
        Chellapilla, Puri, Simard 2006, "High performance convolutional neural networks for
        document processing".
    """
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    row = 0
    for channel in range(len(images)):
        for i in range(kernel):
            for j in range(kernel):
                columns[row] = _window(padded[channel], kernel, stride, i, j).reshape(-1)
                row += 1


def col2im(columns: Array, kernel: int, stride: int, padding: int, images: Array) -> None:
    """The transpose of :func:`im2col`: add every column entry to the pixel it came from.

    Args:
        columns: (C * kernel**2, OH * OW * N).
        kernel, stride, padding: of the convolution, in pixels.
        images: (C, H, W, N), overwritten.
    """
    channels, height, width, samples = images.shape
    shape = (channels, height + 2 * padding, width + 2 * padding, samples)
    padded = np.zeros(shape, images.dtype)
    row = 0
    for channel in range(channels):
        for i in range(kernel):
            for j in range(kernel):
                window = _window(padded[channel], kernel, stride, i, j)
                window += columns[row].reshape(window.shape)
                row += 1
    images[...] = padded[:, padding : padding + height, padding : padding + width]


def max_pool(images: Array, size: int, stride: int, pooled: Array, winners: Array) -> None:
    """The largest value under each window, the first one of equals; NaN wins.

    Args:
        images: (C, H, W, N).
        size, stride: of the window, in pixels.
        pooled: (C, OH, OW, N), overwritten.
        winners: (C, OH, OW, N) uint8, position in the window row by row, overwritten.
    """
    out_height, out_width = pooled.shape[1:3]
    for y in range(out_height):
        for x in range(out_width):
            top, left = y * stride, x * stride
            window = images[:, top : top + size, left : left + size]
            window = window.reshape(len(images), size * size, images.shape[3])
            winners[:, y, x] = window.argmax(axis=1)
            pooled[:, y, x] = window.max(axis=1)


def max_pool_backward(
    gradient: Array, winners: Array, size: int, stride: int, images: Array
) -> None:
    """Give every window's gradient to its winner.

    Args:
        gradient, winners: (C, OH, OW, N).
        size, stride: of the window, in pixels.
        images: (C, H, W, N) gradient of the input, overwritten.
    """
    images[...] = 0
    for y in range(gradient.shape[1]):
        for x in range(gradient.shape[2]):
            for place in range(size * size):
                i, j = divmod(place, size)
                won = winners[:, y, x] == place
                images[:, y * stride + i, x * stride + j] += np.where(won, gradient[:, y, x], 0)


def _window(plane: Array, kernel: int, stride: int, i: int, j: int) -> Array:
    """The pixels that the kernel's entry (i, j) meets, as a view (OH, OW, N)."""
    height, width = ((side - kernel) // stride * stride + 1 for side in plane.shape[:2])
    return plane[i : i + height : stride, j : j + width : stride]


def scatter_add(rows: Array, updates: Array, table: Array) -> None:
    """``table[rows[i]] += updates[i]``, in the order of i.

    Args:
        rows: (n,) integers.
        updates: (n, width).
        table: (count, width), changed in place.
    """
    np.add.at(table, rows, updates)
