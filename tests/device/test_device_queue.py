"""A queue of a GPU's operations: what cannot be used, threads, what it holds, and its end."""

import textwrap

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]

# what rank 1 passes, what the others do, and what all hear
UNUSABLE = [
    ("mls.allreduce({})", "wrong(4, strides=(8,))", "array(4)", "not C-contiguous"),
    ("mls.allreduce({})", "wrong(4, data=(64, True))", "array(4)", "is read-only"),
    ("mls.broadcast({}, 0)", "elsewhere(4)", "array(4)", "an array of GPU 7 came"),
    ("mls.reducescatter({})", "array(())", "array(4)", "has no rows"),
    ("mls.allgather({})", "array(())", "array(4)", "has no rows"),
    ("mls.allgather({})", "wrong(4, strides=(8,))", "array(5)", "not C-contiguous"),
    ("mls.alltoall({})", "array(5)", "array(4)", "no counts for 5 rows"),
    ("mls.alltoall({})", "array(5), [-1, 6]", "array(4)", "counts [-1, 6] for 5 rows"),
    ("mls.alltoall({})", "array(())", "array(4)", "has no rows"),
    ("mls.grouped_allreduce({})", "[np.ones(4), array(4)]", "[array(4)] * 2", "of the host"),
    ("mls.grouped_allreduce({})", "[array(4), np.ones(4)]", "[array(4)] * 2", "of the host"),
]


@pytest.mark.parametrize("threads", [True, False])
def test_what_one_rank_cannot_use_is_refused_by_all(on_ranks, threads):
    """And what comes next is not mistaken for it; also where nobody passes what can be used."""
    body = f"""
    from types import SimpleNamespace
    from mpimlsys.process_sets import ProcessSet
    if not {threads}:
        ProcessSet.allows_threads = False
    ctx = mls.init(comm=mls.CommSection(timeout_s=20))

    def array(shape):
        return Array(np.full(shape, ctx.rank + 1, np.float32))

    def wrong(shape, **about):
        made = array(shape)
        interface = {{**made.__cuda_array_interface__, **about}}
        return SimpleNamespace(__cuda_array_interface__=interface, dtype=made.dtype, made=made)

    def elsewhere(shape):
        made = array(shape)
        made.device = SimpleNamespace(id=7)
        return made

    mls.allreduce(array(1))
    for call, bad, good, told in {UNUSABLE!r}:
        for all_are_wrong in (False, True):
            try:
                eval(call.format(bad if ctx.rank == 1 or all_are_wrong else good))
            except mls.errors.ConfigError as error:
                alike = all_are_wrong and "GPU 7" not in told  # which each compares with its own
                who = "every rank passed" if alike else "rank 1 passed"
                assert told in str(error) and who in str(error) and error.on_all_ranks, error
            else:
                raise AssertionError(call)
            assert mls.allreduce(array(7), "sum").host.tolist() == [3.0] * 7
    print("all is well", flush=True)
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all is well") == 2


def test_a_rank_without_a_gpu_is_one_error_on_all(on_ranks):
    body = """
    from mpimlsys.device import queue
    found = queue.gpu_of

    def none_here(ctx, array):
        raise mls.errors.ConfigError("there is no GPU to use: none was found")

    ctx = mls.init(comm=mls.CommSection(timeout_s=20))
    if ctx.rank == 1:
        queue.gpu_of = none_here
    for _ in range(2):
        try:
            mls.allreduce(Array(np.ones(3, np.float32)))
        except mls.errors.ConfigError as error:
            assert "rank 1 lacks a GPU" in str(error) and "none was found" in str(error), error
            assert error.on_all_ranks
        else:
            raise AssertionError("it had a GPU")
    queue.gpu_of = found
    assert mls.allreduce(Array(np.ones(3, np.float32)), "sum").host.tolist() == [2.0] * 3
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_what_the_host_refuses_without_shared_memory(on_ranks):
    """As on several nodes, where ranks compare only what is asked for."""
    body = """
    ctx = mls.init(comm=mls.CommSection(timeout_s=20))
    ctx.native.attach_board = lambda *_, **__: None
    array = Array(np.ones(3 << 20, np.float32), shared=False)
    for algorithm, told in (
        ("rind", "algorithm that is unknown"),
        ("shared", "the algorithm 'shared', but"),
    ):
        try:
            mls.allreduce(array, "sum", algorithm=algorithm)
        except mls.errors.ConfigError as error:
            assert told in str(error) and error.on_all_ranks, error
        else:
            raise AssertionError(algorithm)
        assert (array.host == 1).all()
    assert (mls.allreduce(array, "sum", algorithm="ring").host == 2).all()
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_a_rank_without_memory_to_fuse_arrays_in(on_ranks):
    body = """
    from mpimlsys.device import reductions
    memory = reductions.Memory

    def none_left(gpu, nbytes):
        raise MemoryError("none left")

    ctx = mls.init(comm=mls.CommSection(timeout_s=20))
    arrays = [Array(np.ones(3, np.float32)) for _ in range(2)]
    mls.allreduce(arrays[0], "average")
    for failing in (1, 0):
        reductions.Memory = none_left if ctx.rank == failing else memory
        try:
            mls.grouped_allreduce(arrays, "sum")
        except mls.errors.ConfigError as error:
            assert f"rank {failing} lacks memory to fuse arrays in: none left" in str(error)
        else:
            raise AssertionError("it had memory")
        assert arrays[1].host.tolist() == [1.0] * 3
    reductions.Memory = memory
    assert mls.grouped_allreduce(arrays, "sum")[1].host.tolist() == [2.0] * 3
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_pieces_of_a_group_are_compared(on_ranks):
    body = """
    from mpimlsys.device import queue
    ctx = mls.init(comm=mls.CommSection(timeout_s=20))
    arrays = [Array(np.ones(3, np.float32)) for _ in range(3)]
    made = queue.open_queue(ctx, ctx.peers, arrays[0])
    try:
        made.wait(made.grouped_all_reduce(arrays, fusion_bytes=12 * (1 + ctx.rank)), 20)
    except mls.errors.ConfigError as error:
        assert "in pieces of 12 bytes" in str(error) and error.on_all_ranks, error
    else:
        raise AssertionError("it was not refused")
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_what_was_refused_is_let_go_of(on_ranks):
    """The works are not waited for again, and the queue lives on."""
    body = """
    import gc, weakref
    from mpimlsys.device.results import Result

    def none_left(self, shape, stream):
        array = make(self, shape, stream)
        raise MemoryError("none left")

    make, Result.make = Result.make, none_left
    ctx = mls.init(comm=mls.CommSection(timeout_s=20))
    calls = (mls.allgather, lambda array: mls.broadcast(array, 9), mls.alltoall)
    gone = []
    for call in calls:
        array = Array(np.ones(2, np.float32))
        gone.append(weakref.ref(array))
        try:
            call(array)
        except mls.errors.ConfigError as error:
            assert error.on_all_ranks
        else:
            raise AssertionError(call)
        del array
    mls.allreduce(Array(np.ones(2, np.float32)))
    gc.collect()
    assert [one() for one in gone] == [None] * 3
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


