"""The picture of a run: what goes into it, and that it can be drawn from anything."""

import math
import struct
import sys

import numpy as np
import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.train import curves


def step(number, loss):
    return {"step": number, "epoch": 0, "loss": loss}


def evaluation(number, **values):
    return {"step": number, **values}


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


EVALUATED = [
    step(1, 2.0),
    evaluation(1, test_loss=1.9, test_accuracy=0.5),
    step(2, 1.0),
    evaluation(2, test_loss=0.9, test_accuracy=0.75),
    step(3, 0.5),
]


@pytest.mark.parametrize(
    ("records", "result"),
    [
        ([], {}),
        ([step(1, 0.5)], {}),
        ([step(1, 0.5)], {"steps": 1, "test_accuracy": 0.5}),
        ([step(n, None) for n in range(1, 9)], {"steps": 8, "train_mse": None}),
        ([step(n, 1 / n if n % 3 else None) for n in range(1, 500)], {}),
        ([step(n, 10.0 ** -(n / 100)) for n in range(1, 5000)], {"train_loss": 1.0}),
        ([step(n, -float(n)) for n in range(1, 100)], {}),
        (EVALUATED, {"steps": 3, "test_accuracy": 0.8, "test_loss": 0.8}),
        ([evaluation(1, test_perplexity=8.0)], {}),
    ],
)
def test_it_can_be_drawn(tmp_path, records, result):
    path = tmp_path / "curves.png"
    curves.draw(records, result, path, "a $run_ with_ odd $name")
    assert png_size(path) == (1000, 420)
    assert [path.name] == [entry.name for entry in tmp_path.iterdir()]


def test_the_same_run_gives_the_same_picture(tmp_path):
    for name in ("a", "b"):
        curves.draw(EVALUATED, {}, tmp_path / name, "run")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_measure_gets_a_panel_of_its_own(tmp_path):
    curves.draw(EVALUATED, {}, tmp_path / "with", "run")
    curves.draw([r for r in EVALUATED if "test_accuracy" not in r], {}, tmp_path / "without", "run")
    assert (tmp_path / "with").read_bytes() != (tmp_path / "without").read_bytes()


def test_no_global_state_is_touched(tmp_path):
    loaded = set(sys.modules)
    curves.draw(EVALUATED, {}, tmp_path / "a", "run")
    assert "matplotlib.pyplot" not in set(sys.modules) - loaded


def test_points_of_the_loss():
    steps, losses = curves.loss_points([*EVALUATED, step(4, None)])
    assert steps.tolist() == [1, 2, 3, 4]
    assert losses[:3].tolist() == [2.0, 1.0, 0.5]
    assert math.isnan(losses[3])


def test_long_runs_are_averaged():
    steps, losses = curves.loss_points([step(n, float(n)) for n in range(1, 6001)])
    assert steps.tolist() == losses.tolist() == np.arange(2.0, 6001, 3).tolist()
    steps, losses = curves.loss_points([step(n, float(n)) for n in range(1, 2003)])
    assert (steps[0], steps[-1], len(losses)) == (1.5, 2001.5, 1001)


def test_the_measure_is_found():
    assert curves.measure_name(EVALUATED, {}) == "test_accuracy"
    assert curves.measure_name([], {"steps": 1, "train_loss": 1.0, "train_mse": 2.0}) == "train_mse"
    assert curves.measure_name([step(1, 1.0)], {"steps": 1}) == ""


def test_points_of_the_measure_end_with_the_result():
    def points(result):
        steps, values = curves.evaluation_points(EVALUATED, result, "test_accuracy")
        return list(zip(steps.tolist(), values.tolist(), strict=True))

    assert points({}) == [(1, 0.5), (2, 0.75)]
    assert points({"steps": 3, "test_accuracy": 0.8}) == [(1, 0.5), (2, 0.75), (3, 0.8)]
    assert points({"steps": 2, "test_accuracy": 0.8}) == [(1, 0.5), (2, 0.8)]


def test_smoothing():
    values = np.array([0.0, 3.0, 6.0, np.nan, 12.0])
    np.testing.assert_array_equal(curves.smooth(values, 1), values)
    np.testing.assert_allclose(curves.smooth(values, 3), [1.5, 3.0, 4.5, np.nan, 12.0])
    np.testing.assert_allclose(curves.smooth(np.ones(4), 9), np.ones(4))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], False), ([1, 100], False), ([1, 101], True), ([0, 1e9], False), ([-1, 1e9], False),
     ([np.nan], False), ([np.nan, 1e-3, 1], True)],
)  # fmt: skip
def test_two_decades_need_a_logarithm(values, expected):
    assert curves.wants_log(np.array(values, np.float64)) is expected


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot write .*curves\.png"):
        curves.draw(EVALUATED, {}, tmp_path / "none" / "curves.png", "run")
