"""What ``algorithm = "auto"`` stands for among these ranks, and the times that it follows from."""

from __future__ import annotations

import mpimlsys as mls
from mpimlsys.bench.allreduce import size_text
from mpimlsys.choice import FOREVER, Choice
from mpimlsys.errors import ConfigError


def run() -> int:
    """Print it on rank 0; returns the exit status. Collective."""
    ctx = mls.init()
    if ctx.choice is None:
        raise ConfigError("an all-reduce needs ranks: mpirun -n 2 mpimlsys bench allreduce")
    if ctx.is_root:
        nodes = "one node" if ctx.node_count == 1 else f"{ctx.node_count} nodes"
        print(f"algorithm = 'auto' on {ctx.size} ranks on {nodes}, {ctx.choice.source}\n")
        print(table_text(ctx.choice, one_node=ctx.node_count == 1))
    return 0


def table_text(choice: Choice, *, one_node: bool) -> str:
    """The decisions and what was measured, as two tables."""
    if one_node:
        rows = [
            ("arrays of ctx.empty", "shared: reduced where they lie"),
            ("up to 8 KiB", "shared: beside the announcement of the operation"),
        ]
    else:
        rows = [("up to 8 KiB", "doubling")]
    for up_to, name in choice.table:
        rows.append((f"up to {size_text(up_to)}" if up_to < FOREVER else "any other", name))
    lines = [f"  {size:<20} {name}" for size, name in rows]
    names = list(dict.fromkeys(name for times in choice.measured.values() for name in times))
    lines += [
        "",
        f"Median times in µs; another than {choice.usual!r} must be faster by 5 %:",
        "",
        f"  {'':>8} " + " ".join(f"{name:>12}" for name in names),
    ]
    for size, times in choice.measured.items():
        cells = (f"{1e6 * times[name]:>12,.0f}" if name in times else f"{'':>12}" for name in names)
        lines.append(f"  {size_text(size):>8} " + " ".join(cells))
    return "\n".join(lines)
