"""The laws of training: the result does not depend on how many ranks there are, or on luck."""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from mpimlsys import data

TINY = [
    "--set", "job.max_steps=60",
    "--set", "job.epochs=100",
    "--set", "data.batch_size=24",
    "--set", "job.seed=3",
]  # fmt: skip
MODELS = {
    "mlp": ["--set", "model.name=mlp", "--set", "model.hidden=[16]"],
    "cnn": ["--set", "model.name=cnn", "--set", "model.dropout=0.0"],
}


@pytest.fixture
def digits(tmp_path, write_job):
    """A job on the first 500 digits; 500 is no multiple of 24, so epochs end in a short batch."""
    images, labels = data.load("mnist").train.batch(np.arange(500))
    source = tmp_path / "digits.npz"
    np.savez(source, x=images, y=labels)
    return write_job(f"[data]\nsource = '{source}'\n[optimizer]\nname = 'momentum'\nlr = 0.03\n")


def losses(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return np.array([record["loss"] for record in records])


def final_parameters(folder):
    newest = max((folder / "checkpoints").glob("step-*"))
    return {
        name: value
        for name, value in load_file(newest / "state.safetensors").items()
        if name.startswith("parameter.")
    }


@pytest.mark.one_mpi
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
def test_the_losses_do_not_depend_on_the_number_of_ranks(
    model, dtype, tolerance, digits, mpirun, tmp_path
):
    found = {}
    for ranks in (1, 2, 3, 4):
        out = tmp_path / f"{ranks}"
        arguments = [
            *TINY,
            *MODELS[model],
            "--set",
            f"job.dtype={dtype}",
            "--set",
            f"job.out={out}",
        ]
        done = mpirun(ranks, ["-m", "mpimlsys", "train", str(digits), *arguments])
        assert done.returncode == 0, done.stderr
        found[ranks] = losses(out)
        assert len(found[ranks]) == 60
    assert found[1][-10:].mean() < 0.8 * found[1][:10].mean(), "the model learns"
    for ranks in (2, 3, 4):
        np.testing.assert_allclose(found[ranks], found[1], rtol=tolerance)


def test_the_same_job_twice_gives_the_same_bits(digits, mpirun, tmp_path):
    results = []
    for name in ("a", "b"):
        out = tmp_path / name
        arguments = [*TINY, "--set", "model.name=cnn", "--set", f"job.out={out}"]
        done = mpirun(2, ["-m", "mpimlsys", "train", str(digits), *arguments])
        assert done.returncode == 0, done.stderr
        results.append(final_parameters(out))
    first, second = results
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(digits, mpirun, launcher, tmp_path):
    """Dropout on and Adam, so that random and optimiser state count; killed three times."""
    job = [
        str(digits), *TINY, "--set", "model.name=cnn", "--set", "model.dropout=0.3",
        "--set", "optimizer.name=adam", "--set", "optimizer.lr=0.002",
        "--set", "checkpoint.every=7 steps", "--set", "job.max_steps=150",
    ]  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = mpirun(2, ["-m", "mpimlsys", "train", *job, "--set", f"job.out={whole}"])
    assert done.returncode == 0, done.stderr

    moment = random.Random(os.getpid())
    for _ in range(3):
        child = launcher(
            2, ["-m", "mpimlsys", "train", *job, "--set", f"job.out={broken}", "--resume"]
        )
        metrics = broken / "metrics.jsonl"
        before = metrics.stat().st_size if metrics.exists() else 0
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if metrics.exists() and metrics.stat().st_size != before:
                break
            time.sleep(0.02)
        time.sleep(moment.uniform(0, 0.4))
        child.kill_all()
        child.communicate(timeout=30)
    done = mpirun(2, ["-m", "mpimlsys", "train", *job, "--set", f"job.out={broken}", "--resume"])
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(losses(broken), losses(whole))
    expected, found = final_parameters(whole), final_parameters(broken)
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_all_ranks_hold_the_same_bits_after_every_step(mpirun, tmp_path):
    script = tmp_path / "digests.py"
    script.write_text(
        """
import sys, numpy as np, mpimlsys as mls
from mpimlsys import nn

ctx = mls.init()
rng = np.random.default_rng(1)
x = rng.normal(size=(203, 12)).astype(np.float32)
y = rng.integers(0, 4, 203)
model = nn.Sequential(nn.Linear(12, 33), nn.ReLU(), nn.Dropout(0.2), nn.Linear(33, 4))
trainer = mls.Trainer(model, loss=nn.CrossEntropyLoss(), optimizer=mls.optim.adam(0.01),
                      bucket_bytes=512, clip_norm=1.0)
seen = []
def check(report):
    digest = np.frombuffer(bytes.fromhex(trainer.space.digest()), np.uint8)
    everyone = ctx.gather(digest.copy())
    assert (everyone == everyone[0]).all(), f"step {report.step}: the ranks differ"
    seen.append(bytes(digest))
trainer.fit((x, y), epochs=4, batch_size=16, on_step=check)
assert len(trainer.space.buckets) > 1
assert len(set(seen)) == len(seen) == 52
if ctx.is_root:
    print("same bits", len(seen))
"""
    )
    for ranks in (2, 3, 4):
        done = mpirun(ranks, [str(script)])
        assert done.returncode == 0, done.stderr
        assert "same bits 52" in done.stdout


def test_boston_reaches_the_least_squares_solution(mpirun, tmp_path):
    out = tmp_path / "boston"
    example = os.path.join(os.path.dirname(__file__), "..", "..", "examples", "boston_linear.toml")  # noqa: PTH118, PTH120
    done = mpirun(2, ["-m", "mpimlsys", "train", example, "--set", f"job.out={out}"])
    assert done.returncode == 0, done.stderr
    splits = data.load("boston", classes=False, test_fraction=0.0)
    x, y = splits.train.batch(np.arange(len(splits.train)))
    x = x.astype(np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    design = np.column_stack([x, np.ones(len(x))])
    expected = np.linalg.lstsq(design, y.reshape(-1).astype(np.float64), rcond=None)[0]
    found = final_parameters(out)
    solution = np.concatenate([found["parameter.0.weight"].ravel(), found["parameter.0.bias"]])
    assert np.linalg.norm(solution - expected) <= 1e-4 * np.linalg.norm(expected)


def test_a_single_process_leaves_nothing_in_shared_memory(tmp_path, digits):
    from pathlib import Path

    before = set(Path("/dev/shm").iterdir())
    arguments = [*TINY, *MODELS["mlp"], "--set", f"job.out={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mpimlsys", "train", str(digits), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    left = set(Path("/dev/shm").iterdir()) - before
    mine = [path for path in left if path.stat().st_uid == os.getuid()]
    assert not [path for path in mine if path.name.startswith(("sm_segment", "mpimlsys"))]
