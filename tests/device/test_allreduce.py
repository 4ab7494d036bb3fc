"""All-reduce of arrays in the memory of a GPU, whose stand-in is on the host."""

import textwrap

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]

SUMS = """
ctx = mls.init()
if {private}:
    from mpimlsys.device import peer_memory
    peer_memory.PeerMemory.open = classmethod(lambda *_: None)
made = []
for dtype in ("float32", "float64", "float16", "int32", "int64", "uint8"):
    for count in (0, 1, ctx.size + 1, 1000, 3 << 20):
        values = (np.arange(count) % 7 + ctx.rank).astype(dtype)
        wanted = sum((np.arange(count) % 7 + rank) for rank in range(ctx.size)).astype(dtype)
        array = Array(values, shared={shared})
        assert mls.allreduce(array, op="sum") is array
        assert np.array_equal(array.host, wanted), (dtype, count)
for op, function in (("min", np.min), ("max", np.max), ("product", np.prod), ("average", np.mean)):
    every = [np.float32([rank + 1, 2, -rank]) for rank in range(ctx.size)]
    array = Array(every[ctx.rank], shared={shared})
    works = [mls.allreduce_async(array, op=op)]
    assert np.allclose(works[0].wait(timeout_s=20).host, function(every, axis=0)), op
    assert works[0].done()
from mpimlsys.device import queue
(queue_,) = queue._queues.values()
assert (queue_._ways.peers is None) is {private}
if ctx.is_root:
    print("all is well")
"""


@pytest.mark.parametrize(
    ("ranks", "private", "shared"),
    [(1, False, True), (2, False, True), (3, False, True), (3, False, False), (2, True, False)],
)
def test_the_sums_are_right(on_ranks, ranks, private, shared):
    done = on_ranks(ranks, SUMS.format(private=private, shared=shared))
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


def test_sums_do_not_depend_on_the_way(on_ranks):
    body = """
    ctx = mls.init(comm=mls.CommSection(order="tree"))
    x = np.random.default_rng(ctx.rank).standard_normal(100_003).astype(np.float32)
    results = [mls.allreduce(Array(x, shared=shared), op="sum").host for shared in (True, False)]
    results.append(mls.allreduce(x.copy(), op="sum"))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
    """
    done = on_ranks(3, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("mls.allreduce(Array(np.ones(3 + ctx.rank, np.float32)))", "the ranks disagree"),
        ("mls.allreduce(Array(np.ones(3, np.int32)))", "an average of int32"),
        ("mls.allreduce(Array(np.ones(3, bool)), op='sum')", "arrays of bool cannot be combined"),
    ],
)
def test_mistakes_are_one_error_on_all_ranks(on_ranks, call, told):
    body = f"""
    ctx = mls.init()
    try:
        {call}
    except mls.errors.ConfigError as error:
        print(f"[{{ctx.rank}} {{error}}]", flush=True)
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(told) == 2, done.stdout


@pytest.mark.parametrize("algorithm", ["auto", "ring"])
def test_after_a_mistake_the_next_operation_goes_on(on_ranks, algorithm):
    body = f"""
    ctx = mls.init()
    for size in ((3 + 3 * ctx.rank) << 20, 3):
        array = Array(np.ones(size, np.float32))
        try:
            mls.allreduce(array, op="sum", algorithm={algorithm!r})
        except mls.errors.ConfigError as error:
            print(f"[{{ctx.rank}} {{error}}]", flush=True)
            assert (array.host == 1).all()
        else:
            assert (array.host == 2).all()
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the ranks disagree") == 2


