"""The file of metrics: valid JSON, whole lines, and a resumed run goes on where it was."""

import errno
import json
import os

import numpy as np
import pytest

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train.metrics import MetricsWriter, read_metrics, to_json


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def write(path, steps, resume_step=None):
    writer = MetricsWriter(path, resume_step)
    for step in steps:
        writer.write({"step": step, "loss": step / 2})
    writer.close()


def steps(path):
    return [record["step"] for record in read_metrics(path)]


def test_one_object_per_line(path):
    writer = MetricsWriter(path)
    writer.write({"step": 1, "loss": 0.5})
    writer.write({"event": "evaluation", "step": 1, "test_accuracy": 0.25})
    writer.close()
    assert path.read_text() == (
        '{"step": 1, "loss": 0.5}\n{"event": "evaluation", "step": 1, "test_accuracy": 0.25}\n'
    )


def test_what_is_not_finite_becomes_null(path):
    writer = MetricsWriter(path)
    writer.write({"step": 1, "a": float("nan"), "b": -np.inf, "c": np.float32("nan")})
    writer.close()
    strict = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert strict == {"step": 1, "a": None, "b": None, "c": None}


def test_numpy_scalars_are_numbers():
    record = {"n": np.int64(3), "x": np.float32(0.5), "ok": np.bool_(True)}
    assert to_json(record) == '{"n": 3, "x": 0.5, "ok": true}'


def test_lines_are_held_back_for_a_second_at_most(path):
    clock = Clock()
    writer = MetricsWriter(path, clock=clock)
    for now, written in [(0.1, []), (0.9, []), (1.0, [0.1, 0.9, 1.0]), (1.9, [0.1, 0.9, 1.0])]:
        clock.now = now
        writer.write({"step": now})
        assert steps(path) == written
    writer.flush()
    assert steps(path) == [0.1, 0.9, 1.0, 1.9]
    writer.write({"step": 2})
    writer.close()
    writer.close()
    assert steps(path)[-1] == 2


def test_a_new_run_starts_an_empty_file(path):
    write(path, [1, 2])
    write(path, [1])
    assert steps(path) == [1]


def test_a_resumed_run_drops_what_came_after_the_checkpoint(path):
    write(path, [1, 2, 3, 4])
    with path.open("a") as file:
        file.write('{"event": "evaluation", "step": 2}\nnot JSON\n[2]\n{"loss": 1}\n{"step": 2, "l')
    write(path, [3, 4], resume_step=2)
    assert steps(path) == [1, 2, 2, 3, 4]


def test_a_resumed_run_without_metrics_starts_them(path):
    write(path, [3], resume_step=2)
    assert steps(path) == [3]


@pytest.mark.parametrize("cut", range(1, 26))  # a line has 25 bytes
def test_a_torn_last_line_is_left_out(path, cut):
    write(path, [1, 2])
    path.write_bytes(path.read_bytes()[:-cut])
    assert steps(path) == [1]


@pytest.mark.parametrize("line", ["", "{", "[1]", "7", "[" * 100_000])
def test_a_damaged_line_before_the_last_is_named(path, line):
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(CorruptData, match=r"metrics\.jsonl: line 2 is not"):
        read_metrics(path)


def test_a_full_disk_leaves_whole_lines_and_training_may_go_on(path, monkeypatch):
    writer = MetricsWriter(path)
    writer.write({"step": 1})
    writer.flush()
    real, left = os.write, [5]

    def full(descriptor, data):
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[: left[0]])
        left[0] -= written
        return written

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        writer.write({"step": 2})
        with pytest.raises(ConfigError, match=r"metrics\.jsonl: No space left .*Make room"):
            writer.flush()
    assert path.read_text() == '{"step": 1}\n'
    writer.write({"step": 3})
    writer.close()
    assert steps(path) == [1, 3]


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot write .*No such file .*job\.out"):
        MetricsWriter(tmp_path / "none" / "metrics.jsonl")
