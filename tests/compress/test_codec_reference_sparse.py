"""The sparse codecs against their NumPy reference byte for byte, and the laws they are used for."""

import numpy as np
import pytest
from hard_arrays import SIZES, hard_arrays

from mpimlsys.kernels.codecs import sparse

HEADER = 32  # bytes
DENSE = ["none", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2"]
DENSE += ["int8", "int4", "int2", "sign", "ternary", "natural"]
CASES = [
    ("top_k", 0.01, {}),
    ("top_k", 0.5, {}),
    ("top_k", 1.0, {}),
    ("top_k", 0.02, {"sampled": True}),
    ("random_k", 0.01, {}),
    ("random_k", 0.3, {"unbiased": True}),
    ("random_k", 1.0, {"unbiased": True}),
    ("threshold", 0.0, {}),
    ("threshold", 0.5, {}),
]
cases = pytest.mark.parametrize(
    ("codec", "amount", "options"), CASES, ids=lambda part: str(part).replace(" ", "")
)


def encoded(extension, codec, x, amount, values="none", *, key=0, first=0, **options):
    spec = extension.Spec(codec, amount=amount, values=values, **options)
    return extension.encode(spec, x, key=key, first=first)


def round_trip(extension, *args, **options):
    return extension.decode(encoded(extension, *args, **options))


def squared(x):
    return float((x.astype(np.float64) ** 2).sum())


@cases
@pytest.mark.parametrize("count", SIZES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, of overflow
def test_payloads_are_those_of_the_reference(
    extension, on_every_isa, codec, amount, options, count
):
    draw = {"key": 0xFEDCBA9876543210, "first": count + 3}
    for name, x in hard_arrays(count).items():
        frame = on_every_isa(lambda x=x: encoded(extension, codec, x, amount, **options, **draw))
        wanted = sparse.encode(codec, x, amount, **options, **draw)
        assert frame[HEADER:].tobytes() == wanted.tobytes(), name
        values = on_every_isa(lambda frame=frame: extension.decode(frame))
        assert values.tobytes() == sparse.decode(codec, frame[HEADER:], count).tobytes(), name


@pytest.mark.parametrize("values", DENSE)
@pytest.mark.parametrize(("codec", "amount"), [("top_k", 0.1), ("random_k", 0.1), ("threshold", 1)])
def test_values_are_a_payload_of_their_codec(extension, on_every_isa, codec, amount, values):
    for stochastic in [False, True] if values.startswith("int") else [False]:
        for count in (0, 1, 300, 5000):
            x = np.random.default_rng(count).standard_normal(count).astype(np.float32)
            draw = {"key": 7, "first": 5, "stochastic": stochastic}
            frame = on_every_isa(
                lambda x=x, draw=draw: encoded(extension, codec, x, amount, values, **draw)
            )
            wanted = sparse.encode(codec, x, amount, values, **draw)
            assert frame[HEADER:].tobytes() == wanted.tobytes()
            got = on_every_isa(lambda frame=frame: extension.decode(frame))
            assert np.array_equal(got, sparse.decode(codec, frame[HEADER:], count, values))


def test_payloads_by_hand(extension):
    x = np.float32([0, -3, 1, 0, 2, 0, 0, 0])
    # 2 of 8: two low bits of 1 and 4, then bits (1 >> 2) + 0 and (4 >> 2) + 1 of three
    top = b"\x02\0\0\0" + b"\x01" + b"\x05" + np.float32([-3, 2]).tobytes()
    assert bytes(encoded(extension, "top_k", x, 0.25)[HEADER:]) == top
    assert bytes(encoded(extension, "threshold", x, 1.0)[HEADER:]) == top
    assert bytes(encoded(extension, "threshold", x, 3.0)[HEADER:]) == b"\0\0\0\0"
    every = encoded(extension, "random_k", x, 1.0, key=1)
    assert bytes(every[HEADER + 12 :]) == x.tobytes()


def test_what_is_no_ratio_no_bound_and_no_dense_codec_is_refused(extension):
    refused = [("top_k", 0, {}), ("top_k", 1.1, {}), ("top_k", np.nan, {}), ("threshold", -1, {})]
    refused += [("threshold", np.inf, {}), ("top_k", 0.1, {"unbiased": True})]
    refused += [("random_k", 0.1, {"sampled": True}), ("top_k", 0.1, {"values": "top_k"})]
    refused += [("top_k", 0.1, {"values": "power_sgd"}), ("top_k", 0.1, {"stochastic": True})]
    for codec, amount, options in refused:
        with pytest.raises(Exception, match="does not take these options"):
            extension.Spec(codec, amount=amount, **options)


@pytest.mark.parametrize("sampled", [False, True])
def test_top_k_contracts(extension, sampled):
    """``|x - C(x)|^2 <= (1 - k / n) |x|^2``, with the k that was sent."""
    for count in SIZES[1:]:
        for name, x in hard_arrays(count).items():
            if not np.isfinite(x).all():
                continue
            for amount in (0.001, 0.1, 0.7):
                frame = encoded(extension, "top_k", x, amount, sampled=sampled)
                sent = int(frame[HEADER : HEADER + 4].copy().view("<u4")[0])
                left = squared(x - extension.decode(frame))
                assert left <= (1 - sent / count) * squared(x) * (1 + 1e-12), name
                most = sparse.k_of(amount, count)
                assert (2 * sent >= most and sent <= most) if sampled else sent == most


def test_the_mean_of_many_draws_of_random_k_is_the_array(extension):
    """Within 6 standard errors; the variance of an element is x^2 (length - 1)."""
    x = np.random.default_rng(3).standard_normal(2003).astype(np.float32)
    draws = 3000
    total = np.zeros(len(x))
    for key in range(draws):
        total += round_trip(extension, "random_k", x, 0.1, unbiased=True, key=key)
    edges = np.arange(201) * 2003 // 200
    length = np.repeat(np.diff(edges), np.diff(edges))
    wide = x.astype(np.float64)
    deviation = (total / draws - wide) / (np.abs(wide) * np.sqrt((length - 1) / draws))
    assert np.abs(deviation).max() < 6
    assert abs(deviation.mean()) < 6 / np.sqrt(len(x))
    assert deviation.std() > 0.5, "nothing was drawn"


def test_draws_differ_and_are_repeated(extension):
    x = np.arange(1, 1001, dtype=np.float32)
    frames = [
        bytes(encoded(extension, "random_k", x, 0.05, key=key, first=first))
        for key, first in [(0, 0), (0, 1), (1, 0), (0, 0)]
    ]
    assert len(set(frames)) == 3
    assert frames[0] == frames[3]
