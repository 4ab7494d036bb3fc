"""A rank that serves parameters: the loop is C++ (csrc/ps/server.hpp)."""

from __future__ import annotations

from collections.abc import Sequence

from mpimlsys import context
from mpimlsys.context import Context
from mpimlsys.ps.table import Table
from mpimlsys.ps.wiring import wire


def serve(tables: Sequence[Table] | None = None, *, ctx: Context | None = None) -> dict[str, int]:
    """Serve until every worker has left. Collective over the world, with the workers' clients.

    Args:
        tables: None takes what the workers say.
        ctx: of the job.

    Returns:
        ``requests``, ``refused``, ``pushes``, ``pulls`` that were served.

    Raises:
        ConfigError: this rank is a worker, or ranks have different tables.
    """
    ctx = ctx or context.init()
    wiring = wire(ctx, tables)
    server = ctx.native.Server(
        wiring.transport,
        wiring.native_tables(ctx.native),
        index=wiring.servers.index(ctx.rank),
        servers=len(wiring.servers),
        workers=wiring.workers,
    )
    server.run(timeout_s=ctx.timeout_s)
    counts: dict[str, int] = server.counts()
    return counts
