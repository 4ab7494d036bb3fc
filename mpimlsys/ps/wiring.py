"""How workers and servers find each other: the tables that all agree on, and their network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, Timeout
from mpimlsys.ps.table import Table, from_json, to_json

_DECLINED = b"!"
_POLL_S = 0.002


@dataclass(frozen=True)
class Wiring:
    """What the ranks of a job have agreed on.

    Attributes:
        tables: in the order in which requests number them.
        transport: over all ranks, for these requests alone.
        workers, servers: their ranks.
    """

    tables: list[Table]
    transport: Any
    workers: list[int]
    servers: list[int]

    def native_tables(self, native: Any) -> list[Any]:
        """The tables for the extension."""
        return [table.native(native) for table in self.tables]


def decline(ctx: Context, why: str) -> None:
    """Tell the servers, which wait in :func:`wire`, that the workers have failed before it.

    Collective over the workers.
    """
    if "server" in ctx.roles and not ctx.servers_called:
        ctx.servers_called = True
        _meet(ctx)
        ctx.gather_bytes(_DECLINED + why.encode())


def wire(ctx: Context, tables: Sequence[Table] | None) -> Wiring:
    """Agree on the tables. Collective over the world.

    Args:
        tables: all workers pass the same; servers may pass None.

    Raises:
        ConfigError: there are no servers, or workers have different tables; on all ranks.
    """
    servers = [rank for rank, role in enumerate(ctx.roles) if role == "server"]
    workers = [rank for rank, role in enumerate(ctx.roles) if role == "worker"]
    if not servers:
        error = ConfigError("no rank is a parameter server: set cluster.servers to 1 or more.")
        error.on_all_ranks = True
        raise error
    ctx.servers_called = True
    _meet(ctx)
    told = ctx.gather_bytes(b"" if tables is None else to_json(tables))
    if told[workers[0]].startswith(_DECLINED):
        error = ConfigError(told[workers[0]].removeprefix(_DECLINED).decode())
        error.on_all_ranks = True  # the workers have said so themselves
        raise error
    with ctx.together():
        for rank, text in enumerate(told):
            if text != told[workers[0]] and (text or rank in workers):
                raise ConfigError(
                    f"rank {rank} has other tables than rank {workers[0]}: all must name the same "
                    "ones in the same order."
                )
        agreed = from_json(told[workers[0]])
        for table in agreed:
            table.native(ctx.native)
    transport = ctx.network.transport(ctx.network.own(ctx.world.Dup()), waiting=workers)
    return Wiring(agreed, transport, workers, servers)


def _meet(ctx: Context) -> None:
    """Wait for all ranks: servers for as long as the workers load their data."""
    everybody = ctx.world.Ibarrier()
    began = monotonic()
    while not everybody.Test():
        if ctx.role == "worker" and monotonic() - began > ctx.timeout_s:
            raise Timeout(
                f"not all ranks came to the parameter servers within {ctx.timeout_s:g} s "
                "(comm.timeout_s)."
            )
        sleep(_POLL_S)
