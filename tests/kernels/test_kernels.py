"""The compiled kernels equal the NumPy ones, and those equal small examples worked by hand."""

import numpy as np
import pytest

from mpimlsys.kernels import jit, reference

RNG = np.random.default_rng(0)
WINDOWS = [(2, 2, (3, 8, 8, 5)), (2, 2, (1, 7, 9, 33)), (3, 2, (2, 9, 8, 1)), (3, 1, (2, 5, 5, 17))]
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


@dtypes
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(5, 1, 0), (3, 1, 1), (3, 2, 0), (4, 3, 2), (1, 1, 0)]
)
@pytest.mark.parametrize("samples", [0, 1, 9])
def test_columns(dtype, kernel, stride, padding, samples):
    images = RNG.normal(size=(3, 13, 11, samples)).astype(dtype)
    out = [(side + 2 * padding - kernel) // stride + 1 for side in (13, 11)]
    shape = (3 * kernel * kernel, samples * out[0] * out[1])
    wanted, found = np.empty(shape, dtype), np.full(shape, np.nan, dtype)
    reference.im2col(images, kernel, stride, padding, wanted)
    jit.im2col(images, kernel, stride, padding, found)
    np.testing.assert_array_equal(found, wanted)
    columns = RNG.normal(size=shape).astype(dtype)
    wanted, found = np.empty_like(images), np.full_like(images, np.nan)
    reference.col2im(columns, kernel, stride, padding, wanted)
    jit.col2im(columns, kernel, stride, padding, found)
    np.testing.assert_array_equal(found, wanted)


@dtypes
@pytest.mark.parametrize(("size", "stride", "shape"), WINDOWS)
def test_max_pooling(dtype, size, stride, shape):
    images = RNG.integers(-3, 3, shape).astype(dtype)  # many equal values
    images[0, 1, 1, 0] = np.nan
    sides = [(side - size) // stride + 1 for side in shape[1:3]]
    out = (shape[0], *sides, shape[3])
    results = []
    for kernels in (reference, jit):
        pooled, winners = np.empty(out, dtype), np.empty(out, np.uint8)
        kernels.max_pool(images, size, stride, pooled, winners)
        back = np.full(shape, np.nan, dtype)
        gradient = np.arange(pooled.size, dtype=dtype).reshape(out)
        kernels.max_pool_backward(gradient, winners, size, stride, back)
        results.append((pooled, winners, back))
    for wanted, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, wanted)


@dtypes
def test_scatter_add(dtype):
    rows, updates = RNG.integers(0, 7, 500), RNG.normal(size=(500, 5)).astype(dtype)
    wanted, found = np.ones((7, 5), dtype), np.ones((7, 5), dtype)
    reference.scatter_add(rows, updates, wanted)
    jit.scatter_add(rows, updates, found)
    np.testing.assert_array_equal(found, wanted)
