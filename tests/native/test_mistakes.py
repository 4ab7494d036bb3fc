"""What goes wrong is a clear error on every rank, and never a hang."""

import _thread
import re
import sys
import threading
import time

import numpy as np
import pytest

from mpimlsys.errors import ConfigError, Timeout


def array_of_objects(rank):
    return np.array([None] * 3) if rank == 1 else np.zeros(3)


MISTAKES = {
    "count": (
        lambda rank: np.zeros(10 + 2 * (rank == 2), np.float32),
        "rank 0 passed 10 elements of float32, rank 2 passed 12 elements of float32",
    ),
    "dtype": (
        lambda rank: np.zeros(8, np.float32 if rank else np.float64),
        "rank 0 passed float64, rank 1 passed float32",
    ),
    "contiguity": (
        lambda rank: np.zeros(16, np.float32)[:: 2 if rank == 1 else 1],
        "rank 1 passed an array that is not C-contiguous",
    ),
    "read-only": (
        lambda rank: np.frombuffer(bytes(8)) if rank == 2 else np.zeros(1),
        "rank 2 passed an array that is read-only",
    ),
    "unsupported dtype": (
        lambda rank: np.zeros(8, np.float32 if rank else np.complex64),
        "rank 0 passed an array of an unsupported dtype",
    ),
    "objects": (array_of_objects, "rank 1 passed an array of an unsupported dtype"),
    "bool": (lambda _: np.zeros(8, bool), "rank 0 passed an array of an unsupported dtype"),
    "byte order": (
        lambda rank: np.zeros(8, ">f4" if rank == 2 else "<f4"),
        "rank 2 passed an array that is not in native byte order",
    ),
    "no array": (
        lambda rank: [1.0, 2.0] if rank == 1 else np.zeros(2),
        "rank 1 passed an object that shares no memory",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_one_rank_is_the_same_error_on_every_rank(extension, on_ranks, name):
    make, message = MISTAKES[name]

    def body(transport, rank):
        extension.all_reduce(transport, make(rank), label="x", timeout_s=20)

    errors = on_ranks(3, body)
    assert all(isinstance(error, ConfigError) and error.on_all_ranks for error in errors)
    assert len({str(error) for error in errors}) == 1
    assert message in str(errors[0])
    assert str(errors[0]).startswith("all-reduce #1 of x: ")


CALLS = {
    "operation": (
        lambda e, t, rank: e.all_reduce(t, np.zeros(8), "max" if rank == 1 else "sum"),
        "rank 0 asked for 'sum', rank 1 asked for 'max'",
    ),
    "unknown operation": (
        lambda e, t, rank: e.all_reduce(t, np.zeros(8), "mean" if rank == 1 else "sum"),
        "rank 1 passed an operation that is unknown; use 'sum', 'average', 'min', 'max' "
        "or 'product'",
    ),
    "dtype name": (
        lambda e, t, _: e.all_reduce(t, np.zeros(8), dtype="bfloat16"),
        "rank 0 passed an array of an unsupported dtype",
    ),
    "segments": (
        lambda e, t, rank: e.all_reduce(t, np.zeros(8), segment_bytes=64 << rank),
        "rank 0 asked for segments of 64 bytes, rank 2 asked for segments of 256 bytes",
    ),
    "collective": (
        lambda e, t, rank: e.broadcast(t, np.zeros(4), 0) if rank else e.all_reduce(t, np.zeros(4)),
        "rank 0 called all-reduce, rank 1 called broadcast",
    ),
    "barrier": (
        lambda e, t, rank: e.barrier(t) if rank else e.all_reduce(t, np.zeros(4)),
        "rank 0 called all-reduce, rank 1 called barrier",
    ),
    "root": (
        lambda e, t, rank: e.broadcast(t, np.zeros(3), 1 if rank == 2 else 0),
        "rank 0 asked for root 0, rank 2 asked for root 1",
    ),
    "no such root": (
        lambda e, t, rank: e.broadcast(t, np.zeros(3), 5 if rank else 0),
        "rank 1 passed a root that is not a rank",
    ),
    "objects": (
        lambda e, t, rank: e.broadcast(t, array_of_objects(rank), 0),
        "rank 1 passed an array of an unsupported dtype",
    ),
    "read-only": (
        lambda e, t, _: e.broadcast(t, np.frombuffer(bytes(8)), 0),
        "rank 1 passed an array that is read-only",
    ),
    "gathered size": (
        lambda e, t, rank: e.all_gather(t, np.zeros(2), np.zeros(6 - (rank == 2))),
        "rank 2 passed counts that do not fit its arrays or the number of ranks",
    ),
    "average of integers": (
        lambda e, t, _: e.all_reduce(t, np.zeros(4, np.int32), "average"),
        "rank 0 passed integers for an average, which they cannot hold; use 'sum'",
    ),
    "algorithm": (
        lambda e, t, rank: e.all_reduce(t, np.zeros(4), algorithm="ring" if rank else "halving"),
        "rank 0 asked for the algorithm 'halving', rank 1 asked for the algorithm 'ring'",
    ),
    "unknown algorithm": (
        lambda e, t, _: e.all_reduce(t, np.zeros(4), algorithm="butterfly"),
        "rank 0 passed an algorithm that is unknown",
    ),
    "order": (
        lambda e, t, _: e.all_reduce(t, np.zeros(4), algorithm="ring", order="tree"),
        "rank 0 passed an algorithm that cannot sum in the order 'tree'",
    ),
    "no shared memory": (
        lambda e, t, _: e.all_reduce(t, np.zeros(4), algorithm="shared"),
        "rank 0 passed the algorithm 'shared', but the ranks are on several nodes",
    ),
    "counts": (
        lambda e, t, rank: e.all_to_all(t, np.zeros(6), [16, 16, 16 - 8 * (rank == 1)]),
        "rank 1 passed counts that do not fit its arrays or the number of ranks",
    ),
    "number": (
        # an empty array without a comparison sends nothing, so that ranks can lose step
        lambda e, t, rank: [
            *(e.all_reduce(t, np.zeros(0), check=False) for _ in range(rank == 1)),
            e.barrier(t),
        ],
        "rank 0 is at its collective #1, rank 1 is at its collective #2",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_differ_are_the_same_error_on_every_rank(extension, on_ranks, name):
    call, message = CALLS[name]
    errors = on_ranks(3, lambda transport, rank: call(extension, transport, rank))
    assert all(isinstance(error, ConfigError) and error.on_all_ranks for error in errors)
    assert all(message in str(error) for error in errors)


def test_after_a_mistake_the_transport_goes_on(extension, on_ranks):
    def body(transport, rank):
        with pytest.raises(ConfigError):
            extension.all_reduce(transport, np.zeros(1 + rank), timeout_s=20)
        array = np.ones(5)
        extension.all_reduce(transport, array, timeout_s=20)
        return array.tolist()

    assert on_ranks(3, body) == [[3.0] * 5] * 3


def test_a_rank_that_does_not_come_is_named(extension, on_ranks):
    def body(transport, rank):
        if rank != 1:
            extension.all_reduce(transport, np.zeros(9), label="bucket 3", timeout_s=0.3)

    results = on_ranks(3, body)
    assert results[1] is None
    for rank in (0, 2):
        assert isinstance(results[rank], Timeout)
        assert not results[rank].on_all_ranks
        story = rf"all-reduce #1 of bucket 3 on rank {rank} after (\S+) s"
        assert float(re.match(story, str(results[rank]))[1]) >= 0.3
    assert any("receive from rank 1: no answer" in str(results[rank]) for rank in (0, 2))


def test_a_rank_that_stops_half_way_is_named_with_the_phase(extension, on_ranks):
    def body(transport, rank):
        if rank == 0:  # takes part in the comparison of an all-reduce, and in nothing else
            with pytest.raises(ConfigError, match="not C-contiguous"):
                extension.all_reduce(transport, np.zeros(9)[::2], check=False)
            return
        extension.all_reduce(
            transport, np.zeros(9), label="w", algorithm="ring", timeout_s=0.2, check=False
        )

    results = on_ranks(2, body)
    assert isinstance(results[1], Timeout)
    assert "ring step 1 of 2, segment 1 of 1: receive from rank 0: no answer" in str(results[1])


def test_a_broken_transport_says_why(extension):
    transport = extension.ThreadWorld(2).transport(0)
    with pytest.raises(Timeout, match=r"barrier #1 of start on rank 0"):
        extension.barrier(transport, label="start", timeout_s=0.05)
    with pytest.raises(Timeout, match=r"this transport is broken since: barrier #1 of start"):
        extension.all_reduce(transport, np.zeros(3))


def test_one_collective_at_a_time(extension, report_of_a_wait):
    world = extension.ThreadWorld(2)
    transport = world.transport(0)
    engine = extension.Engine(transport)
    array = np.zeros(3)
    ticket = engine.all_reduce(array, label="w")
    assert "all-reduce of w, waiting for rank 1" in report_of_a_wait(engine, ticket)
    with pytest.raises(ConfigError, match="in use on another thread"):
        extension.barrier(transport)
    extension.all_reduce(world.transport(1), np.ones(3), timeout_s=30)
    engine.wait(ticket, timeout_s=30)
    assert array.tolist() == [1.0] * 3
    engine.close()


@pytest.mark.parametrize("timeout_s", [-1.0, float("nan")])
def test_a_time_that_is_none(extension, timeout_s):
    transport = extension.ThreadWorld(1).transport(0)
    with pytest.raises(ConfigError, match="timeout_s must be a number of seconds"):
        extension.barrier(transport, timeout_s=timeout_s)


def test_a_time_without_end(extension):
    transport = extension.ThreadWorld(1).transport(0)
    extension.all_reduce(transport, np.zeros(3), timeout_s=float("inf"))


@pytest.mark.parametrize("segment_bytes", [0, 1, 2**62])
def test_extreme_segments(extension, on_ranks, segment_bytes):
    def body(transport, rank):
        array = np.full(50, rank, np.float64)
        extension.all_reduce(transport, array, segment_bytes=segment_bytes, timeout_s=20)
        return array[49]

    assert on_ranks(3, body) == [3.0] * 3


@pytest.mark.parametrize("how", ["call", "engine"])
def test_control_c_ends_a_wait(extension, how):
    transport = extension.ThreadWorld(2).transport(0)

    def interrupt():
        end = time.monotonic() + 60
        while transport.standing()["peer"] < 0 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)  # to the wait for the engine
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        if how == "call":
            with pytest.raises(KeyboardInterrupt):
                extension.barrier(transport, timeout_s=60)
            with pytest.raises(Timeout, match="since an interruption"):
                extension.barrier(transport)
        else:
            engine = extension.Engine(transport)
            ticket = engine.all_reduce(np.zeros(3))
            with pytest.raises(KeyboardInterrupt):
                engine.wait(ticket, timeout_s=60)
            engine.close(timeout_s=0)
    finally:
        thread.join()


def test_worlds_and_ranks_that_cannot_be(extension):
    for size in (0, -1, 5000):
        with pytest.raises(ConfigError, match="1 to 1024 ranks"):
            extension.ThreadWorld(size)
    with pytest.raises(ConfigError, match="no rank 2"):
        extension.ThreadWorld(2).transport(2)
    with pytest.raises(ConfigError, match="no instruction set 'avx1024'"):
        extension.set_isa("avx1024")
    with pytest.raises(ConfigError, match="communicator handles of 3 bytes"):
        extension.MpiTransport(0, 3)


def test_an_array_is_not_leaked(extension):
    transport = extension.ThreadWorld(2).transport(0)
    array = np.zeros(3)
    before = sys.getrefcount(array)
    with pytest.raises(Timeout):
        extension.all_reduce(transport, array, timeout_s=0.01)
    assert sys.getrefcount(array) == before
