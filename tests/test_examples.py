"""Every example runs, in a short form."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
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
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "custom_model",
        "allreduce",
        "matrix_factorization",
        "sparse_logistic",
        "wide_and_deep",
    }


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


@pytest.fixture
def ratings(tmp_path):
    """A file of ratings that biases and two factors explain, but for a little noise."""
    random = np.random.default_rng(0)
    users, items = random.normal(0, 0.7, (100, 3)), random.normal(0, 0.7, (80, 3))
    pairs = random.permutation(8000)[:5000]
    p, q = users[pairs // 80], items[pairs % 80]
    exact = 4 + p[:, 0] + q[:, 0] + (p[:, 1:] * q[:, 1:]).sum(axis=1)
    noisy = exact + random.normal(0, 0.1, len(exact))
    lines = [f"{10 * (n // 80)},{n % 80 + 5},{r:.3f},0" for n, r in zip(pairs, noisy, strict=True)]
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n" + "\n".join(lines))
    return path


@pytest.mark.one_mpi
def test_wide_and_deep_learns_the_same_with_any_number_of_workers(mpirun, ratings):
    losses = []
    for ranks in (2, 4):
        script = [EXAMPLES / "wide_and_deep.py", ratings, "--epochs", "3", "--batch", "100"]
        done = mpirun(ranks, script)
        assert done.returncode == 0, done.stderr
        accuracy, base = re.findall(r"([\d.]+)%", done.stdout.splitlines()[-1])
        assert float(accuracy) > float(base) + 5, done.stdout
        losses.append(float(re.findall(r"log-loss ([\d.]+)", done.stdout)[-1]))
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.one_mpi
def test_matrix_factorization_finds_the_factors_with_any_number_of_workers(mpirun, ratings):
    script = [EXAMPLES / "matrix_factorization.py", ratings, "--factors", "4", "--batch", "500"]
    errors = []
    for ranks in (2, 4):
        done = mpirun(ranks, [*script, "--epochs", "40", "--lr", "0.2", "--l2", "0.02"])
        assert done.returncode == 0, done.stderr
        errors.append(float(re.findall(r"RMSE ([\d.]+)", done.stdout)[-1]))
    assert errors[0] < 0.2
    assert errors[0] == pytest.approx(errors[1], abs=0.01)


@pytest.mark.one_mpi
def test_sparse_logistic_is_ftrl_in_one_process(mpirun):
    lr, l1, count, samples = 0.3, 4.0, 20_000, 6000
    script = [EXAMPLES / "sparse_logistic.py", "--generate", str(count), "--samples", str(samples)]
    script += ["--batch", "600", "--epochs", "2", "--lr", str(lr), "--l1", str(l1)]
    found = []
    for ranks in (2, 4):
        done = mpirun(ranks, script)
        assert done.returncode == 0, done.stderr
        found.append([float(loss) for loss in re.findall(r"log-loss ([\d.]+)", done.stdout)])

    example = runpy.run_path(str(EXAMPLES / "sparse_logistic.py"))
    data, used = example["generate"](count, samples)
    test, train = data.part(0, samples // 10), data.part(samples // 10, samples)
    z, n, weights = np.zeros(count), np.zeros(count), np.zeros(count)
    expected = []
    for _ in range(2):
        for start in range(0, len(train.labels), 600):
            batch = train.part(start, start + 600)
            margins = example["margins_of"](batch, weights[batch.features])
            error = (1 / (1 + np.exp(-margins)) - batch.labels)[batch.owners] * batch.values
            g = np.bincount(batch.features.astype(int), weights=error, minlength=count)
            sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / lr
            z, n = z + g - sigma * weights, n + g * g
            weights = -np.sign(z) * np.maximum(np.abs(z) - l1, 0) / ((1 + np.sqrt(n)) / lr)
        margins = example["margins_of"](test, weights[test.features])
        expected.append(example["log_loss"](margins, test.labels))
    idle = np.setdiff1d(np.arange(count), used)
    assert np.mean(weights[idle] == 0) > 0.9
    assert expected[-1] < 0.65
    for losses in found:
        np.testing.assert_allclose(losses, expected, rtol=0.01)


@pytest.mark.one_mpi
def test_a_line_that_is_not_libsvm_is_named(mpirun, tmp_path):
    path = tmp_path / "bad.libsvm"
    path.write_text("1 3:0.5\n0 4:x\n")
    done = mpirun(2, [EXAMPLES / "sparse_logistic.py", path], timeout_s=60)
    assert done.returncode != 0
    assert "line 2: not `label index:value ...`" in done.stderr
