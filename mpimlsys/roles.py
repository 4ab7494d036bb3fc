"""Which rank is a worker and which a parameter server: a pure function of the cluster's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mpimlsys.errors import ConfigError
from mpimlsys.jobfile import ClusterSection

Role = Literal["worker", "server"]


def assign_roles(ranks: int, nodes: Sequence[int], cluster: ClusterSection) -> tuple[Role, ...]:
    """The role of every rank.

    Args:
        ranks: number of ranks.
        nodes: the node index of every rank, ``len(nodes) == ranks``.
        cluster: ``servers`` and their ``placement``:
            ``"spread"`` deals servers over the nodes in turn, on each node the highest rank first,
            so that every network card serves; ``"pack"`` fills the last nodes with servers, so
            that the others have all cores for workers; ``"list"`` takes ``server_ranks``.

    Rank 0 stays a worker unless the list names it.

    Raises:
        ConfigError: the request cannot be met; says what would be possible.
    """
    if ranks < 1 or len(nodes) != ranks:
        raise ConfigError(f"{ranks} ranks with {len(nodes)} node numbers: one number per rank.")
    if cluster.placement == "list":
        servers = _listed(ranks, cluster)
    else:
        if cluster.server_ranks:
            raise ConfigError(
                "cluster.server_ranks is set but cluster.placement is "
                f"{cluster.placement!r}; set cluster.placement = 'list' or remove the list."
            )
        servers = set(_preference(nodes, cluster.placement)[: cluster.servers])
        if cluster.servers > ranks - 1:
            raise ConfigError(
                f"cluster.servers = {cluster.servers} leaves no worker among {ranks} "
                f"rank{'s' if ranks > 1 else ''}: set it to at most {ranks - 1}, or start at "
                f"least {cluster.servers + 1} ranks."
            )
    return tuple("server" if rank in servers else "worker" for rank in range(ranks))


def _listed(ranks: int, cluster: ClusterSection) -> set[int]:
    listed = cluster.server_ranks
    outside = [rank for rank in listed if not 0 <= rank < ranks]
    if outside:
        raise ConfigError(
            f"cluster.server_ranks names rank {outside[0]}, but ranks go from 0 to {ranks - 1}."
        )
    if len(set(listed)) != len(listed):
        raise ConfigError(f"cluster.server_ranks = {listed} names a rank twice.")
    if cluster.servers not in (0, len(listed)):
        raise ConfigError(
            f"cluster.servers = {cluster.servers} but cluster.server_ranks lists {len(listed)}; "
            "leave cluster.servers out."
        )
    if len(listed) >= ranks:
        raise ConfigError(
            f"cluster.server_ranks lists all {ranks} ranks; leave at least one rank as a worker."
        )
    return set(listed)


def _preference(nodes: Sequence[int], placement: str) -> list[int]:
    """Ranks in the order in which they become servers; rank 0 comes last."""
    by_node: dict[int, list[int]] = {}
    for rank in reversed(range(len(nodes))):
        by_node.setdefault(nodes[rank], []).append(rank)
    groups = list(by_node.values())
    if placement == "pack":
        order = [rank for group in groups for rank in group]
    else:
        depth = max(len(group) for group in groups)
        order = [group[i] for i in range(depth) for group in groups if i < len(group)]
    order.remove(0)
    return [*order, 0]
