"""PowerSGD against its NumPy reference byte for byte, and what its approximations are worth."""

import numpy as np
import pytest
from hard_arrays import SIZES, hard_arrays

from mpimlsys.kernels.codecs import low_rank

HEADER = 32  # bytes


def encoded(extension, x, rank, **draw):
    return extension.encode(extension.Spec("power_sgd", amount=rank), x, **draw)


def round_trip(extension, x, rank, **draw):
    return extension.decode(encoded(extension, x, rank, **draw))


def squared(x):
    return float((x.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("count", [*SIZES[:-1], 5, 6, 8, 9, 10, 12, 13, 20011])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, of what is not finite
def test_payloads_are_those_of_the_reference(extension, on_every_isa, rank, count):
    draw = {"key": 0xFEDCBA9876543210, "first": count + 3}
    for name, x in hard_arrays(count).items():
        frame = on_every_isa(lambda x=x: encoded(extension, x, rank, **draw))
        wanted = low_rank.encode(x, rank, **draw)
        assert frame[HEADER:].tobytes() == wanted.tobytes(), name
        values = on_every_isa(lambda frame=frame: extension.decode(frame))
        assert values.tobytes() == low_rank.decode(frame[HEADER:], count).tobytes(), name


def test_the_shape_by_hand():
    assert [low_rank.near_square(n) for n in (0, 1, 2, 3, 4, 5, 10, 2**24)] == [
        *[(0, 0), (1, 1), (2, 1), (2, 2), (2, 2), (3, 2), (4, 3)],
        (4096, 4096),
    ]


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_matrix_of_the_rank_is_exact_after_one_iteration(extension, rank):
    rng = np.random.default_rng(rank)
    m = (rng.standard_normal((60, rank)) @ rng.standard_normal((rank, 60))).astype(np.float32)
    x = m.reshape(-1)
    for more in (0, 1, 3):
        left = x - round_trip(extension, x, rank + more, key=more)
        assert squared(left) <= 1e-10 * squared(x)


def test_the_error_stays_below_the_bound_of_a_random_range(extension):
    """``E |M - P Q^T| <= sqrt(1 + k / (p - 1)) |M - M_k|`` in Frobenius' norm, rank = k + p, p > 1.

    Halko, Martinsson, Tropp 2011, "Finding structure with randomness", theorem 10.5.
    """
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((100, 100)))
    right, _ = np.linalg.qr(rng.standard_normal((100, 100)))
    for decay in (0.0, 0.5, 1.0, 2.0):
        singular = np.arange(1, 101) ** -decay
        x = (left * singular @ right).astype(np.float32).reshape(-1)
        for rank in (3, 8, 20):
            errors = [
                np.sqrt(squared(x - round_trip(extension, x, rank, key=key))) for key in range(20)
            ]
            bound = min(
                np.sqrt((1 + k / (rank - k - 1)) * (singular[k:] ** 2).sum())
                for k in range(1, rank - 1)
            )
            assert np.mean(errors) <= bound
            best = np.sqrt((singular[rank:] ** 2).sum())
            assert min(errors) >= best * (1 - 1e-5), "better than the optimum"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spreads_to_all(extension, value):
    x = np.random.default_rng(4).standard_normal(700).astype(np.float32)
    x[300] = value
    assert np.isnan(round_trip(extension, x, 2)).all()


def test_ranks_that_are_none_are_refused(extension):
    for amount in (0, 0.5, 1.5, 257, np.nan, np.inf):
        with pytest.raises(Exception, match="does not take these options"):
            extension.Spec("power_sgd", amount=amount)
