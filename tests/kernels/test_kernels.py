"""Compiled and whole-array kernels equal the plain ones, and those examples worked by hand."""

import numpy as np
import pytest

from mpimlsys.kernels import device, jit, reference

RNG = np.random.default_rng(0)
WINDOWS = [(2, 2, (3, 8, 8, 5)), (2, 2, (1, 7, 9, 33)), (3, 2, (2, 9, 8, 1)), (3, 1, (2, 5, 5, 17))]
fast = pytest.mark.parametrize("kernels", [jit, device], ids=["jit", "device"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_im2col_by_hand():
    images = np.arange(9.0).reshape(1, 3, 3, 1)
    columns = np.empty((4, 4))
    reference.im2col(images, 2, 1, 0, columns)
    assert columns.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    counts = np.empty_like(images)
    reference.col2im(np.ones((4, 4)), 2, 1, 0, counts)
    assert counts[0, :, :, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_max_pool_by_hand():
    images = np.array([[1.0, 5], [5, 2]]).reshape(1, 2, 2, 1)
    pooled, winners = np.empty((1, 1, 1, 1)), np.empty((1, 1, 1, 1), np.uint8)
    reference.max_pool(images, 2, 2, pooled, winners)
    assert (pooled.item(), winners.item()) == (5, 1)


@fast
@dtypes
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(5, 1, 0), (3, 1, 1), (3, 2, 0), (4, 3, 2), (1, 1, 0)]
)
@pytest.mark.parametrize("samples", [0, 1, 9])
def test_columns(kernels, dtype, kernel, stride, padding, samples):
    images = RNG.normal(size=(3, 13, 11, samples)).astype(dtype)
    out = [(side + 2 * padding - kernel) // stride + 1 for side in (13, 11)]
    shape = (3 * kernel * kernel, samples * out[0] * out[1])
    wanted, found = np.empty(shape, dtype), np.full(shape, np.nan, dtype)
    reference.im2col(images, kernel, stride, padding, wanted)
    kernels.im2col(images, kernel, stride, padding, found)
    np.testing.assert_array_equal(found, wanted)
    columns = RNG.normal(size=shape).astype(dtype)
    wanted, found = np.empty_like(images), np.full_like(images, np.nan)
    reference.col2im(columns, kernel, stride, padding, wanted)
    kernels.col2im(columns, kernel, stride, padding, found)
    np.testing.assert_array_equal(found, wanted)


@fast
@dtypes
@pytest.mark.parametrize(("size", "stride", "shape"), WINDOWS)
def test_max_pooling(kernels, dtype, size, stride, shape):
    images = RNG.integers(-3, 3, shape).astype(dtype)  # many equal values
    images[0, 1, 1, 0] = np.nan
    sides = [(side - size) // stride + 1 for side in shape[1:3]]
    out = (shape[0], *sides, shape[3])
    results = []
    for each in (reference, kernels):
        pooled, winners = np.empty(out, dtype), np.empty(out, np.uint8)
        each.max_pool(images, size, stride, pooled, winners)
        back = np.full(shape, np.nan, dtype)
        gradient = np.arange(pooled.size, dtype=dtype).reshape(out)
        each.max_pool_backward(gradient, winners, size, stride, back)
        results.append((pooled, winners, back))
    for wanted, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, wanted)


@fast
@dtypes
def test_scatter_add(kernels, dtype):
    rows, updates = RNG.integers(0, 7, 500), RNG.normal(size=(500, 5)).astype(dtype)
    wanted, found = np.ones((7, 5), dtype), np.ones((7, 5), dtype)
    reference.scatter_add(rows, updates, wanted)
    kernels.scatter_add(rows, updates, found)
    np.testing.assert_array_equal(found, wanted)


def test_halves_are_added_up_in_float32():
    ones = np.ones((9, 4 * 4 * 1), np.float16)
    ones[0] = 2048  # of which the next half is 2050
    images = np.empty((1, 6, 6, 1), np.float16)
    device.col2im(ones, 3, 1, 0, images)
    assert images[0, 3, 3, 0] == 2056
    winners = np.arange(8, -1, -1, dtype=np.uint8).reshape(1, 3, 3, 1)  # all of them one pixel
    change = np.ones((1, 3, 3, 1), np.float16)
    change[0, 0, 0] = 2048
    images = np.empty((1, 5, 5, 1), np.float16)
    device.max_pool_backward(change, winners, 3, 1, images)
    assert images[0, 2, 2, 0] == 2056
    table = np.zeros((1, 1), np.float32)
    updates = np.array([[2048], [1]], np.float16)
    device.scatter_add(np.zeros(2, np.int64), updates, table)
    assert table.item() == 2049
