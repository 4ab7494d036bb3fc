"""The background thread, from Python."""

import gc
import re
import time
import weakref

import numpy as np
import pytest

from mpimlsys.errors import ConfigError, Timeout


def test_operations_run_in_order_in_the_background(extension, on_ranks):
    def body(transport, rank):
        engine = extension.Engine(transport)
        arrays = [np.full(1000, rank + i, np.float32) for i in range(20)]
        tickets = [engine.all_reduce(array, "sum") for array in arrays]
        parameters = np.full(7, rank)
        tickets.append(engine.broadcast(parameters, 2))
        engine.wait(tickets[-1], timeout_s=20)
        assert tickets == list(range(1, 22))
        assert all(engine.done(ticket) for ticket in tickets)
        engine.close()
        return [array[0] for array in arrays], parameters.tolist()

    for sums, parameters in on_ranks(3, body):
        assert sums == [3 + 3 * i for i in range(20)]
        assert parameters == [2] * 7


def test_a_failure_ends_the_engine_with_the_first_error(extension, on_ranks):
    def body(transport, rank):
        engine = extension.Engine(transport)
        first = engine.all_reduce(np.zeros(4 + rank), label="bucket 0")
        second = engine.all_reduce(np.zeros(4), label="bucket 1")
        messages = []
        for ticket in (first, second):
            with pytest.raises(ConfigError) as error:
                engine.wait(ticket, timeout_s=20)
            messages.append(str(error.value))
        with pytest.raises(ConfigError, match="of bucket 0"):
            engine.all_reduce(np.zeros(4))
        engine.close()
        return messages

    for first, second in on_ranks(2, body):
        assert first == second
        assert "all-reduce #1 of bucket 0: the ranks disagree" in first


def test_a_missing_rank_fails_the_operation_with_its_story(extension):
    engine = extension.Engine(extension.ThreadWorld(2).transport(0))
    ticket = engine.all_reduce(np.zeros(5), label="bucket 7", timeout_s=0.1)
    story = r"all-reduce #1 of bucket 7 on rank 0 after (\S+) s: .*receive from rank 1: no answer"
    with pytest.raises(Timeout, match=story) as caught:
        engine.wait(ticket, timeout_s=20)
    assert float(re.search(story, str(caught.value))[1]) >= 0.1
    assert engine.done(ticket)


def test_waiting_and_closing_have_deadlines(extension, report_of_a_wait):
    engine = extension.Engine(extension.ThreadWorld(2).transport(0))
    ticket = engine.all_reduce(np.zeros(5), label="bucket 7", timeout_s=100)
    assert not engine.done(ticket)
    report = report_of_a_wait(engine, ticket)
    waited = re.match(r"operation 1 is not complete after a wait of (\S+) s", report)
    assert float(waited[1]) >= 0.02
    assert "rank 0 is in operation 1, all-reduce of bucket 7, waiting for rank 1" in report
    started = time.monotonic()
    engine.close(timeout_s=0.1)
    assert time.monotonic() - started < 20
    with pytest.raises(ConfigError, match="no such ticket"):
        engine.wait(2)


def test_arrays_live_as_long_as_their_operations(extension):
    class Held(np.ndarray):
        pass

    world = extension.ThreadWorld(2)
    engine = extension.Engine(world.transport(0))
    array = np.zeros(9).view(Held)
    ticket = engine.all_reduce(array, timeout_s=60)
    held = weakref.ref(array)
    del array
    gc.collect()
    assert held() is not None
    extension.all_reduce(world.transport(1), np.ones(9), timeout_s=60)
    engine.wait(ticket, timeout_s=60)
    gc.collect()
    assert held() is None


def test_an_engine_that_nobody_closed_ends_with_its_last_reference(extension):
    engine = extension.Engine(extension.ThreadWorld(2).transport(0))
    engine.all_reduce(np.zeros(5), timeout_s=100)
    started = time.monotonic()
    del engine
    gc.collect()
    assert time.monotonic() - started < 20


def test_other_threads_see_where_an_operation_stands(extension):
    transport = extension.ThreadWorld(2).transport(0)
    assert transport.standing()["number"] == 0
    engine = extension.Engine(transport)
    engine.all_reduce(np.zeros((2, 3, 4, 5, 6), np.float32), label="bucket 7", timeout_s=60)
    deadline = time.monotonic() + 20
    while transport.standing()["peer"] < 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    told = transport.standing()
    assert 0 <= told.pop("started_s") < 20
    assert 40 < told.pop("left_s") <= 60
    assert told == {
        "operation": "all-reduce",
        "label": "bucket 7",
        "dtype": "float32",
        "axes": 5,
        "shape": [2, 3, 4, 5],
        "number": 1,
        "running": True,
        "ended_s": 0.0,
        "step": 0,
        "steps": 0,
        "peer": 1,
        "failure": "",
    }
    transport.abandon("rank 1 gave up")
    with pytest.raises(Timeout, match=r"all-reduce #1 of bucket 7 .*: rank 1 gave up"):
        engine.wait(1, timeout_s=20)
    assert "rank 1 gave up" in transport.standing()["failure"]
    with pytest.raises(Timeout, match="rank 1 gave up"):
        extension.barrier(transport)
