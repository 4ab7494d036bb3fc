"""What compression keeps on a GPU: without room for it, and after the end of its queue."""

import textwrap

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]

START = """
from mpimlsys.compress.codec import parse
from mpimlsys.device.queue import open_queue
ctx = mls.init(comm=mls.CommSection(timeout_s=20))
x = np.linspace(-1, 1, 100, dtype=np.float32)
queue = open_queue(ctx, ctx.peers, Array(x))
spec = parse("int8").native(ctx.native)

def memory_for(**options):
    return queue.compressor(100, parts=[(0, 60)], feedback="classic", momentum=0.5, **options)

def summed(memory, values, **options):
    array = Array(values)
    ticket = queue.compressed_all_reduce(array, memory, spec, step=0, **options)
    queue.wait(ticket, timeout_s=20)
    return array.host

def refused(memory, values, told, **options):
    try:
        summed(memory, values, **options)
    except mls.errors.ConfigError as error:
        assert told in str(error) and error.on_all_ranks, error
    else:
        raise AssertionError("it was not refused")
"""


def test_an_array_that_it_is_not_for_is_refused_by_all(on_ranks):
    body = """
    memory = memory_for()
    wrong = x[1:] if ctx.rank == 1 else x
    refused(memory, wrong, "rank 1 passed 99 elements of float32 where the compression is for 100")
    refused(memory, x.astype(float), "every rank passed 100 elements of float64")
    assert np.array_equal(summed(memory, x), summed(memory_for(), x))
    """
    done = on_ranks(2, START + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_a_rank_without_memory_for_it_is_heard_of_by_all(on_ranks):
    """Before anything has changed: what is tried again gives the same."""
    body = """
    def none_left():
        raise MemoryError("none left")

    memory = memory_for()
    if ctx.rank == 1:
        memory.packed = none_left
    for check in (True, False):
        refused(memory, x, "rank 1 lacks memory for what compression keeps", check=check)
    vars(memory).pop("packed", None)
    assert np.array_equal(summed(memory, x), summed(memory_for(), x))
    """
    done = on_ranks(2, START + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_it_may_outlive_the_queue(on_ranks):
    """The stand-in ends a process that frees memory on a stream that is gone."""
    body = """
    import gc
    memory = memory_for()
    summed(memory, x)
    queue.close(5)
    del memory, queue
    gc.collect()
    print("all is well", flush=True)
    """
    done = on_ranks(2, START + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all is well") == 2
