"""Which rank gets what of the residuals of a checkpoint."""

import numpy as np

from mpimlsys.exchange.residuals import shared_out


def saved(ranks, **arrays):
    return {
        f"{rank}.0.{name}": np.full(4, rank + 1, np.float32)
        for rank in range(ranks)
        for name in arrays.get("names", ("residual", "owned"))
    } | {"steps": np.array(3)}


def test_the_same_number_of_ranks_gets_its_own_bits():
    for rank in range(3):
        mine = shared_out(saved(3), rank, 3)[0]
        assert set(mine) == {"residual", "owned"}
        assert np.array_equal(mine["residual"], np.full(4, rank + 1, np.float32))


def test_another_number_of_ranks_shares_the_sum():
    shares = [shared_out(saved(3), rank, 2)[0] for rank in range(2)]
    assert set(shares[0]) == {"residual"}
    total = sum(share["residual"] for share in shares)
    assert np.array_equal(total, np.full(4, 6, np.float32))


def test_ef21_begins_anew_on_another_number_of_ranks():
    state = saved(3, names=("residual", "owned", "estimate"))
    assert shared_out(state, 0, 2) == {}
    assert set(shared_out(state, 0, 3)[0]) == {"residual", "owned", "estimate"}
