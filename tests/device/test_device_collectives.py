"""Collectives other than all-reduce on arrays of a GPU, whose stand-in is on the host."""

import textwrap

import pytest

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]

MOVES = """
import ml_dtypes
from standin import host
ctx = mls.init()
rank, size = ctx.rank, ctx.size
if {private}:
    from mpimlsys.device import peer_memory
    peer_memory.PeerMemory.open = classmethod(lambda *_: None)

def made(values):
    return Array(values, shared={shared})

def twice(name, arguments):
    yield getattr(mls, name)(*arguments())
    work = getattr(mls, name + "_async")(*arguments())
    yield work.wait(timeout_s=60)
    assert work.done()

from mpimlsys.device.staging import Staging
staged = []
exchange = Staging.exchange
Staging.exchange = lambda self, *args: (staged.append(args), exchange(self, *args))

LARGE = (9 << 20) + 13  # bytes: more than two segments and no multiple of anything
DTYPES = ("float32", "float64", "float16", ml_dtypes.bfloat16, "int8", "uint64", "bool",
          "complex64")

for dtype in map(np.dtype, DTYPES):
    for count in (0, 1, size + 1, 1000, LARGE // dtype.itemsize):
        every = [((np.arange(count) + 3 * peer) % 7).astype(dtype) for peer in range(size)]
        for root in range(size):
            array = made(every[rank])
            assert mls.broadcast(array, root) is array
            assert np.array_equal(array.host, every[root]), (dtype, count, root)
    every = [np.full((peer + 2, 3), peer + 1).astype(dtype) for peer in range(size)]
    for result in twice("allgather", lambda: (made(every[rank]),)):
        assert result.dtype == dtype
        assert np.array_equal(host(result), np.concatenate(every)), dtype

# ranks without rows, rows without elements, more than a segment of one rank and none of another
for rows in ([0] * size, [5 * (peer == 1) for peer in range(size)],
             [(2 << 20) * peer + 7 for peer in range(size)]):
    every = [np.arange(2 * count, dtype=np.float32).reshape(count, 2) + peer
             for peer, count in enumerate(rows)]
    for result in twice("allgather", lambda: (made(every[rank]),)):
        assert np.array_equal(host(result), np.concatenate(every)), rows
assert host(mls.allgather(made(np.zeros((2, 0), np.int32)))).shape == (2 * size, 0)

for rows in (size, 2 * size, (1 << 20) * size):
    every = [np.arange(rows, dtype=np.int64) + 1000 * peer for peer in range(size)]
    for result, counts in twice("alltoall", lambda: (made(every[rank]),)):
        assert np.array_equal(host(result), np.concatenate(
            [np.split(values, size)[rank] for values in every]))
        assert counts == [rows // size] * size
for factor in (0, 1, 200_000):
    sent = [[factor * ((sender + 2 * receiver) % 3) for receiver in range(size)]
            for sender in range(size)]
    every = [np.arange(3 * sum(row), dtype=np.float32).reshape(-1, 3) + sender
             for sender, row in enumerate(sent)]
    wanted = [np.split(values, np.cumsum(row))[rank] for values, row in zip(every, sent)]
    for result, counts in twice("alltoall", lambda: (made(every[rank]), sent[rank])):
        assert np.array_equal(host(result), np.concatenate(wanted)), factor
        assert counts == [row[rank] for row in sent]
assert bool(staged) is ({private} or not {shared}), len(staged)
again = mls.allgather(mls.allgather(made(np.full(2, rank, ml_dtypes.bfloat16))))
assert host(again).astype(int).tolist() == list(np.repeat(range(size), 2)) * size
assert mls.allreduce(again, "sum") is again
print("all is well", flush=True)
"""

