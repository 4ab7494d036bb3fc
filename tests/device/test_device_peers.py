"""Memory of other ranks' GPUs: what stays open, and what is closed and opened anew."""

import textwrap

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]

PARTLY = """
class Partly:
    def __init__(self, native, **instead):
        self._native = native
        vars(self).update(instead)
    def __getattr__(self, name):
        return getattr(self._native, name)

def fails(*_, **__):
    raise mls.errors.ConfigError("the GPU: not here")
"""


def test_another_allocation_with_the_same_handle_is_opened_anew(on_ranks):
    body = """
    import itertools, standin
    from mpimlsys.device import queue
    ctx = mls.init()
    for turn in range(3):
        standin._numbers = itertools.count(1000)
        array = Array(np.full(5, turn + ctx.rank, np.float32))
        mls.allreduce(array, "sum")
        assert array.host.tolist() == [3 * turn + 3.0] * 5
        del array
    (made,) = queue._queues.values()
    assert [len(opened) for opened in made._ways.peers._seen] == [1] * 3
    """
    done = on_ranks(3, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_opened_leaves_the_rest_open(on_ranks):
    """Operations that are under way may use it."""
    body = """
    from mpimlsys.device import queue
    ctx = mls.init()
    arrays = [Array(np.full(9, ctx.rank, np.float32)) for _ in range(2)]
    mls.allreduce(arrays[0], "sum")
    (made,) = queue._queues.values()
    opened = [dict(opened) for opened in made._ways.peers._seen]
    native = made._gpu.native
    closed = []
    see = fails if ctx.rank == 1 else native.see
    unsee = lambda address: (closed.append(address), native.unsee(address))
    made._gpu.native = Partly(native, see=see, unsee=unsee)
    x = arrays[1 if ctx.rank == 0 else 0]
    mls.allreduce(x, "sum")
    assert x.host.tolist() == [6.0] * 9, x.host  # of 0, and of 3 twice
    assert [dict(opened) for opened in made._ways.peers._seen] == opened
    assert len(closed) == (ctx.rank == 2)
    made._gpu.native = native
    """
    done = on_ranks(3, PARTLY + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_sizes_that_were_not_compared_are_refused(on_ranks):
    body = """
    from mpimlsys.device import queue
    ctx = mls.init()
    arrays = [Array(np.ones(size, np.float32)) for size in (5 + ctx.rank, 5)]
    made = queue.open_queue(ctx, ctx.peers, arrays[0])
    try:
        made.wait(made.all_reduce(arrays[0], check=False), 20)
    except mls.errors.ConfigError as error:
        assert "arrays have [20, 24] bytes" in str(error) and error.on_all_ranks, error
    else:
        raise AssertionError("it was not refused")
    made.wait(made.all_reduce(arrays[1], check=False), 20)
    assert (arrays[0].host == 1).all() and (arrays[1].host == 2).all()
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("call", ["make_event", "share_event", "see_event"])
def test_a_gpu_without_shared_events_is_staged(on_ranks, call):
    body = f"""
    from mpimlsys.device import queue
    ctx = mls.init()
    here = queue.gpu(queue.number_for(ctx.local_rank))
    make_event = here.native.make_event
    if ctx.rank == 1:
        kept = lambda shared=False, **how: fails() if shared else make_event(**how)
        here.native = Partly(here.native, {call}=kept if {call!r} == "make_event" else fails)
    array = Array(np.ones(5, np.float32))
    assert mls.allreduce(array, "sum").host.tolist() == [3.0] * 5
    (made,) = queue._queues.values()
    assert made._ways.peers is None
    """
    done = on_ranks(3, PARTLY + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


def test_what_streams_wait_for(on_ranks):
    """Ranks 0 and 2 share a GPU, so that rank 2 reduces nothing."""
    body = """
    from mpimlsys.device import queue
    ctx = mls.init()
    rank = ctx.rank
    first, second = (Array(np.full(64, rank, np.float32)) for _ in range(2))
    made = queue.queue_of(ctx, ctx.peers, first)
    peers, native = made._ways.peers, made._gpu.native
    before, at, reductions, arrivals = {}, {}, [], []

    def record(event, stream):
        at[event] = set(before.get(stream, ()))
        if event == peers._ready:
            arrivals.append(at[event])
        native.record(event, stream)

    def follow(stream, event):
        before.setdefault(stream, set()).update(at.get(event, {event}))
        native.follow(stream, event)

    def copy(*args, stream):
        before[stream].add("a copy")
        native.copy(*args, stream=stream)

    def reduce(*args, stream, **how):
        reductions.append(set(before[stream]))
        before[stream].add("a reduction")
        native.reduce(*args, stream=stream, **how)

    made._gpu.native = Partly(native, record=record, follow=follow, copy=copy, reduce=reduce)
    works = [mls.allreduce_async(array, "sum") for array in (first, second)]
    works += [mls.broadcast_async(first, 0), mls.allreduce_async(first, "sum")]
    for work in works:
        work.wait(timeout_s=20)
    assert first.host.tolist() == [9.0] * 64 and second.host.tolist() == [3.0] * 64
    made._gpu.native = native

    theirs = dict(enumerate(peers._theirs))
    ready, done = ({peer: pair[which] for peer, pair in theirs.items()} for which in (0, 1))
    assert not arrivals[1] & (set(done.values()) | {"a reduction"}), arrivals[1]
    assert rank == 0 or "a copy" in arrivals[3]
    assert len(reductions) == (0 if rank == 2 else 3)
    if rank != 2:
        other = 1 - rank
        assert {ready[other], ready[2], done[other]} <= reductions[1]
        assert done[2] not in reductions[1]
        assert {done[other], done[2]} <= reductions[2]  # that of the broadcast
    """
    done = on_ranks(3, PARTLY + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
