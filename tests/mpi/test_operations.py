"""Every operation, blocking and in the background, over all ranks and over process sets."""

import pytest

SCRIPT = """
import sys
import numpy as np
import mpimlsys as mls
from mpimlsys.errors import ConfigError

ctx = mls.init()
rank, size = ctx.rank, ctx.size
ranks = np.arange(size)


def both(name, args, **options):
    yield getattr(mls, name)(*args(), **options)
    yield getattr(mls, name + "_async")(*args(), **options).wait(timeout_s=60)


for algorithm in ("auto", "ring", "doubling", "halving", "shared", "hierarchical", "mpi"):
    for count in (0, 1, size, 5000):
        for result in both("allreduce", lambda: (np.full(count, rank + 1.0), "product"),
                           algorithm=algorithm):
            assert (result == np.prod(ranks + 1)).all()

shapes = [(3,), (0,), (2, 2), (70_000,), ()]
for result in both("grouped_allreduce",
                   lambda: ([np.full(shape, rank, np.float32) for shape in shapes], "sum")):
    assert [array.shape for array in result] == shapes
    assert all((array == ranks.sum()).all() for array in result)
assert mls.grouped_allreduce([]) == []

for rows in (0, 1, size, 2 * size + 1, 9999):
    whole = np.arange(rows * 2.0).reshape(rows, 2)
    for result in both("reducescatter", lambda: (whole + rank, "average")):
        own = np.array_split(np.arange(rows), size)[rank]
        np.testing.assert_allclose(result, whole[own] + ranks.mean())

for result in both("allgather", lambda: (np.full((rank + 1, 2), rank),)):
    assert (result == np.repeat(ranks, ranks + 1)[:, None]).all() and result.shape[1] == 2
assert list(mls.allgather(np.array(["root" if rank == 0 else "else"]))) == (
    ["root"] + ["else"] * (size - 1)
)
for result in both("broadcast", lambda: (np.full(9, rank), size - 1)):
    assert (result == size - 1).all()

for rows, counts in both("alltoall", lambda: (np.arange(2 * size) + 100 * rank,)):
    assert (rows == (100 * ranks[:, None] + [2 * rank, 2 * rank + 1]).ravel()).all()
    assert counts == [2] * size
for rows, counts in both("alltoall", lambda: (np.full((rank * size, 3), rank), [rank] * size)):
    assert counts == list(ranks) and (rows == np.repeat(ranks, ranks)[:, None]).all()
mls.barrier_async().wait()

# process sets: members apart from the others, in memory of the set, of the role and of one's own
ends, middle = mls.process_set([size - 1, 0]), mls.process_set([1])
assert ends.ranks == (0, size - 1) and ends.size == 2
assert (ends.rank, middle.rank) == ({0: 0, size - 1: 1}.get(rank, -1), 0 if rank == 1 else -1)
shared = ctx.empty(100_000)
if ends.rank >= 0:
    for array in (ends.empty(100_000, np.float32), shared, np.empty(100_000, np.float32)):
        array[:] = rank + 1
        mls.allreduce(array, "sum", process_set=ends)
        assert (array == size + 1).all()
    assert mls.allgather(np.array([rank]), process_set=ends).tolist() == [0, size - 1]
    assert mls.broadcast(np.array([rank]), 1, process_set=ends)[0] == size - 1
    assert (mls.alltoall(np.array([rank, rank]), process_set=ends)[0] == [0, size - 1]).all()
    assert len(mls.reducescatter(np.ones(5), process_set=ends)) == 3 - ends.rank
else:
    shared[:] = -1
    try:
        mls.allreduce(shared, process_set=ends)
    except ConfigError as error:
        assert "not in the process set of ranks" in str(error)
    else:
        raise AssertionError
mls.barrier()
assert (shared == (size + 1 if ends.rank >= 0 else -1)).all()

# several sets at once, each rank in an order of its own
sets = [mls.process_set(ranks) for _ in range(3)]
for turn in range(20):
    works = {}
    for which in np.random.default_rng(100 * turn + rank).permutation(len(sets)):
        array = np.full(3000 * (which + 1), rank + which, np.float64)
        works[which] = mls.allreduce_async(array, "sum", process_set=sets[which])
    for which, work in works.items():
        assert (work.wait(timeout_s=60) == ranks.sum() + size * which).all()

for bad, message in (
    ([0, 0], "needs different ranks"), ([size], "needs different ranks"), ([], "at least one"),
    ([int(rank > 0)], "disagree about a process set: rank 0 asked for ranks [0], rank 1 for [1]"),
):
    try:
        mls.process_set(bad)
    except ConfigError as error:
        assert message in str(error) and error.on_all_ranks, error
    else:
        raise AssertionError(bad)
for call, message in (
    (lambda: mls.allreduce(np.ones(3, np.int32)), "integers for an average"),
    (lambda: mls.alltoall(np.ones(2 * size + 1)), "pass counts"),
    (lambda: mls.alltoall(np.ones(2), [-1, 3]), "must not be negative"),
    (lambda: mls.alltoall(np.ones(3), [3]), "counts that do not fit"),
    (lambda: mls.allgather(np.ones((2, 2 + rank))), "of 16 bytes, rank 1 rows of 24"),
    (lambda: mls.allgather(np.float32(1).reshape(())), "has no rows"),
):
    try:
        call()
    except ConfigError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
if "torch" in sys.argv:
    import torch

    gathered = mls.allgather(torch.full((2, 3), float(rank), dtype=torch.bfloat16))
    assert gathered.dtype == torch.bfloat16 and gathered.shape == (2 * size, 3)
    assert gathered[:, 0].tolist() == list(np.repeat(ranks, 2))
mls.barrier()
if rank == 0:
    print("all is well")
"""


@pytest.mark.parametrize("ranks", [3, 4])
def test_operations(mpirun, tmp_path, ranks):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = mpirun(ranks, [script])
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


def test_tensors(mpirun, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch==2.13.0)")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = mpirun(3, [script, "torch"])
    assert done.returncode == 0, done.stderr