REDUCTIONS = """
import ml_dtypes
from standin import host
ctx = mls.init(comm=mls.CommSection(fusion_bytes=4096))
rank, size = ctx.rank, ctx.size
if {private}:
    from mpimlsys.device import peer_memory
    peer_memory.PeerMemory.open = classmethod(lambda *_: None)

def made(values):
    return Array(values, shared={shared})

functions = {{"sum": np.sum, "average": np.mean, "min": np.min, "max": np.max, "product": np.prod}}
for dtype in map(np.dtype, ("float32", "float16", ml_dtypes.bfloat16, "int32", "uint8")):
    for shape in ((0,), (1,), (size + 1, 3), (size - 1, 5), (2 * size, 2, 2), (5, 0)):
        count = int(np.prod(shape))
        every = [(np.arange(count) % 3 + peer).reshape(shape).astype(dtype) for peer in range(size)]
        for op, function in functions.items():
            if op == "average" and dtype.kind in "iu":
                continue
            own = np.array_split(np.arange(shape[0]), size)[rank]
            wanted = function([values.astype(float) for values in every], axis=0)[own]
            array = made(every[rank])
            found = host(mls.reducescatter(array, op))
            np.testing.assert_allclose(found.astype(float), wanted, rtol=1e-2)
            array = made(every[rank])
            assert np.array_equal(host(mls.reducescatter_async(array, op).wait(60)), found)

# shares of several segments each, of which the first ranks have one row of several more
for rows, row in ((size + 1, (3 << 20) + 5), (size * (1 << 20) + 1, 1), (1, 2 << 20)):
    array = made(np.arange(rows * row, dtype=np.float32).reshape(rows, row) % 1000 + rank)
    own = np.array_split(np.arange(rows), size)[rank]
    wanted = size * (array.host[own] - rank) + sum(range(size))
    found = host(mls.reducescatter(array, "sum"))
    assert np.array_equal(found, wanted), (rows, row)

shapes = [(3,), (0,), (2, 2), (70_000,), (), (100,), (1000,), (1000,), (1,)]
for op in ("sum", "max"):
    works = []
    for turn in range(2):
        arrays = [made(np.full(shape, rank + turn, np.float32)) for shape in shapes]
        works.append((arrays, mls.grouped_allreduce_async(arrays, op)))
    for turn, (arrays, work) in enumerate(works):
        wanted = functions[op]([peer + turn for peer in range(size)])
        assert all(one is other for one, other in zip(arrays, work.wait(60)))
        assert all((array.host == wanted).all() for array in arrays), op
arrays = [made(np.full(shape, rank, ml_dtypes.bfloat16)) for shape in shapes]
assert mls.grouped_allreduce(arrays, "sum")[2] is arrays[2]
assert all((array.host.astype(int) == sum(range(size))).all() for array in arrays)
print("all is well", flush=True)
"""


@pytest.mark.parametrize("script", [MOVES, REDUCTIONS], ids=["moves", "reductions"])
@pytest.mark.parametrize(
    ("ranks", "private", "shared"),
    [(1, False, True), (2, False, True), (3, False, True), (3, False, False), (2, True, False)],
)
def test_results_are_right(on_ranks, script, ranks, private, shared):
    done = on_ranks(ranks, script.format(private=private, shared=shared))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all is well") == ranks


