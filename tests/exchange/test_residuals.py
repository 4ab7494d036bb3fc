"""Which rank gets what of the residuals of a checkpoint."""

import numpy as np

from mpimlsys.exchange.residuals import shared_out


def saved(ranks, **arrays):
    return {
        f"{rank}.0.{name}": np.full(4, rank + 1, np.float32)
        for rank in range(ranks)
        for name in arrays.get("names", ("residual", "owned"))
    } | {"steps": np.array(3), "nodes": np.array(arrays.get("nodes", [0] * ranks))}


def flat(ranks):
    return np.zeros(ranks, np.int64)


def test_the_same_number_of_ranks_gets_its_own_bits():
    for rank in range(3):
        mine = shared_out(saved(3), rank, flat(3))[0]
        assert set(mine) == {"residual", "owned"}
        assert np.array_equal(mine["residual"], np.full(4, rank + 1, np.float32))


def test_another_number_of_ranks_shares_the_sum():
    shares = [shared_out(saved(3), rank, flat(2))[0] for rank in range(2)]
    assert set(shares[0]) == {"residual"}
    total = sum(share["residual"] for share in shares)
    assert np.array_equal(total, np.full(4, 6, np.float32))


def test_ef21_begins_anew_on_another_number_of_ranks():
    state = saved(3, names=("residual", "owned", "estimate"))
    assert shared_out(state, 0, flat(2)) == {}
    assert set(shared_out(state, 0, flat(3))[0]) == {"residual", "owned", "estimate"}


def test_ranks_with_other_slices_begin_anew():
    state = saved(4, nodes=[0, 0, 1, 1])
    assert set(shared_out(state, 1, np.array([0, 0, 1, 1]))[0]) == {"residual", "owned"}
    for nodes in ([0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1, 2, 2]):
        assert shared_out(state, 1, np.array(nodes)) == {}
    assert shared_out(saved(4), 1, np.array([0, 0, 1, 1])) == {}


def test_a_rank_without_a_slice_does_not_make_the_others_share():
    state = saved(3, nodes=[0, 0, 1])
    del state["1.0.residual"], state["1.0.owned"]
    nodes = np.array([0, 0, 1])
    assert np.array_equal(shared_out(state, 2, nodes)[0]["residual"], np.full(4, 3, np.float32))
    assert shared_out(state, 1, nodes)[0] == {}