def test_memory_that_one_rank_cannot_open_is_staged(on_ranks):
    body = """
    from mpimlsys.device import queue
    ctx = mls.init()
    class Blind:
        def __init__(self, native):
            self._native = native
        def __getattr__(self, name):
            return getattr(self._native, name)
        def see(self, handle):
            raise mls.errors.ConfigError("the GPU: no access")
    arrays = [Array(np.full(9, ctx.rank, np.float32)) for _ in range(12)]
    made = queue.queue_of(ctx, ctx.peers, arrays[0])
    sight = made._gpu.native
    for number, array in enumerate(arrays):  # more allocations than stay open
        made._gpu.native = Blind(sight) if ctx.rank == 1 and number % 3 == 0 else sight
        mls.allreduce(array, op="sum")
        assert array.host.tolist() == [3.0] * 9
    """
    done = on_ranks(3, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_ranks_of_a_gpu_have_one_that_reduces():
    from mpimlsys.device.peer_memory import part_of, share_of

    gpus = [b"a", b"b", b"a", b"c", b"b"]
    assert [share_of(gpus, rank) for rank in range(5)] == [(0, 3), (1, 3), (0, 0), (2, 3), (0, 0)]
    for count in (1, 15, 16, 17, 1000):
        parts = [part_of(count, index, 3, 4) for index in range(3)]
        assert sum(length for _, length in parts) == count
        assert all(first % 16 == 0 or first == count for first, _ in parts)


def test_a_late_rank_is_a_timeout_that_names_it(on_ranks):
    body = """
    import time
    ctx = mls.init(comm=mls.CommSection(timeout_s=1.5, stall_warning_s=0))
    mls.allreduce(Array(np.ones(3, np.float32)))
    if ctx.rank == 0:
        try:
            mls.allreduce(Array(np.ones(3, np.float32)))
        except mls.errors.Timeout as error:
            print("heard:", error, flush=True)
    time.sleep(3)
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert "heard:" in done.stdout, done.stderr
    assert "rank 1" in done.stdout


@pytest.mark.parametrize("aware", [False, True])
def test_by_the_mpi(on_ranks, aware):
    """To the MPI the stand-in's memory is as good as any."""
    body = f"""
    from mpimlsys.device import queue
    queue.takes_gpu_memory = lambda: {aware}
    ctx = mls.init()
    for dtype in ("float32", "float16", "int64"):
        array = Array(np.arange(1000).astype(dtype))
        mls.allreduce(array, op="sum", algorithm="mpi")
        assert np.array_equal(array.host, 2 * np.arange(1000).astype(dtype)), dtype
        mls.allreduce(array, op="max", algorithm="ring")
    (made,) = queue._queues.values()
    assert (made._ways.direct is not None) is {aware}
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_whoever_waits_at_once_does_it(on_ranks):
    """One thread less to wait for; what is started ahead runs on a thread of its own."""
    body = """
    import threading, time
    from mpimlsys.device.reductions import Reductions
    reduce, threads = Reductions._reduce, []

    def noted(self, *arguments):
        threads.append(threading.current_thread().name)
        reduce(self, *arguments)

    Reductions._reduce = noted
    ctx = mls.init()
    arrays = [Array(np.ones(5, np.float32)) for _ in range(3)]
    mls.allreduce(arrays[0], op="sum")
    work = mls.allreduce_async(arrays[1], op="sum")
    while not work.done():
        time.sleep(0.001)
    if ctx.rank == 1:
        time.sleep(1)
    late = mls.allreduce_async(arrays[2], op="sum")
    if ctx.rank == 0:
        started = time.monotonic()
        try:
            late.wait(timeout_s=0.2)
            raise AssertionError("rank 1 is late")
        except mls.errors.Timeout:
            assert time.monotonic() - started < 0.9
    for one in (work, late):
        one.wait()
    assert threads[:2] == ["MainThread", "mpimlsys-gpu"], threads
    assert [array.host.tolist() for array in arrays] == [[2.0] * 5] * 3
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_a_process_set_has_its_own_queue(on_ranks):
    body = """
    ctx = mls.init()
    pair = mls.process_set([0, 2])
    array = Array(np.full(5, ctx.rank + 1, np.float32))
    if ctx.rank != 1:
        mls.allreduce(array, op="sum", process_set=pair)
        assert array.host.tolist() == [4.0] * 5
    mls.allreduce(array, op="sum")
    assert array.host.tolist() == [10.0] * 5
    """
    done = on_ranks(3, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
