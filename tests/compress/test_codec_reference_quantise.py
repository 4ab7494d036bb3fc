"""The quantisers against their NumPy reference byte for byte, on every instruction set."""

import numpy as np
import pytest
from hard_arrays import SIZES, hard_arrays

from mpimlsys.kernels.codecs import quantise
from mpimlsys.kernels.codecs.random import random_bits

HEADER = 32  # bytes
LEVELS = {"int8": 127, "int4": 7, "int2": 1}
CASES = [(codec, False) for codec in quantise.BITS] + [(codec, True) for codec in LEVELS]
UNBIASED = [*[(codec, True) for codec in LEVELS], ("ternary", False), ("natural", False)]
cases = pytest.mark.parametrize(("codec", "stochastic"), CASES)


def encoded(extension, codec, x, *, stochastic=False, key=0, first=0):
    return extension.encode(extension.Spec(codec, stochastic=stochastic), x, key=key, first=first)


def round_trip(extension, codec, x, **options):
    return extension.decode(encoded(extension, codec, x, **options))


@cases
@pytest.mark.parametrize("count", SIZES)
def test_payloads_are_those_of_the_reference(extension, on_every_isa, codec, stochastic, count):
    draw = {"stochastic": stochastic, "key": 0xFEDCBA9876543210, "first": count + 3}
    for name, x in hard_arrays(count).items():
        frame = on_every_isa(lambda x=x: encoded(extension, codec, x, **draw))
        assert frame[HEADER:].tobytes() == quantise.encode(codec, x, **draw).tobytes(), name
        values = on_every_isa(lambda frame=frame: extension.decode(frame))
        wanted = quantise.decode(codec, frame[HEADER:], count)
        assert np.array_equal(values, wanted, equal_nan=True), name
        assert np.array_equal(np.signbit(values), np.signbit(wanted)) or name in ("nan", "infinity")


@pytest.mark.parametrize("codec", ["int8", "ternary", "natural"])
@pytest.mark.parametrize(
    "first", [(1 << 32) - 300, (1 << 32) - 256, (1 << 32) - 1, (1 << 64) - 100]
)
def test_draws_go_on_where_their_stream_is_longer_than_32_bits(
    extension, on_every_isa, codec, first
):
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    draw = {"stochastic": codec == "int8", "key": 5, "first": first}
    frame = on_every_isa(lambda: encoded(extension, codec, x, **draw))
    assert frame[HEADER:].tobytes() == quantise.encode(codec, x, **draw).tobytes()


def test_numbers_of_a_stream_by_hand():
    assert random_bits(0, 0, 1).tolist() == [0]  # the finaliser keeps 0
    assert random_bits(7, 1 << 32, 2).tolist() != random_bits(7, 0, 2).tolist()
    assert len(set(random_bits(1, 0, 1000).tolist())) == 1000


def test_payloads_by_hand(extension):
    scale = b"\x00\x00\x80\x3f"  # 1
    x = np.float32([1, -1, 0.5, 0, -0.25])
    assert bytes(encoded(extension, "int8", x)[HEADER:]) == scale + b"\x7f\x81\x40\x00\xe0"
    assert bytes(encoded(extension, "int4", x)[HEADER:]) == scale + b"\x97\x04\x0e"
    assert bytes(encoded(extension, "int2", x)[HEADER:]) == scale + b"\x0d\x00"
    mean = np.float32([2.75]) * np.float32(1 / 512) * (np.float32(512) / np.float32(5))
    assert bytes(encoded(extension, "sign", x)[HEADER:]) == mean.tobytes() + b"\x12"
    assert bytes(encoded(extension, "natural", x)[HEADER:]) == scale + b"\x7f\xff\x7e\x00\xfd"


def errors_beside_the_largest(extension, codec, **options):
    for name, x in hard_arrays(70001).items():
        if name in ("nan", "infinity"):
            continue
        wide = x.astype(np.float64)
        error = np.abs(round_trip(extension, codec, x, **options) - wide)
        largest = np.abs(np.append(wide, np.zeros(-len(x) % 256))).reshape(-1, 256).max(axis=1)
        largest = np.repeat(largest, 256)[: len(x)]
        yield name, error, wide, largest


@pytest.mark.parametrize("codec", LEVELS)
@pytest.mark.parametrize("stochastic", [False, True])
def test_the_error_is_at_most_a_step_or_half_of_one(extension, codec, stochastic):
    steps = 1 if stochastic else 0.5
    for name, error, _, largest in errors_beside_the_largest(
        extension, codec, stochastic=stochastic, key=1
    ):
        bound = largest * (steps / LEVELS[codec] + 2.0**-21) + 2.0**-149
        assert (error <= bound).all(), name


def test_ternary_is_nothing_or_the_largest(extension):
    for name, error, x, largest in errors_beside_the_largest(extension, "ternary", key=1):
        assert (error <= np.maximum(np.abs(x), largest - np.abs(x)) * (1 + 2.0**-21)).all(), name


def test_natural_is_one_of_the_powers_around(extension):
    for name, error, x, largest in errors_beside_the_largest(extension, "natural", key=1):
        below = np.exp2(np.floor(np.log2(np.maximum(np.abs(x), 2.0**-149))))
        bound = np.maximum(below, 2.0**-125 * largest)  # what is far below its block is 0
        assert (error <= bound * (1 + 2.0**-21)).all(), name


def test_sign_keeps_signs_and_the_mean(extension):
    for name, _, x, _ in errors_beside_the_largest(extension, "sign"):
        got = round_trip(extension, "sign", x.astype(np.float32))
        assert np.array_equal(np.signbit(got), np.signbit(x)), name
        mean = np.add.reduceat(np.abs(x), np.arange(0, len(x), 256))
        mean /= np.minimum(256, len(x) - np.arange(0, len(x), 256))
        mean = np.repeat(mean, 256)[: len(x)]
        # in units of the scale, and of what sums of |x| / 512 cannot hold
        assert (np.abs(np.abs(got) - mean) <= mean * 2.0**-20 + 2.0**-140).all(), name


@pytest.mark.parametrize(("codec", "stochastic"), UNBIASED)
def test_the_mean_of_many_draws_is_the_array(extension, codec, stochastic):
    """Means of n draws stay within 6 standard errors; the variance is bounded by a step's."""
    x = np.random.default_rng(3).standard_normal(2048).astype(np.float32)
    draws = 2000
    total = np.zeros(len(x))
    for key in range(draws):
        total += round_trip(extension, codec, x, stochastic=stochastic, key=key + 1)
    wide = x.astype(np.float64)
    if codec == "natural":
        step = np.exp2(np.floor(np.log2(np.abs(wide))))
    else:
        step = np.repeat(np.abs(wide).reshape(-1, 256).max(axis=1), 256) / LEVELS.get(codec, 1)
    deviation = (total / draws - wide) / (step / 2 / np.sqrt(draws))
    assert np.abs(deviation).max() < 6
    assert abs(deviation.mean()) < 6 / np.sqrt(len(x))
    assert deviation.std() > 0.1, "nothing was drawn"


@cases
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_block_alone(extension, codec, stochastic, value):
    x = np.random.default_rng(4).standard_normal(700).astype(np.float32)
    x[[300, 699]] = value
    got = round_trip(extension, codec, x, stochastic=stochastic)
    assert np.isfinite(got[:256]).all()
    assert np.isnan(got[256:]).all()


@cases
def test_an_array_of_zeros_stays_one(extension, codec, stochastic):
    for value in (0.0, -0.0):
        x = np.full(1000, value, np.float32)
        assert not round_trip(extension, codec, x, stochastic=stochastic, key=9).any()