SLOW = """
import threading, time
from mpimlsys.device.reductions import Reductions
reduce = Reductions.all_reduce

def slow(self, *args):
    time.sleep(0.5)
    reduce(self, *args)

Reductions.all_reduce = slow
from mpimlsys.device import queue
ctx = mls.init(comm=mls.CommSection(timeout_s=20))
array = Array(np.ones(2, np.float32))
made = queue.open_queue(ctx, ctx.peers, array)
"""


def test_several_threads_may_wait_for_one_operation(on_ranks):
    body = """
    failures = []

    def wait(ticket):
        try:
            made.wait(ticket, 20)
            assert made.done(ticket)
        except Exception as error:
            failures.append(error)

    for background in (True, False):
        ticket = made.all_reduce(array, background=background, timeout_s=20)
        threads = [threading.Thread(target=wait, args=(ticket,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures
    """
    done = on_ranks(1, SLOW + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_the_end_does_not_wait_for_a_thread_that_sleeps(on_ranks):
    """It was told while another performed."""
    body = """
    ticket = made.all_reduce(array, background=False, timeout_s=20)
    waiting = threading.Thread(target=made.wait, args=(ticket, 20))
    waiting.start()
    time.sleep(0.2)
    started = time.monotonic()
    made.close(10)
    assert time.monotonic() - started < 5
    waiting.join()
    """
    done = on_ranks(1, SLOW + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_an_interrupt_where_an_operation_is_taken_is_no_hang(on_ranks):
    body = """
    from collections import deque

    class Interrupted(deque):
        def popleft(self):
            raise KeyboardInterrupt

    ticket = made.all_reduce(array, background=False, timeout_s=20)
    made._waiting = Interrupted(made._waiting)
    try:
        made.wait(ticket, 20)
    except KeyboardInterrupt:
        made._waiting = deque(made._waiting)
    try:
        made.wait(ticket, 20)
    except mls.errors.MpimlsysError as error:
        assert "was interrupted" in str(error), error
    else:
        raise AssertionError("it went on")
    """
    done = on_ranks(1, SLOW + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
