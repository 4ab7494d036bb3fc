"""Every example runs, in a short form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SHORT = {
    "mnist_cnn": ["job.max_steps=20"],
    "boston_linear": ["job.epochs=20"],
    "char_lstm": ["job.max_steps=5", "data.max_bytes=100000"],
    "mnist_slow_network": ["job.max_steps=20"],
}


def test_all_examples_are_tested():
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == SHORT.keys()
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"custom_model", "allreduce"}


@pytest.mark.parametrize("name", SHORT)
def test_job_files(name, mpirun, tmp_path):
    settings = [*SHORT[name], f"job.out={tmp_path / 'run'}"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    done = mpirun(2, ["-m", "mpimlsys", "train", EXAMPLES / f"{name}.toml", *arguments])
    assert done.returncode == 0, done.stderr
    assert "What to try next" in done.stdout
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < losses[0]


def test_own_model(mpirun):
    done = mpirun(2, [EXAMPLES / "custom_model.py"])
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.partition("accuracy ")[2].partition("%")[0])
    assert accuracy > 90
    code = [
        line for line in (EXAMPLES / "custom_model.py").read_text().splitlines() if line.strip()
    ]
    assert len(code) <= 45


def test_the_example_of_the_readme(mpirun, tmp_path):
    readme = (EXAMPLES.parent / "README.md").read_text()
    script = tmp_path / "script.py"
    script.write_text(readme.partition("```python\n")[2].partition("```")[0])
    done = mpirun(2, [script])
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.partition("accuracy ")[2].partition("%")[0])
    assert accuracy > 90


def test_all_reduce(mpirun):
    done = mpirun(3, [EXAMPLES / "allreduce.py"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the average of all ranks is 1.0") == 3


def test_own_model_in_one_process():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "custom_model.py"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
