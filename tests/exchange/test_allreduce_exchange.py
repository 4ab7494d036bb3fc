"""Buckets travel in one order on all ranks, whatever order they become ready in."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.exchange import AllReduce
from mpimlsys.jobfile import CommSection
from mpimlsys.types import Bucket


def buckets(value, count=4, length=50):
    array = np.full(count * length, value, np.float32)
    return array, [
        Bucket(i, i * length, (i + 1) * length, array[i * length : (i + 1) * length])
        for i in range(count)
    ]


class Engine:
    """Records what is submitted, and to whom it was told to compare sizes."""

    def __init__(self):
        self.submitted = []

    def all_reduce(self, _, op, *, label, check, timeout_s, **way):
        assert way == {"algorithm": "auto", "order": "any"}
        assert timeout_s > 0
        self.submitted.append((label, op, check))
        return len(self.submitted)

    def wait(self, ticket, **_):
        assert ticket <= len(self.submitted)

    def close(self, timeout_s):
        pass


def context(size, engine):
    return SimpleNamespace(
        comm=CommSection(timeout_s=30),
        group=SimpleNamespace(size=size),
        peers=SimpleNamespace(open_engine=lambda: engine),
    )


def test_buckets_leave_in_the_order_of_their_index():
    engine = Engine()
    _, parts = buckets(1)
    exchange = AllReduce().open(context(2, engine), parts)
    for order in ((2, 0, 3, 1), (0, 1, 2, 3), (3, 2, 1, 0)):
        engine.submitted.clear()
        for index in order:
            exchange.begin(parts[index])
            ready = [
                i for i in range(4) if set(range(i + 1)) <= set(order[: order.index(index) + 1])
            ]
            assert len(engine.submitted) == len(ready), "a bucket leaves as soon as it can"
        exchange.finish()
        assert [label for label, _, _ in engine.submitted] == [f"bucket {i}" for i in range(4)]
        assert {op for _, op, _ in engine.submitted} == {"sum"}


def test_only_the_first_step_compares_sizes():
    engine = Engine()
    _, parts = buckets(1)
    exchange = AllReduce().open(context(2, engine), parts)
    for _ in range(2):
        for part in parts:
            exchange.begin(part)
        exchange.finish()
    assert [check for _, _, check in engine.submitted] == [True] * 4 + [False] * 4


def test_a_bucket_that_is_missing_or_comes_twice_is_an_error():
    for size in (1, 2):
        _, parts = buckets(1)
        exchange = AllReduce().open(context(size, Engine()), parts)
        exchange.begin(parts[0])
        exchange.begin(parts[2])
        for again in (0, 2):
            with pytest.raises(ConfigError, match=f"bucket {again} was begun twice"):
                exchange.begin(parts[again])
        with pytest.raises(ConfigError, match="1 of 4 buckets begun"):
            exchange.finish()


def test_one_rank_exchanges_nothing():
    array, parts = buckets(3)
    exchange = AllReduce().open(context(1, None), parts)
    for part in parts:
        exchange.begin(part)
    exchange.finish()
    assert (array == 3).all()


def test_it_keeps_no_state():
    exchange = AllReduce().open(context(1, None), buckets(1, count=1)[1])
    assert exchange.state_dict() == {}
    exchange.load_state_dict({}, {})
    with pytest.raises(ConfigError, match="holds exchange state"):
        exchange.load_state_dict({"residual": np.zeros(3)}, {})


def test_gradients_are_summed_over_real_engines(extension):
    world = extension.ThreadWorld(3)
    arrays = {}

    def rank(number):
        array, parts = buckets(number + 1)
        engine = extension.Engine(world.transport(number))
        exchange = AllReduce().open(context(3, engine), parts)
        for _ in range(3):
            for part in np.random.default_rng(number).permutation(len(parts)):
                exchange.begin(parts[part])
            exchange.finish()
        exchange.close()
        arrays[number] = array

    threads = [threading.Thread(target=rank, args=(i,), daemon=True) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(arrays) == [0, 1, 2]
    for array in arrays.values():
        np.testing.assert_array_equal(array, np.full(200, 6 * 3 * 3, np.float32))
