"""Checkpoints of several ranks: shared, beside training, all or nothing."""

import json

import numpy as np
import pytest

from mpimlsys.train import checkpoint

# 2 million parameters with momentum: 16 MB, so that two ranks write a share each
JOB = """
[job]
epochs = 1
max_steps = 12
[data]
source = "mnist"
batch_size = 24
[model]
name = "mlp"
hidden = [1024, 1024]
[optimizer]
name = "momentum"
lr = 0.01
[checkpoint]
every = "4 steps"
keep = 2
"""


@pytest.fixture
def job(write_job, tmp_path):
    return write_job(f"{JOB}[comm]\ntimeout_s = 60.0\n"), tmp_path / "run"


def train(mpirun, job, ranks, *options):
    path, out = job
    argv = ["-m", "mpimlsys", "train", path, "--set", f"job.out={out}", *options]
    done = mpirun(ranks, argv)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").open()]


def test_each_rank_writes_a_share_and_other_numbers_of_ranks_go_on(job, mpirun, tmp_path):
    out = job[1]
    train(mpirun, job, 2, "--set", "job.max_steps=6")
    folders = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert folders == ["step-0000000004", "step-0000000006"]
    files = sorted((out / "checkpoints" / folders[1]).glob("*.safetensors"))
    sizes = [file.stat().st_size for file in files]
    assert len(sizes) == 2
    assert max(sizes) < 1.01 * min(sizes)
    train(mpirun, job, 3, "--resume")
    assert len(list((out / "checkpoints" / "step-0000000012").glob("*.safetensors"))) == 3
    train(mpirun, (job[0], tmp_path / "alone"), 1)
    np.testing.assert_allclose(losses(out), losses(tmp_path / "alone"), rtol=1e-4)
    result = json.loads((out / "result.json").read_text())
    assert result["checkpoints"] == 2
    assert result["checkpoint_stall_s"] > 0


# rank 1 gets a disk of its own kind: slow or full
PROGRAM = """
import errno, os, sys, time
from mpimlsys import cli
from mpimlsys.train import checkpoint
from mpimlsys.train.trainer import Trainer
steps = 0
def counted(step):
    def wrapped(*arguments):
        global steps
        steps += 1
        return step(*arguments)
    return wrapped
Trainer._step = counted(Trainer._step)
def slow(write):
    "Waits for three more steps of training, if there are to be so many."
    def wrapped(*arguments):
        wanted, end = min(steps + 3, 12), time.monotonic() + 30
        while steps < wanted:
            assert time.monotonic() < end, "training waits for its checkpoint"
            time.sleep(0.01)
        return write(*arguments)
    return wrapped
def full(write):
    def wrapped(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return wrapped
kind = {"slow": slow, "full": full}[sys.argv.pop(1)]
if os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")) == "1":
    checkpoint.write_state = kind(checkpoint.write_state)
sys.exit(cli.main())
"""


def test_training_goes_on_while_a_rank_still_writes(job, mpirun):
    path, out = job
    options = ["--set", f"job.out={out}", "--set", 'checkpoint.every="6 steps"']
    done = mpirun(2, ["-c", PROGRAM, "slow", "train", path, *options])
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((out / "result.json").read_text())["checkpoints"] == 2
    for step in (6, 12):
        assert checkpoint.load(checkpoint.path_of(out / "checkpoints", step)).step == step


def test_a_rank_that_cannot_write_ends_the_run_with_what_was_saved(job, mpirun):
    out = job[1]
    train(mpirun, job, 2, "--set", "job.max_steps=4")
    argv = ["-c", PROGRAM, "full", "train", out / "job.toml", "--resume"]
    done = mpirun(2, [*argv, "--set", "job.max_steps=12"])
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("mpimlsys: error:") == 1
    assert "rank 1: cannot write" in done.stderr
    assert "No space left on device. Make room there" in done.stderr
    assert [folder.name for folder in (out / "checkpoints").iterdir()] == ["step-0000000004"]
    assert checkpoint.load(out / "checkpoints" / "step-0000000004").step == 4
