"""``mpimlsys bench ps``: push and pull through parameter servers, beside plain messages.

Each round times requests to the servers and then plain MPI messages of the same bytes between the
same ranks, in turn. The servers' loops run meanwhile in threads of their own.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from mpimlsys import config, context, ps
from mpimlsys.bench.allreduce import bytes_of, size_text
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.jobfile import ClusterSection
from mpimlsys.ps.wiring import wire
from mpimlsys.types import Array

_ROUNDS = 20
_OF_A_ROUND = 5  # requests, then as many plain exchanges
_SPARSE = re.compile(r"(\d+)x(\d+)")
_ZIPF = 1.0  # exponent of the skewed keys


def run(*, servers: int, dense: str, sparse: str, rows: int, as_json: bool) -> int:
    """Measure on all ranks and print on rank 0; returns the exit status. Collective."""
    cases = [*_dense_cases(dense), *_sparse_cases(sparse, rows)]
    ctx = context.init(ClusterSection(servers=servers))
    if not ctx.network.thread_multiple:
        raise ConfigError("this MPI allows no threads beside each other, which this needs.")
    found = []
    for case in cases:
        row = _measure(ctx, case)
        if row is None:
            continue
        found.append(row)
        if not as_json:
            print(_line(row), flush=True)
    if as_json and ctx.is_root:
        print(json.dumps({"benchmark": "ps", "machine": config.processor(), "rows": found}))
    return 0


@dataclass(frozen=True)
class _Case:
    """What is measured: a dense array, or rows of a table."""

    table: ps.Table
    keys: int = 0
    skew: str = ""
    fresh: bool = True  # other keys in each request

    @property
    def floats(self) -> int:
        """That a worker pushes, and pulls."""
        return self.table.count if self.table.is_dense else self.keys * self.table.width

    @property
    def sent_bytes(self) -> int:
        """Of a push, by one worker to all servers."""
        return 4 * self.floats + 4 * self.keys


def _dense_cases(sizes: str) -> list[_Case]:
    return [
        _Case(ps.Table("dense", count=max(1, bytes_of(text) // 4)))
        for text in sizes.split(",")
        if text
    ]


def _sparse_cases(shapes: str, rows: int) -> Iterator[_Case]:
    for text in filter(None, shapes.split(",")):
        match = _SPARSE.fullmatch(text)
        if match is None:
            raise ConfigError(f"--sparse {text}: write keys x width, such as 10000x16.")
        keys, width = int(match[1]), int(match[2])
        if not 0 < keys <= rows or not width:
            raise ConfigError(f"--sparse {text}: a table of {rows} rows has no so many.")
        table = ps.Table(
            "rows", count=rows, width=width, rule="row_adagrad", initial="uniform", scale=0.1
        )
        yield _Case(table, keys, "uniform")
        yield _Case(table, keys, "zipf")
        yield _Case(table, keys, "uniform", fresh=False)


def _measure(ctx: Context, case: _Case) -> dict[str, Any] | None:
    """The row of a case on rank 0. Collective."""
    if ctx.role == "server":
        _Server(ctx, case).work()
        return None
    worker = _Worker(ctx, case)
    times, plain = worker.work()
    slowest = _slowest(ctx, np.array([times, plain]))
    if not ctx.is_root:
        return None
    p10, median, p90, p99 = np.percentile(slowest[0], [10, 50, 90, 99])
    plain_s = float(np.median(slowest[1]))
    workers, servers = ctx.group.size, ctx.size - ctx.group.size
    row: dict[str, Any] = {
        "kind": "dense" if case.table.is_dense else "sparse",
        "bytes": 4 * case.floats,
        "workers": workers,
        "servers": servers,
        "median_s": float(median),
        "p10_s": float(p10),
        "p90_s": float(p90),
        "p99_s": float(p99),
        "bytes_per_s": workers * (case.sent_bytes + 4 * case.floats) / float(median),
        "plain_s": plain_s,
        "ratio_to_plain": plain_s / float(median),
    }
    if not case.table.is_dense:
        row |= {
            "table_rows": case.table.count,
            "keys": case.keys,
            "width": case.table.width,
            "skew": case.skew,
            "keys_known": not case.fresh,
            "rows_per_s": workers * case.keys / servers / float(median),
        }
    return row


def _slowest(ctx: Context, times: Array) -> Array:
    """Of all workers, request by request."""
    ctx.native.all_reduce(ctx.peers.transport, times, "max", timeout_s=ctx.timeout_s)
    return times


class _Worker:
    """Requests, and plain messages to all servers."""

    def __init__(self, ctx: Context, case: _Case) -> None:
        self.ctx, self.case = ctx, case
        self.client = ps.Client([case.table], ctx=ctx)
        self.rng = np.random.default_rng(ctx.rank)
        self.values = self.rng.standard_normal(case.floats).astype(np.float32)
        self.into = np.zeros(case.floats, np.float32)
        self.keys = self._keys()
        self.rate = 1e-3

    def work(self) -> tuple[list[float], list[float]]:
        """Seconds of each request, and of each plain exchange."""
        self._request()
        self._check()
        times: list[float] = []
        plain: list[float] = []
        for _ in range(_ROUNDS):
            times += [self._timed(self._request) for _ in range(_OF_A_ROUND)]
            self.ctx.world.Barrier()
            plain += [self._timed(self._plain) for _ in range(_OF_A_ROUND)]
        self.client.close()
        return times, plain

    def _timed(self, body: Callable[[], None]) -> float:
        if self.case.fresh:
            self.keys = self._keys()
        self.ctx.native.barrier(self.ctx.peers.transport, timeout_s=self.ctx.timeout_s)
        started = perf_counter()
        body()
        return perf_counter() - started

    def _request(self) -> None:
        name = self.case.table.name
        if self.case.table.is_dense:
            self.client.push(name, self.values, lr=self.rate, into=self.into)
        else:
            shape = (self.case.keys, self.case.table.width)
            self.client.push_rows(name, self.keys, self.values.reshape(shape), lr=self.rate)
            self.client.pull_rows(name, self.keys, self.into.reshape(shape))
        self.client.settle()

    def _plain(self) -> None:
        from mpi4py import MPI

        world, servers = self.ctx.world, self.client.server_count
        ranks = [rank for rank, role in enumerate(self.ctx.roles) if role == "server"]
        up = np.array_split(self.values.view(np.uint8), servers)
        down = np.array_split(self.into.view(np.uint8), servers)
        requests = [world.Irecv(part, rank) for part, rank in zip(down, ranks, strict=True)]
        requests += [world.Isend(part, rank) for part, rank in zip(up, ranks, strict=True)]
        MPI.Request.Waitall(requests)

    def _check(self) -> None:
        """What came back is what a step of the rule makes of the gradients."""
        if not self.case.table.is_dense:
            return
        total = self.values.copy()
        self.ctx.native.all_reduce(
            self.ctx.peers.transport, total, "sum", timeout_s=self.ctx.timeout_s
        )
        if not np.allclose(self.into, -self.rate * total, rtol=1e-4, atol=1e-7):
            raise CorruptData("the servers returned other parameters than a step of SGD makes")

    def _keys(self) -> Array:
        case, count = self.case, self.case.table.count
        if not case.keys:
            return np.empty(0, np.uint64)
        if case.skew == "uniform":
            return self.rng.integers(0, count, case.keys).astype(np.uint64)
        # row i with a probability of about 1 / (i + 1), by the inverse of the integral
        drawn = np.exp(self.rng.random(case.keys) * np.log(count)) - 1
        return np.minimum(drawn, count - 1).astype(np.uint64)


class _Server:
    """The loop in a thread; the plain messages in this one."""

    def __init__(self, ctx: Context, case: _Case) -> None:
        self.ctx, self.case = ctx, case
        wiring = wire(ctx, None)
        self.workers, self.servers = wiring.workers, wiring.servers
        self.native = ctx.native.Server(
            wiring.transport,
            wiring.native_tables(ctx.native),
            index=wiring.servers.index(ctx.rank),
            servers=len(wiring.servers),
            workers=wiring.workers,
        )

    def work(self) -> None:
        loop = threading.Thread(target=self.native.run, kwargs={"timeout_s": self.ctx.timeout_s})
        loop.start()
        share = np.array_split(np.zeros(4 * self.case.floats, np.uint8), len(self.servers))
        memory = [share[self.servers.index(self.ctx.rank)].copy() for _ in self.workers]
        for done in range(_ROUNDS):
            self._wait_for((1 + (done + 1) * _OF_A_ROUND) * len(self.workers))
            self.ctx.world.Barrier()
            for _ in range(_OF_A_ROUND):
                self._plain(memory)
        loop.join()

    def _wait_for(self, pushes: int) -> None:
        """Without MPI, whose waiting would take a core from the loop."""
        while self.native.counts()["pushes"] < pushes:
            time.sleep(0.001)

    def _plain(self, memory: list[Array]) -> None:
        from mpi4py import MPI

        pairs = list(zip(memory, self.workers, strict=True))
        world = self.ctx.world
        MPI.Request.Waitall([world.Irecv(part, rank) for part, rank in pairs])
        MPI.Request.Waitall([world.Isend(part, rank) for part, rank in pairs])


def _line(row: dict[str, Any]) -> str:
    who = f"{row['workers']} worker(s), {row['servers']} server(s)"
    if row["kind"] == "dense":
        what = f"dense {size_text(row['bytes'])}"
        speed = f"{1e-9 * row['bytes_per_s']:8.2f} GB/s"
    else:
        known = ", known keys" if row["keys_known"] else ""
        what = f"{row['keys']}x{row['width']} {row['skew']}{known}"
        speed = f"{1e-6 * row['rows_per_s']:8.2f} million rows/s per server"
    return (
        f"{what:<28} {who}  {1e3 * row['median_s']:8.3f} ms (p99 {1e3 * row['p99_s']:.3f})  "
        f"{speed}  {row['ratio_to_plain']:.2f} x plain"
    )
