"""What of the ranks' own states of a checkpoint belongs to which rank now. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpimlsys.types import Array, State

# sums over the ranks that keep their meaning whoever has them
_ADDITIVE = ("residual", "velocity")


def shared_out(state: Mapping[str, Array], rank: int, nodes: Array) -> dict[int, State]:
    """A rank's state of each bucket.

    Args:
        state: ``"rank.bucket.name"`` to array, of all ranks that wrote, and their ``"nodes"``;
            other names are passed over.
        rank: of the run that goes on.
        nodes: the node of each of its ranks where these share buckets out among them, or else 0.

    Returns:
        Bucket to state. For the ranks that wrote it is what this rank had, bit by bit. For another
        number it is an equal share of the residuals of error feedback and of their momentum, while
        what owners of parts kept is lost; ``ef21`` begins anew, as the ranks' states hang together,
        and so do ranks that have other slices of the buckets than before.
    """
    before = state["nodes"]
    alike = np.array_equal(before, nodes)
    if not alike and (before.any() or nodes.any()):
        return {}
    found: dict[int, dict[str, State]] = {}
    for key, value in state.items():
        writer, _, rest = key.partition(".")
        bucket, _, name = rest.partition(".")
        if name:
            found.setdefault(int(bucket), {}).setdefault(name, {})[writer] = value
    shares: dict[int, State] = {}
    for index, names in found.items():
        if alike:
            shares[index] = {name: by[str(rank)] for name, by in names.items() if str(rank) in by}
        elif "estimate" not in names:
            shares[index] = {
                name: _share(list(names[name].values()), len(nodes))
                for name in _ADDITIVE
                if name in names and len({value.size for value in names[name].values()}) == 1
            }
    return shares


def _share(values: list[Array], ranks: int) -> Array:
    total = np.zeros(values[0].size)
    for value in values:
        total += value
    return (total / ranks).astype(np.float32)
