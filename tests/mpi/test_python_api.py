"""The Python interface under mpirun: init, collectives on all kinds of arrays, errors."""

import re

import pytest

SCRIPT = """
import array, sys
import numpy as np
import mpimlsys as mls
from mpimlsys.errors import ConfigError, Timeout

ctx = mls.init()
assert mls.init() is ctx
rank, size = ctx.rank, ctx.size
assert (ctx.role, ctx.roles) == ("worker", ("worker",) * size)
assert (ctx.node, ctx.node_count, ctx.local_rank, ctx.local_size) == (0, 1, rank, size)
assert ctx.cores >= 1

x = np.arange(5, dtype=np.float32) + rank
assert mls.allreduce(x) is x
np.testing.assert_allclose(x, np.arange(5) + (size - 1) / 2)
for op, wanted in (("sum", size * (size - 1) // 2), ("min", 0), ("max", size - 1)):
    y = np.full((2, 3), rank, np.int64)
    mls.allreduce(y, op)
    assert (y == wanted).all()
z = array.array("d", [rank] * 4)
mls.allreduce(z, "sum")
assert list(z) == [size * (size - 1) / 2] * 4
works = [mls.allreduce_async(np.full(1000, rank, np.float64), "sum") for _ in range(5)]
for work in works:
    work.wait(timeout_s=30)
    assert work.done()
w = np.full(7, rank, np.float32)
mls.broadcast(w, root=size - 1)
assert (w == size - 1).all()
mls.barrier(timeout_s=30)

for bad, message in (
    (np.zeros(10)[::2] if rank == size - 1 else np.zeros(5), "not C-contiguous"),
    (np.zeros(5 + rank), "disagree"),
    (np.zeros(5, np.float32 if rank else np.float64), "disagree"),
    (np.zeros(5, "datetime64[s]"), "dtype"),
):
    try:
        mls.allreduce(bad, timeout_s=30)
    except ConfigError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
try:
    mls.allreduce([1.0, 2.0])
except ConfigError as error:
    assert "does not share its memory" in str(error)

try:
    with ctx.together():
        if rank == 1:
            raise ConfigError("only here")
except ConfigError as error:
    assert str(error) == "rank 1: only here" and error.on_all_ranks

if "torch" in sys.argv:
    import torch
    t = torch.full((3, 4), float(rank))
    assert mls.allreduce(t, "sum") is t
    assert (t == size * (size - 1) / 2).all()
    b = torch.full((9,), 1.5, dtype=torch.bfloat16)
    mls.allreduce(b, "sum")
    assert (b == 1.5 * size).all()
    g = torch.ones(4, requires_grad=True)
    with torch.no_grad():
        mls.allreduce(g, "sum")
    assert (g == size).all()
mls.barrier()
if rank == 0:
    print("all is well")
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_collectives(mpirun, tmp_path, ranks):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = mpirun(ranks, [script])
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


def test_tensors_of_torch(mpirun, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed (pip install torch==2.13.0)")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = mpirun(2, [script, "torch"])
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


def test_a_rank_that_does_not_come_is_a_timeout_with_a_story(mpirun, tmp_path):
    script = tmp_path / "late.py"
    script.write_text(
        "import time, numpy as np, mpimlsys as mls\n"
        "ctx = mls.init()\n"
        "if ctx.rank == 1:\n"
        "    time.sleep(3)\n"
        "    ctx.abort(0)\n"
        "try:\n"
        "    mls.allreduce(np.ones(4), timeout_s=0.5)\n"
        "except mls.errors.Timeout as error:\n"
        "    print('heard:', error, flush=True)\n"
        "    time.sleep(10)\n"
    )
    done = mpirun(2, [script], timeout_s=60)
    assert "all-reduce" in done.stdout
    assert float(re.search(r"on rank 0 after (\S+) s", done.stdout)[1]) >= 0.5
    assert "receive from rank 1: no answer" in done.stdout


def test_an_exception_on_one_rank_ends_the_others(mpirun, tmp_path):
    script = tmp_path / "lonely.py"
    script.write_text(
        "import numpy as np, mpimlsys as mls\n"
        "ctx = mls.init()\n"
        "if ctx.rank == 1:\n"
        "    raise ValueError('only here')\n"
        "mls.allreduce(np.ones(4))\n"
    )
    done = mpirun(2, [script], timeout_s=60)
    assert done.returncode != 0
    assert "ValueError: only here" in done.stderr


def test_roles_are_assigned_at_init(mpirun, tmp_path):
    """Only workers train so far."""
    script = tmp_path / "roles.py"
    script.write_text(
        "import mpimlsys as mls\n"
        "from mpimlsys.jobfile import ClusterSection\n"
        "ctx = mls.init(ClusterSection(servers=1))\n"
        "assert ctx.roles == ('worker', 'worker', 'server'), ctx.roles\n"
        "assert ctx.group.size == (1 if ctx.rank == 2 else 2)\n"
        "try:\n"
        "    mls.init(ClusterSection(servers=2))\n"
        "except mls.errors.ConfigError as error:\n"
        "    assert 'already initialised' in str(error)\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )
    done = mpirun(3, [script])
    assert done.returncode == 0, done.stderr
