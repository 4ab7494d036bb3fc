"""Prefetching keeps the order, hands errors on, and leaves no thread."""

import threading
import time

import numpy as np
import pytest

from mpimlsys.data import ArrayDataset, Prefetcher
from mpimlsys.errors import CorruptData


def dataset(count=10):
    return ArrayDataset(np.arange(count, dtype=np.float32)[:, None], np.arange(count))


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "mpimlsys-data"]


def test_order_is_kept_and_the_end_is_the_end():
    plan = [np.array([3, 1]), np.array([], np.int64), np.array([9])]
    with Prefetcher(dataset(), plan) as batches:
        found = [targets.tolist() for _, targets in batches]
        assert found == [[3, 1], [], [9]]
        with pytest.raises(StopIteration):
            next(batches)
    assert not threads()


def test_leaving_early_ends_the_thread():
    with Prefetcher(dataset(), (np.array([0]) for _ in iter(int, 1))) as batches:
        next(batches)
        assert threads()
    assert not threads()


def test_at_most_depth_batches_are_made_ahead():
    made = []

    class Counting(ArrayDataset):
        def batch(self, indices):
            made.append(indices)
            return super().batch(indices)

    source = Counting(np.zeros((4, 1)), np.zeros(4))
    with Prefetcher(source, [np.array([0])] * 20, depth=2) as batches:
        next(batches)
        time.sleep(0.2)
        assert len(made) <= 1 + 2 + 1


def test_an_error_comes_where_its_batch_would_have():
    class Broken(ArrayDataset):
        def batch(self, indices):
            if 2 in indices:
                raise CorruptData("row 2 is gone")
            return super().batch(indices)

    source = Broken(np.zeros((4, 1)), np.zeros(4))
    with Prefetcher(source, [np.array([i]) for i in range(4)]) as batches:
        next(batches)
        next(batches)
        with pytest.raises(CorruptData, match="row 2 is gone"):
            next(batches)
    assert not threads()
