"""The parts of the context that need no MPI."""

import numpy as np
import pytest

from mpimlsys.context import cores_per_rank
from mpimlsys.network import InlineEngine


def masks(*ranks):
    words = np.zeros((len(ranks), 2), np.uint64)
    for row, cores in zip(words, ranks, strict=True):
        for core in cores:
            row[core // 64] |= np.uint64(1) << np.uint64(core % 64)
    return words


@pytest.mark.parametrize(
    ("ranks", "wanted"),
    [
        ([range(8)], [8]),
        ([range(8)] * 2, [4, 4]),
        ([range(8)] * 3, [2, 2, 2]),
        ([range(2)] * 4, [1, 1, 1, 1]),
        ([range(4), range(4, 8)], [4, 4]),
        ([range(60, 68), [3]], [8, 1]),
        ([[0], [0], [1], [1]], [1, 1, 1, 1]),
    ],
)
def test_cores_are_shared_fairly_or_as_the_launcher_bound_them(ranks, wanted):
    found = [cores_per_rank(masks(*ranks), rank) for rank in range(len(ranks))]
    assert found == wanted


def test_without_threads_in_mpi_operations_run_at_once(extension):
    engine = InlineEngine(extension, extension.ThreadWorld(1).transport(0))
    array = np.arange(3.0)
    ticket = engine.all_reduce(array, "average", label="x", check=True)
    assert engine.done(ticket)
    engine.wait(ticket, timeout_s=1)
    engine.close(timeout_s=1)
    assert array.tolist() == [0, 1, 2]
