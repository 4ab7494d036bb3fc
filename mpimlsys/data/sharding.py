"""Which samples a rank works on: pure functions of (seed, epoch), step, rank and size.

The global batch of a step does not depend on the number of ranks, and every sample occurs exactly
once per epoch; the last batch may be short.
"""

from __future__ import annotations

import numpy as np

from mpimlsys.types import IntArray


def epoch_order(count: int, epoch: int, seed: int) -> IntArray:
    """A permutation of ``range(count)``, the same on every rank.

    Args:
        count: number of samples.
        epoch: from 0.
        seed: of the run.
    """
    # the third word of the key's stream sets shuffling apart from dropout and initialisation
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, 0, 1, 0], np.uint64)
    rng = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return rng.permutation(count)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Number of steps in which every sample occurs once.

    Args:
        count: number of samples.
        batch_size: global; 0 stands for all samples.
    """
    return -(-count // (batch_size or max(count, 1)))


def shard(order: IntArray, step: int, batch_size: int, rank: int, size: int) -> IntArray:
    """This rank's part of a global batch.

    Args:
        order: of the epoch.
        step: within the epoch, from 0.
        batch_size: global.
        rank, size: among the workers.

    Returns:
        Indices; the parts of the ranks are contiguous, differ by at most one in length, and
        together are ``order[step * batch_size : (step + 1) * batch_size]``. May be empty.
    """
    batch = order[step * batch_size : (step + 1) * batch_size]
    base, longer = divmod(len(batch), size)
    start = rank * base + min(rank, longer)
    return batch[start : start + base + (rank < longer)]
