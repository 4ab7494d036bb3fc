"""Which rank gets what of the residuals of a checkpoint."""

import numpy as np

from mpimlsys.exchange.residuals import handed_out


def saved(ranks, *names):
    return {
        f"{rank}.0.{name}": np.full(4, rank + 1, np.float32)
        for rank in range(ranks)
        for name in names or ("residual", "owned")
    }


def flat(ranks):
    return np.zeros(ranks, np.int64)


def test_the_same_number_of_ranks_gets_its_own_bits():
    own = saved(11)
    for rank in (0, 1, 10):
        mine = handed_out(own, flat(11), rank, flat(11))
        assert set(mine) == {f"{rank}.0.residual", f"{rank}.0.owned"}
        assert np.array_equal(mine[f"{rank}.0.residual"], np.full(4, rank + 1, np.float32))


def test_another_number_of_ranks_shares_the_sum():
    shares = [handed_out(saved(3), flat(3), rank, flat(2)) for rank in range(2)]
    assert set(shares[0]) == {"0.0.residual"}
    total = sum(share[f"{rank}.0.residual"] for rank, share in enumerate(shares))
    assert np.array_equal(total, np.full(4, 6, np.float32))


def test_momentum_that_all_ranks_have_alike_is_not_shared():
    own = {f"{rank}.0.carried": np.full(4, 7, np.float32) for rank in range(3)}
    mine = handed_out(own, flat(3), 1, flat(2))
    assert list(mine) == ["1.0.carried"]
    assert np.array_equal(mine["1.0.carried"], np.full(4, 7, np.float32))


def test_ef21_begins_anew_on_another_number_of_ranks():
    own = saved(3, "residual", "owned", "estimate")
    assert handed_out(own, flat(3), 0, flat(2)) == {}
    assert set(handed_out(own, flat(3), 0, flat(3))) == {
        "0.0.residual", "0.0.owned", "0.0.estimate",
    }  # fmt: skip


def test_ranks_with_other_slices_begin_anew():
    own, before = saved(4), np.array([0, 0, 1, 1])
    assert set(handed_out(own, before, 1, before)) == {"1.0.residual", "1.0.owned"}
    for nodes in ([0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1, 2, 2]):
        assert handed_out(own, before, 1, np.array(nodes)) == {}
    assert handed_out(own, flat(4), 1, np.array([0, 0, 1, 1])) == {}


def test_a_rank_without_a_slice_does_not_make_the_others_share():
    own, nodes = saved(3), np.array([0, 0, 1])
    del own["1.0.residual"], own["1.0.owned"]
    mine = handed_out(own, nodes, 2, nodes)
    assert np.array_equal(mine["2.0.residual"], np.full(4, 3, np.float32))
    assert handed_out(own, nodes, 1, nodes) == {}
