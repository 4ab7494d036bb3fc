"""Arrays of the context lie in memory that the ranks share, without a name to be left behind."""

import json

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
import numpy as np
import mpimlsys as mls
from mpimlsys.errors import ConfigError

ctx = mls.init()
arrays = {count: ctx.empty(count, "float32") for count in (0, 1, 5, 2048, 2049, 300_001)}
arrays[6] = ctx.empty((2, 3), np.float64)
right = []
for count, array in arrays.items():
    for op in ("sum", "average", "min", "max"):
        for private in (False, True):
            data = np.empty_like(array) if private else array
            data.reshape(-1)[:] = np.arange(count) % 7 + ctx.rank
            mls.allreduce(data, op)
            first = np.arange(count) % 7
            total = first * ctx.size + sum(range(ctx.size))
            wanted = {"sum": total, "average": total / ctx.size,
                      "min": first, "max": first + ctx.size - 1}[op]
            right.append(bool(np.allclose(data.reshape(-1), wanted, rtol=1e-6)))
aligned = all(array.ctypes.data % 64 == 0 for array in arrays.values())
work = [mls.allreduce_async(array, "sum") for array in arrays.values()]
mls.allreduce(np.ones(3))  # beside those in the background
for one in work:
    one.wait(timeout_s=30)
try:
    mls.allreduce(np.ones(5 + (ctx.rank == 1)))
    said = ""
except ConfigError as error:
    said = str(error)
shared = Path("/proc/self/maps").read_text().count("/memfd:mpimlsys")
Path(sys.argv[1], f"{ctx.rank}.json").write_text(
    json.dumps({"right": all(right), "aligned": aligned, "said": said, "shared": shared})
)
"""


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_arrays_of_the_context_are_reduced_where_they_are(ranks, mpirun, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = mpirun(ranks, [tmp_path / "program.py", tmp_path])
    assert done.returncode == 0, done.stderr
    for rank in range(ranks):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["right"]
        assert told["aligned"]
        assert "rank 0 passed 5 elements of float64, rank 1 passed 6" in told["said"]
        assert told["shared"] >= 9  # seven arrays, two boards
