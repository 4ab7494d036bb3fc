"""The collectives over MPI: results, mistakes and missing ranks, on every rank of 2, 3 and 4."""

import json

import pytest

PRELUDE = """
import json, sys, hashlib
from pathlib import Path
import numpy as np
from mpimlsys import native
from mpimlsys.errors import ConfigError, MpimlsysError, RankFailed, Timeout

extension = native.load()
from mpi4py import MPI
comm = MPI.COMM_WORLD.Dup()
comm.Set_errhandler(MPI.ERRORS_RETURN)
rank, size = comm.rank, comm.size
transport = extension.MpiTransport(MPI._addressof(comm), MPI._sizeof(comm))

def failure(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except MpimlsysError as error:
        return [type(error).__name__, str(error)]
    return ["none", ""]

def tell(**verdict):
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(verdict))
"""


@pytest.fixture
def verdicts(mpirun, tmp_path):
    """Run a script on ranks; returns what each of them told."""

    def run(ranks, body):
        script = tmp_path / "script.py"
        script.write_text(PRELUDE + body)
        done = mpirun(ranks, [script, tmp_path], timeout_s=90)
        assert done.returncode == 0, done.stderr
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(ranks)]

    return run


RESULTS = """
digest = hashlib.sha256()
for dtype in ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "uint64"):
    for count in (0, 1, size - 1, size + 1, 1000, 40_001):
        def input_of(r):
            return (np.random.default_rng([r, count]).integers(0, 9, count)).astype(dtype)
        everyone = np.stack([input_of(r) for r in range(size)])
        wanted = {
            "sum": everyone.sum(0).astype(dtype),
            "min": everyone.min(0),
            "max": everyone.max(0),
        }
        for op, values in wanted.items():
            for segment_bytes in (1024, 262144):
                mine = input_of(rank)
                extension.all_reduce(transport, mine, op, segment_bytes=segment_bytes, timeout_s=60)
                assert np.array_equal(mine, values), (dtype, count, op)
normal = np.random.default_rng(rank).normal(size=3_000_001).astype(np.float32)
total = np.sum([np.random.default_rng(r).normal(size=3_000_001).astype(np.float32)
                for r in range(size)], axis=0, dtype=np.float64)
extension.all_reduce(transport, normal, "average", timeout_s=60)
assert np.allclose(normal, total / size, rtol=1e-5, atol=1e-6)
digest.update(normal)

parameters = np.arange(100_003.0) if rank == size - 1 else np.zeros(100_003)
extension.broadcast(transport, parameters, size - 1, segment_bytes=65536, timeout_s=60)
assert np.array_equal(parameters, np.arange(100_003.0))
whole = np.empty((size, 50_000), np.int16)
extension.all_gather(transport, np.full(50_000, rank, np.int16), whole, timeout_s=60)
assert (whole == np.arange(size)[:, None]).all()
extension.barrier(transport, timeout_s=60)

own = comm.Dup()
engine = extension.Engine(extension.MpiTransport(MPI._addressof(own), MPI._sizeof(own)))
buckets = [np.full(9999 + i, rank + 1.0, np.float32) for i in range(30)]
tickets = [engine.all_reduce(bucket, check=i == 0) for i, bucket in enumerate(buckets)]
here = np.full(5, rank)
extension.all_reduce(transport, here, timeout_s=60)  # meanwhile, on the main thread
engine.wait(tickets[-1], timeout_s=60)
assert all((bucket == size * (size + 1) / 2).all() for bucket in buckets)
engine.close()
tell(digest=digest.hexdigest(), here=here.tolist())
"""


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_results_match_numpy_and_are_the_same_bits_on_every_rank(verdicts, ranks):
    told = verdicts(ranks, RESULTS)
    assert len({verdict["digest"] for verdict in told}) == 1
    assert all(verdict["here"] == [sum(range(ranks))] * 5 for verdict in told)


MISTAKES = """
last = rank == size - 1
tell(
    count=failure(extension.all_reduce, transport, np.zeros(12 if last else 10)),
    dtype=failure(extension.all_reduce, transport, np.zeros(8, "f4" if last else "f8")),
    layout=failure(extension.all_reduce, transport, np.zeros((4, 4)).T if last else np.zeros(16)),
    call=failure(extension.barrier, transport) if last
         else failure(extension.all_reduce, transport, np.zeros(4)),
    root=failure(extension.broadcast, transport, np.zeros(4), size if last else 0),
    after=failure(extension.all_reduce, transport, np.zeros(4)),
    handle=failure(extension.MpiTransport, MPI._addressof(comm), 3),
)
"""


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_a_mistake_of_one_rank_is_the_same_error_on_every_rank(verdicts, ranks):
    told = verdicts(ranks, MISTAKES)
    last = ranks - 1
    expected = {
        "count": f"rank 0 passed 10 elements of float64, rank {last} passed 12 elements",
        "dtype": f"rank 0 passed float64, rank {last} passed float32",
        "layout": f"rank {last} passed an array that is not C-contiguous",
        "call": f"rank 0 called all-reduce, rank {last} called barrier",
        "root": f"rank {last} passed a root that is not a rank",
        "handle": "communicator handles of 3 bytes",
    }
    for verdict in told:
        for name, message in expected.items():
            assert verdict[name][0] == "ConfigError"
            assert message in verdict[name][1]
        assert verdict["after"] == ["none", ""]


MISSING = """
array = np.zeros(300_000)
options = {"label": "bucket 3", "timeout_s": 0.5}
if rank == 0:
    tell(first=["none", ""])
else:
    if sys.argv[2] == "compared":
        first = failure(extension.all_reduce, transport, array, **options)
    else:
        first = failure(extension.all_reduce, transport, array, check=False, **options)
    del array
    tell(first=first, second=failure(extension.barrier, transport))
MPI.COMM_WORLD.Barrier()
"""


@pytest.mark.parametrize("how", ["compared", "in the ring"])
def test_a_missing_rank_is_a_timeout_with_a_story_and_breaks_the_transport(verdicts, how):
    told = verdicts(3, MISSING.replace("sys.argv[2]", repr(how)))
    for rank in (1, 2):
        kind, story = told[rank]["first"]
        assert kind == "Timeout"
        assert f"all-reduce #1 of bucket 3 on rank {rank} after 0." in story
        assert ("ring step " in story) == (how != "compared")
        assert told[rank]["second"][0] == "Timeout"
        assert (
            "this transport is broken since: all-reduce #1 of bucket 3" in told[rank]["second"][1]
        )
    assert any("from rank 0: no answer" in told[rank]["first"][1] for rank in (1, 2))
