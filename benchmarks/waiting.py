"""What ranks that wait take from one that computes, where there are more ranks than cores.

    mpirun -n 4 --oversubscribe python benchmarks/waiting.py

Rank 0 computes on one core for a second and then joins an all-reduce in which the others wait, in
the calling thread and in the background thread; beside it, what it computes while they sleep.
"""

import time

import numpy as np

import mpimlsys as mls

_SECONDS = 1.0
_REPEATS = 5


def computed(seconds):
    """Matrix products that this rank finishes in a time."""
    a = np.ones((128, 128), np.float32)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        a @ a
        count += 1
    return count


def round_of(ctx, array, wait):
    """Products of rank 0 and the processor time of this rank, while the others ``wait``."""
    mls.barrier()
    busy = time.process_time()
    count = 0
    if ctx.rank == 0:
        count = computed(_SECONDS)
    wait(array, ctx.rank == 0)
    return count, time.process_time() - busy


def blocking(array, _):
    """All others wait in their calling thread."""
    mls.allreduce(array)


def background(array, _):
    """All others wait for their background thread."""
    mls.allreduce_async(array).wait()


def asleep(array, computes):
    """All others sleep meanwhile."""
    if not computes:
        time.sleep(_SECONDS)
    mls.allreduce(array)


def main():
    """Take turns, and print medians on rank 0."""
    ctx = mls.init()
    ctx.limit_blas_threads(1)
    array = np.ones(1 << 16, np.float32)
    ways = {"asleep": asleep, "blocking": blocking, "background": background}
    found = {name: [] for name in ways}
    for _ in range(_REPEATS):
        for name, wait in ways.items():
            found[name].append(round_of(ctx, array, wait))
    every = ctx.gather(np.array([found[name] for name in ways], np.float64))
    if ctx.is_root:
        print(f"{ctx.size} ranks on {ctx.cores_of_node} cores; others wait for {_SECONDS} s")
        counts = np.median(every[0, :, :, 0], axis=1)
        waited = np.median(every[1:, :, :, 1], axis=(0, 2))
        for name, count, cpu in zip(ways, counts, waited, strict=True):
            print(
                f"  {name:<11} rank 0 computes {count / counts[0]:6.1%} of what it does alone; "
                f"a waiting rank uses {cpu / _SECONDS:5.1%} of a core"
            )


if __name__ == "__main__":
    main()
