"""Every sample exactly once per epoch, whatever the counts; batches do not depend on ranks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpimlsys.data import epoch_order, shard, steps_per_epoch

counts = st.integers(1, 200)


@given(count=counts, batch=st.integers(1, 250), size=st.integers(1, 9), seed=st.integers(0, 2**63))
def test_every_sample_once_per_epoch(count, batch, size, seed):
    order = epoch_order(count, 3, seed)
    seen = []
    for step in range(steps_per_epoch(count, batch)):
        parts = [shard(order, step, batch, rank, size) for rank in range(size)]
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1
        together = np.concatenate(parts)
        np.testing.assert_array_equal(together, order[step * batch : (step + 1) * batch])
        seen.extend(together)
    assert sorted(seen) == list(range(count))


def test_orders_differ_between_epochs_and_seeds_and_are_reproducible():
    orders = [tuple(epoch_order(50, epoch, seed)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(orders)) == 6
    assert orders[0] == tuple(epoch_order(50, 0, 0))


def test_a_batch_of_0_is_the_whole_set():
    assert steps_per_epoch(7, 0) == 1
    assert steps_per_epoch(7, 3) == 3
    assert steps_per_epoch(6, 3) == 2
