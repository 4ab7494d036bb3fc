"""On streams that take their time: what nobody waits for is not there when it is used.

Scripts of the other tests, and one whose caller's stream is busy before and after an operation.
"""

from functools import partial

import pytest
from test_allreduce import SUMS
from test_compressed_on_gpus import SAME, STEPS
from test_device_collectives import MOVES, REDUCTIONS

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]


@pytest.fixture
def on_late_ranks(on_ranks):
    return partial(on_ranks, env={"MLS_STANDIN_LATE": "1"})


WAYS = pytest.mark.parametrize(
    ("private", "shared"), [(False, True), (False, False)], ids=["in memory", "staged"]
)


@WAYS
@pytest.mark.parametrize("script", [SUMS, MOVES, REDUCTIONS], ids=["sums", "moves", "reductions"])
def test_results_are_right(on_late_ranks, script, private, shared):
    done = on_late_ranks(3, script.format(private=private, shared=shared))
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


@pytest.mark.parametrize(
    ("codecs", "patterns"),
    [
        (("int8", "sign"), ("gather", "owners")),
        (("top_k:0.1:sampled+int8", "random_k:0.05"), ("gather", "owners")),
        (("fp16",), ("ring",)),
        (("top_k:0.3",), ("balanced",)),
    ],
    ids=["dense", "sparse", "ring", "balanced"],
)
def test_compressed_sums_are_those_of_the_host(on_late_ranks, codecs, patterns):
    done = on_late_ranks(3, SAME + STEPS.format(codecs=codecs, patterns=patterns))
    assert done.returncode == 0, done.stderr
    assert "all is well" in done.stdout


BUSY = """
from mpimlsys.device import gpu, peer_memory, view
from mpimlsys.device.gpu import number_for
if not {shared}:
    peer_memory.PeerMemory.open = classmethod(lambda *_: None)
ctx = mls.init()
native = gpu(number_for(ctx.local_rank)).native
stream = native.make_stream()
count = 1_500_000
source = np.arange(count, dtype=np.float32) % 97
values, spoilt = Array(source + ctx.rank), Array(np.full(count, np.nan, np.float32))
array, result = (Array(np.zeros(size, np.float32), stream=stream) for size in (count, 3 * count))
def copy(into, source):
    place = view(source)
    native.copy(view(into).address, place.address, place.nbytes, stream=stream)
every = np.concatenate([source, source + 1, source + 2])
for turn in range(4):
    for name, start, wanted in (
        ("all-reduce", lambda: mls.allreduce_async(array, op="sum"), 3 * source + 3),
        ("broadcast", lambda: mls.broadcast_async(array, 1), source + 1),
        ("all-gather", lambda: mls.allgather_async(array), every),
    ):
        copy(array, spoilt)
        copy(array, values)
        copy(result, start().wait())
        copy(array, spoilt)
        assert np.array_equal(result.host[: wanted.size], wanted), (turn, name)
def five():
    return [Array(np.zeros(count, np.float32), stream=stream) for _ in range(5)]
arrays, results = five(), five()
for turn in range(4):
    works = []
    for array in arrays:
        copy(array, spoilt)
        copy(array, values)
        works.append(mls.allreduce_async(array, op="sum"))
    works.append(mls.broadcast_async(arrays[0], 2))
    for array, result, work in zip(arrays, results, works):
        work.wait()
        if array is not arrays[0]:  # which is still to be broadcast
            copy(result, array)
            copy(array, spoilt)
    copy(results[0], works[-1].wait())
    for result in results:
        assert np.array_equal(result.host, 3 * source + 3), turn
print("all is well", flush=True)
"""


@pytest.mark.parametrize("shared", [True, False], ids=["in memory", "staged"])
def test_the_callers_stream_is_followed_and_waits(on_late_ranks, shared):
    """It writes the array just before an operation, and over it as soon as that is done."""
    done = on_late_ranks(3, BUSY.format(shared=shared))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all is well") == 3
