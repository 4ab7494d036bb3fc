"""The checks of benchmarks/gpu_check.py on the stand-in: they hold, and notice what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("laws_on_standin.py")

pytestmark = pytest.mark.mpi


def laws(standin_path, *mistake):
    return subprocess.run(
        [sys.executable, PROGRAM, standin_path, *mistake],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_every_law_holds(standin_path):
    done = laws(standin_path)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert names == ["frames", "unusual_numbers", "damaged_frames", "reductions", "streams"]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("draw", "the frame is not the CPU's"),
        ("residual", "the residual is not the CPU's"),
        ("behind", "something was written behind the frame"),
        ("factor", "added to something else"),
        ("order", "not NumPy's"),
    ],
)
def test_a_mistake_is_noticed(standin_path, mistake, words):
    done = laws(standin_path, mistake)
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stdout
