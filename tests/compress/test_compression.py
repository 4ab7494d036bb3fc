"""What users write about compression, how it composes, and what it applies to."""

import numpy as np
import pytest

from mpimlsys.compress import (
    DENSE,
    Codec,
    Compression,
    after_warmup,
    chain,
    error_feedback,
    falling_ratio,
    layout,
    masked,
    parse,
)
from mpimlsys.errors import ConfigError
from mpimlsys.jobfile import ExchangeSection
from mpimlsys.train.build import compression_of
from mpimlsys.types import Bucket, Segment


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("fp16", Codec("fp16")),
        ("int4:stochastic", Codec("int4", option="stochastic")),
        ("top_k:0.01", Codec("top_k", 0.01)),
        ("top_k:0.01:sampled+int8", Codec("top_k", 0.01, "int8", "sampled")),
        ("random_k:0.5:unbiased", Codec("random_k", 0.5, option="unbiased")),
        ("power_sgd:4", Codec("power_sgd", 4)),
        ("threshold:1e-3", Codec("threshold", 1e-3)),
    ],
)
def test_codecs_are_written_and_read_alike(text, codec, extension):
    assert parse(text) == codec
    assert parse(str(codec)) == codec
    codec.native(extension)  # the extension accepts it


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fp61", "Did you mean 'fp16'"),
        ("top_k", "needs the share"),
        ("top_k:2", "above 0 and at most 1"),
        ("top_k:0", "above 0 and at most 1"),
        ("top_k:much", "'much' is no number"),
        ("power_sgd:2.5", "a whole number from 1 to 64"),
        ("int8:3", "'3' is no option of int8; it takes only 'stochastic'"),
        ("fp16+int8", "only top_k, random_k, threshold have values"),
        ("top_k:0.1+top_k", "values cannot be 'top_k'"),
        ("", "unknown codec ''"),
    ],
)
def test_mistakes_are_told_with_the_remedy(text, told):
    with pytest.raises(ConfigError, match=r"compress = ") as error:
        parse(text)
    assert told in str(error.value)


def test_compositions_read_from_the_inside_out():
    built = after_warmup(masked(chain("top_k:0.01", "int8"), min_elements=64), steps=10)
    assert built == Compression(
        Codec("top_k", 0.01, "int8"), "classic", min_elements=64, warmup_steps=10
    )
    assert error_feedback("sign", "ef21", momentum=0.9).error_feedback == "ef21"


def test_the_ratio_falls_by_one_factor_after_the_warmup():
    ramp = falling_ratio(after_warmup("top_k:0.01", steps=2), steps=4)
    ratios = [ramp.at(step).amount for step in range(2, 8)]
    assert [ramp.at(0), ramp.at(1)] == [DENSE, DENSE]
    assert ratios[0] == 0.25
    assert ratios[4:] == [0.01, 0.01]
    factors = np.array(ratios[1:5]) / ratios[:4]
    assert np.allclose(factors, factors[0])


@pytest.mark.parametrize(
    "options",
    [
        {"error_feedback": "maybe"},
        {"momentum": 1.0},
        {"momentum": 0.9, "error_feedback": "none"},
        {"ramp_steps": 5},
        {"warmup_steps": -1},
        {"codec": Codec("random_k", 0.1, option="unbiased")},
        {"clip_norm": 1.0, "error_feedback": "none"},
        {"pattern": "tree"},
        {"pattern": "ring"},
        {"pattern": "ring", "codec": Codec("fp16"), "error_feedback": "ef21"},
        {"pattern": "balanced"},
    ],
)
def test_options_that_do_not_go_together_are_told(options):
    with pytest.raises(ConfigError):
        Compression(**{"codec": Codec("int8"), **options})


def test_auto_does_not_pass_over_options_in_silence():
    assert compression_of(ExchangeSection(compress="auto")) == "auto"
    with pytest.raises(ConfigError, match=r"no notice of exchange\.compress_momentum = 0\.9"):
        compression_of(ExchangeSection(compress="auto", compress_momentum=0.9))


SEGMENTS = [
    Segment("c.bias", 0, 10, shape=(10,)),
    Segment("c.weight", 10, 2010, shape=(20, 100)),
    Segment("b.weight", 2010, 5010, shape=(30, 10, 2, 5)),
    Segment("b.small", 5010, 5022, shape=(3, 4)),
    Segment("elsewhere", 6000, 7000, shape=(10, 100)),
]
BUCKET = Bucket(0, 0, 5022, np.zeros(5022, np.float32))


def test_everything_is_compressed_unless_small_tensors_are_left_out():
    assert layout(BUCKET, SEGMENTS, Compression(Codec("int8"))).parts == ((0, 5022),)
    assert layout(BUCKET, SEGMENTS, masked("int8", min_elements=100)).parts == ((10, 5000),)
    assert layout(BUCKET, SEGMENTS, masked("int8", min_elements=10**6)).compressed == 0


def test_power_sgd_takes_matrices_whose_factors_are_smaller():
    place = layout(BUCKET, SEGMENTS, Compression(parse("power_sgd:4")))
    assert place.parts == ((10, 2000), (2010, 3000))
    assert place.matrices == ((0, 20, 100), (2000, 30, 100))
    assert layout(BUCKET, SEGMENTS, Compression(parse("power_sgd:25"))).matrices == ()
