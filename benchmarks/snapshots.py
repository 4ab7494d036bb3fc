"""How long a worker waits for a server while another one reads a snapshot of its table.

    mpirun -n 3 python benchmarks/snapshots.py

One server with a table of 1 GiB; one worker pushes and pulls random rows all the time, the other
one reads the whole table twice, as it was at one moment. Rank 0 prints what a push and pull took
before and while the table was read.
"""

from __future__ import annotations

import time

import numpy as np
from mpi4py import MPI

import mpimlsys as mls

ROWS, WIDTH = 1 << 22, 64
TOUCHED = 1000
WARM_S, QUIET_S, READS = 3.0, 5.0, 2


def train(client: mls.ps.Client, until: MPI.Request) -> list[tuple[float, float]]:
    """When each push and pull began, and how long it took."""
    random = np.random.default_rng(0)
    gradients = np.ones((TOUCHED, WIDTH), np.float32)
    into = np.empty_like(gradients)
    found = []
    while not until.Test():
        rows = random.integers(0, ROWS, TOUCHED).astype(np.uint64)
        began = time.time()
        client.push_rows("rows", rows, gradients, lr=0.1)
        client.pull_rows("rows", rows, into)
        client.settle()
        found.append((began, time.time() - began))
    return found


def read(client: mls.ps.Client) -> list[tuple[float, float]]:
    """When each reading began and ended."""
    time.sleep(WARM_S + QUIET_S)
    found = []
    for _ in range(READS):
        began = time.time()
        seen = sum(rows.size for rows, _ in client.snapshot("rows"))
        if seen != ROWS:
            raise SystemExit(f"{seen} rows came instead of {ROWS}")
        found.append((began, time.time()))
    return found


def main() -> None:
    """Measure and print."""
    ctx = mls.init(mls.ClusterSection(servers=1))
    tables = [mls.ps.Table("rows", count=ROWS, width=WIDTH, consistency="asp")]
    noted: list[tuple[float, float]] = []
    if ctx.role == "server":
        mls.ps.serve()
    elif ctx.group.rank == 0:
        client = mls.ps.Client(tables)
        noted = train(client, MPI.COMM_WORLD.irecv(source=MPI.ANY_SOURCE, tag=1))
        client.close()
    else:
        client = mls.ps.Client(tables, reads_only=True)
        noted = read(client)
        MPI.COMM_WORLD.send(None, dest=ctx.roles.index("worker"), tag=1)
        client.close()
    everybody = MPI.COMM_WORLD.gather((ctx.role, ctx.rank, noted))
    if everybody is None:
        return
    steps, readings = (noted for role, _, noted in everybody if role == "worker")
    began, ended = readings[0][0], readings[-1][1]
    quiet = np.array([took for at, took in steps if began - QUIET_S < at < began - took])
    beside = np.array([took for at, took in steps if at + took > began and at < ended])
    gib = ROWS * WIDTH * 4 / 2**30
    print(f"{gib:g} GiB read {READS} times in {ended - began:.1f} s, {TOUCHED} rows per step")
    print("| | steps | median ms | p99 ms | longest ms |")
    print("|---|---|---|---|---|")
    for name, took in (("before", quiet), ("while it is read", beside)):
        median, p99 = np.quantile(took, [0.5, 0.99])
        print(
            f"| {name} | {len(took):,} | {1e3 * median:.2f} | {1e3 * p99:.2f} "
            f"| {1e3 * took.max():.2f} |"
        )


if __name__ == "__main__":
    main()