def test_operations_in_flight_come_in_their_order(on_ranks):
    body = """
    from standin import host
    ctx = mls.init()
    rank, size = ctx.rank, ctx.size
    array = Array(np.full(300_000, rank, np.float32))
    works = [
        mls.broadcast_async(array, size - 1),
        mls.allreduce_async(array, "sum"),
        mls.allgather_async(array),
        mls.reducescatter_async(array, "max"),
        mls.alltoall_async(array, [100_000] * size),
        mls.grouped_allreduce_async([array, Array(np.ones(5, np.float32))], "sum"),
        mls.broadcast_async(array, 0),
    ]
    results = [work.wait(timeout_s=60) for work in reversed(works)][::-1]
    total = size * (size - 1)
    assert results[0] is results[1] is results[6] is array
    assert (host(results[2]) == total).all() and host(results[2]).size == size * 300_000
    assert host(results[3]).size == 100_000
    assert results[4][1] == [100_000] * size
    assert (host(results[4][0])[100_000 * rank :][:100_000] == total).all()
    assert (results[5][1].host == size).all()
    assert (array.host[:100_000] == size * total).all()
    """
    done = on_ranks(3, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


DISAGREEMENTS = [
    ("mls.broadcast(array(5 + rank), 0)", "broadcasts 5 elements of float32 from rank 0, rank 1"),
    ("mls.broadcast(array(5), rank % 2)", "from rank 0, rank 1 broadcasts 5 elements of float32"),
    ("mls.broadcast(array(5), 9)", "root 9 is not a rank"),
    ("mls.allgather(array((2, 2 + rank)))", "gathers rows of 2 elements of float32, rank 1"),
    ("mls.reducescatter(array(5 + rank), 'sum')", "scatters 5 rows of 1 elements"),
    ("mls.reducescatter(array(5), 'median')", "no operation is called 'median'"),
    ("mls.reducescatter(Array(np.ones(5, np.int64)))", "an average of int64"),
    ("mls.alltoall(array((2 * size, 1 + rank)))", "exchanges rows of 1 elements"),
    ("mls.alltoall(array(5), [5] * size if rank else [5] + [0] * (size - 1))", "rank 1 passed"),
    ("mls.grouped_allreduce([array(5), array(6 + rank)], 'sum')", "reduces 5 and 6 elements"),
    ("mls.grouped_allreduce([array(5)] * (1 + rank), 'sum')", "rank 1 reduces 5 and 5 elements"),
    (
        "mls.grouped_allreduce([array(5), Array(np.ones(5))], 'sum')",
        "arrays of float32 and float64 cannot be combined",
    ),
    ("[mls.broadcast, mls.allreduce, mls.broadcast][rank](array(5))", "rank 1 reduces 5"),
    ("mls.allreduce(array(5), 'sum', algorithm='rind')", "passed an algorithm that is unknown"),
    ("mls.grouped_allreduce([array(5)] * 2, 'sum', algorithm='rind')", "algorithm that is unknown"),
]


@pytest.mark.parametrize("later", [False, True], ids=["now", "later"])
def test_mistakes_are_refused_by_all_and_the_next_operation_goes_on(on_ranks, later):
    """Every mistake in one run: each is followed by operations that must be right."""
    body = f"""
    from standin import host
    ctx = mls.init(comm=mls.CommSection(timeout_s=30))
    rank, size = ctx.rank, ctx.size
    if {later}:
        for name in ("broadcast", "allgather", "reducescatter", "alltoall", "grouped_allreduce",
                     "allreduce"):
            def blocking(*args, start=getattr(mls, name + "_async"), **options):
                return start(*args, **options).wait()
            setattr(mls, name, blocking)
    def array(shape):
        last = Array(np.full(shape, rank + 1, np.float32))
        passed.append(last)
        return last
    for call, told in {DISAGREEMENTS!r}:
        passed = []
        try:
            eval(call)
        except mls.errors.ConfigError as error:
            assert told in str(error) and error.on_all_ranks, (call, error)
        else:
            raise AssertionError(call)
        assert all((each.host == rank + 1).all() for each in passed), call
        assert (mls.allreduce(array(7), "sum").host == 6).all()
        assert host(mls.allgather(array(2))).tolist() == [1, 1, 2, 2, 3, 3]
    print("all is well", flush=True)
    """
    done = on_ranks(3, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all is well") == 3


def test_a_rank_without_memory_for_the_result(on_ranks):
    """All hear of it, as often as they ask."""
    body = """
    from standin import host
    from mpimlsys.device.results import Result
    make = Result.make

    def none_left(self, shape, stream):
        if ctx.rank == 1 and shape == (6,):
            raise MemoryError("none left")
        return make(self, shape, stream)

    Result.make = none_left
    ctx = mls.init()
    array = Array(np.ones(3, np.float32))
    for start in (mls.allgather_async, lambda x: mls.alltoall_async(Array(np.ones(6)))):
        work = start(array)
        for _ in range(2):
            try:
                work.wait()
            except mls.errors.ConfigError as error:
                assert "lacks memory for its result" in str(error) and error.on_all_ranks, error
            else:
                raise AssertionError("it had memory")
    assert host(mls.allgather(Array(np.ones(2)))).tolist() == [1] * 4
    print("all is well", flush=True)
    """
    done = on_ranks(2, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all is well") == 2


@pytest.mark.parametrize("call", ["allreduce", "broadcast", "allgather"])
def test_a_gpu_here_and_the_host_there(on_ranks, call):
    """At first one error on both; later, as the queue is apart from the host's, a timeout."""
    body = f"""
    import time
    ctx = mls.init(comm=mls.CommSection(timeout_s=20))
    values = np.ones(5, np.float32)
    def mixed(timeout_s):
        try:
            mls.{call}(Array(values) if ctx.rank == 0 else values, timeout_s=timeout_s)
        except mls.errors.MpimlsysError as error:
            print(f"[{{type(error).__name__}}: {{error}}]", flush=True)
    mixed(20)
    assert (mls.broadcast(Array(values)).host == 1).all()
    mixed(1)
    time.sleep(3)  # so that the end of one is not what the other hears of
    """
    done = on_ranks(2, textwrap.dedent(body), timeout_s=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the ranks disagree: rank 0 called barrier, rank 1") == 2
    assert done.stdout.count("Timeout: ") == 2


def test_process_sets_are_under_way_at_once(on_ranks):
    body = """
    from standin import host
    ctx = mls.init()
    rank = ctx.rank
    sets = [mls.process_set(ranks) for ranks in ([0, 2], [0, 1, 2], [2, 0])]
    mine = [one for one in sets if one.rank >= 0]
    for turn in range(5):
        works = {}
        for which in np.random.default_rng(100 * turn + rank).permutation(len(mine)):
            array = Array(np.full(1000, rank, np.float32))
            works[which] = [
                mls.broadcast_async(array, mine[which].size - 1, process_set=mine[which]),
                mls.allgather_async(array, process_set=mine[which]),
            ]
        for started in works.values():
            assert (started[0].wait(timeout_s=60).host == 2).all()
            assert (host(started[1].wait(timeout_s=60)) == 2).all()
    try:
        mls.broadcast(Array(np.ones(3)), process_set=sets[0])
    except mls.errors.ConfigError as error:
        assert rank == 1 and "not in the process set" in str(error)
    """
    done = on_ranks(3, textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("call", ["broadcast", "allgather", "reducescatter", "alltoall"])
def test_a_late_rank_is_a_timeout_that_names_it(on_ranks, call):
    body = f"""
    import time
    ctx = mls.init(comm=mls.CommSection(timeout_s=20, stall_warning_s=0))
    mls.barrier()
    array = Array(np.ones(4, np.float32))
    mls.allreduce(array)
    if ctx.rank == 0:
        try:
            mls.{call}(array, timeout_s=1)
        except mls.errors.Timeout as error:
            print("heard:", error, flush=True)
    time.sleep(2.5)
    """
    done = on_ranks(2, textwrap.dedent(body), timeout_s=60)
    assert "heard:" in done.stdout, done.stderr
    assert "rank 1" in done.stdout
