"""Role assignment is arithmetic; the laws hold for every shape of cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpimlsys.errors import ConfigError
from mpimlsys.jobfile import ClusterSection
from mpimlsys.roles import assign_roles


def servers(ranks, nodes, **cluster):
    roles = assign_roles(ranks, nodes, ClusterSection(**cluster))
    return [rank for rank, role in enumerate(roles) if role == "server"]


def test_without_servers_all_are_workers():
    assert assign_roles(3, [0, 0, 1], ClusterSection()) == ("worker",) * 3


def test_spread_deals_servers_over_the_nodes():
    assert servers(6, [0, 0, 0, 1, 1, 1], servers=2) == [2, 5]
    assert servers(6, [0, 0, 0, 1, 1, 1], servers=3) == [2, 4, 5]
    assert servers(4, [0, 1, 0, 1], servers=2) == [2, 3]


def test_pack_fills_the_last_nodes():
    assert servers(6, [0, 0, 0, 1, 1, 1], servers=2, placement="pack") == [4, 5]
    assert servers(6, [0, 0, 0, 1, 1, 1], servers=4, placement="pack") == [2, 3, 4, 5]


def test_a_list_is_taken_as_it_is():
    assert servers(4, [0] * 4, placement="list", server_ranks=[0, 2]) == [0, 2]


@pytest.mark.parametrize(
    ("ranks", "cluster", "message"),
    [
        (1, {"servers": 1}, "leaves no worker among 1 rank: set it to at most 0"),
        (4, {"servers": 4}, "set it to at most 3, or start at least 5 ranks"),
        (4, {"placement": "list", "server_ranks": [4]}, "ranks go from 0 to 3"),
        (4, {"placement": "list", "server_ranks": [-1]}, "ranks go from 0 to 3"),
        (4, {"placement": "list", "server_ranks": [1, 1]}, "names a rank twice"),
        (2, {"placement": "list", "server_ranks": [0, 1]}, "leave at least one rank as a worker"),
        (4, {"placement": "list", "server_ranks": [1], "servers": 2}, "leave cluster.servers out"),
        (4, {"server_ranks": [1]}, "set cluster.placement = 'list'"),
    ],
)
def test_impossible_requests_say_what_is_possible(ranks, cluster, message):
    with pytest.raises(ConfigError) as error:
        assign_roles(ranks, [0] * ranks, ClusterSection(**cluster))
    assert message in str(error.value)


@given(
    nodes=st.lists(st.integers(0, 4), min_size=1, max_size=24),
    share=st.floats(0, 1),
    placement=st.sampled_from(["spread", "pack"]),
)
def test_laws(nodes, share, placement):
    count = int(share * (len(nodes) - 1))
    roles = assign_roles(len(nodes), nodes, ClusterSection(servers=count, placement=placement))
    assert roles.count("server") == count
    assert roles[0] == "worker"
    if placement == "spread":
        on_node = [
            sum(role == "server" for role, n in zip(roles, nodes, strict=True) if n == node)
            for node in set(nodes)
        ]
        room = [nodes.count(node) for node in set(nodes)]
        # a node has two servers more than another only where the other is full
        for a in range(len(room)):
            for b in range(len(room)):
                free = room[b] - on_node[b] - (nodes[0] == sorted(set(nodes))[b])
                assert on_node[a] <= on_node[b] + 1 or free <= 0
