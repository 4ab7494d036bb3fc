"""The kernels in plain NumPy: slow, obviously right, the oracle of the tests.

Shapes: images are (channels, samples, height, width), the memory order that a convolution as one
matrix product writes and the next one reads. *Columns* are (channels * kernel * kernel,
samples * out_height * out_width).
"""

from __future__ import annotations

import numpy as np

from mpimlsys.types import Array


def im2col(images: Array, kernel: int, stride: int, padding: int, columns: Array) -> None:
    """Lay out the patches under a kernel as columns.

    ``columns[(c, i, j), (n, y, x)] = images[c, n, stride * y + i - padding, ...]``, 0 outside.

    Args:
        images: (C, N, H, W).
        kernel, stride, padding: of the convolution, in pixels.
        columns: (C * kernel**2, N * OH * OW), overwritten.

    Source:
        Chellapilla, Puri, Simard 2006, "High performance convolutional neural networks for
        document processing".
    """
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height = (padded.shape[2] - kernel) // stride + 1
    width = (padded.shape[3] - kernel) // stride + 1
    row = 0
    for channel in range(len(images)):
        for i in range(kernel):
            for j in range(kernel):
                patch = padded[
                    channel,
                    :,
                    i : i + stride * (height - 1) + 1 : stride,
                    j : j + stride * (width - 1) + 1 : stride,
                ]
                columns[row] = patch.reshape(-1)
                row += 1


def col2im(columns: Array, kernel: int, stride: int, padding: int, images: Array) -> None:
    """The transpose of :func:`im2col`: add every column entry to the pixel it came from.

    Args:
        columns: (C * kernel**2, N * OH * OW).
        kernel, stride, padding: of the convolution, in pixels.
        images: (C, N, H, W), overwritten.
    """
    channels, samples, height, width = images.shape
    padded = np.zeros((channels, samples, height + 2 * padding, width + 2 * padding), images.dtype)
    out_height = (padded.shape[2] - kernel) // stride + 1
    out_width = (padded.shape[3] - kernel) // stride + 1
    row = 0
    for channel in range(channels):
        for i in range(kernel):
            for j in range(kernel):
                padded[
                    channel,
                    :,
                    i : i + stride * (out_height - 1) + 1 : stride,
                    j : j + stride * (out_width - 1) + 1 : stride,
                ] += columns[row].reshape(samples, out_height, out_width)
                row += 1
    images[...] = padded[:, :, padding : padding + height, padding : padding + width]


def max_pool(images: Array, size: int, stride: int, pooled: Array, winners: Array) -> None:
    """The largest value under each window, the first one of equals; NaN wins.

    Args:
        images: (P, H, W) planes.
        size, stride: of the window, in pixels.
        pooled: (P, OH, OW), overwritten.
        winners: (P, OH, OW) uint8, position in the window row by row, overwritten.
    """
    out_height, out_width = pooled.shape[1:]
    for y in range(out_height):
        for x in range(out_width):
            top, left = y * stride, x * stride
            window = images[:, top : top + size, left : left + size].reshape(len(images), -1)
            winners[:, y, x] = window.argmax(axis=1)
            pooled[:, y, x] = window.max(axis=1)


def max_pool_backward(
    gradient: Array, winners: Array, size: int, stride: int, images: Array
) -> None:
    """Give every window's gradient to its winner.

    Args:
        gradient, winners: (P, OH, OW).
        size, stride: of the window, in pixels.
        images: (P, H, W) gradient of the input, overwritten.
    """
    images[...] = 0
    planes = np.arange(len(images))
    for y in range(gradient.shape[1]):
        for x in range(gradient.shape[2]):
            i, j = np.divmod(winners[:, y, x].astype(np.int64), size)
            images[planes, y * stride + i, x * stride + j] += gradient[:, y, x]


def scatter_add(rows: Array, updates: Array, table: Array) -> None:
    """``table[rows[i]] += updates[i]``, in the order of i.

    Args:
        rows: (n,) integers.
        updates: (n, width).
        table: (count, width), changed in place.
    """
    np.add.at(table, rows, updates)
