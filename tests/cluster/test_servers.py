"""Parameter servers in a heterogeneous Slurm job, by the script that users copy."""

import json
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.prefix) / "bin"
ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 300


@pytest.fixture
def script(cluster):
    """``slurm/ps.sbatch`` for this cluster: two workers on one host, a server on each of two."""
    text = (ROOT / "slurm" / "ps.sbatch").read_text()
    run = cluster.folder / "run"
    job = f"{ROOT}/examples/mnist_cnn.toml --set job.max_steps={STEPS} --set job.out={run}"
    for old, new in {
        "--partition=gpu\n#SBATCH --nodes=2\n": "--partition=low\n#SBATCH --nodes=1\n",
        "--ntasks-per-node=4": "--ntasks-per-node=2",
        "--gpus-per-node=4": "--gpus-per-node=2",
        "--partition=cpu": "--partition=low",
        "--cpus-per-task=8": "--cpus-per-task=1",
        "mnist-cnn-%j.log": f"{cluster.folder}/log",
        "source .venv/bin/activate": f'export PATH="{BIN}:$PATH"',
        "examples/mnist_cnn.toml": job,
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    path = cluster.folder / "ps.sbatch"
    path.write_text(text)
    return path


def submit(cluster, script):
    done = cluster.run(["sbatch", "--parsable", script])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def wait(cluster, condition, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            log = cluster.folder / "log"
            said = log.read_text() if log.exists() else ""
            pytest.fail(cluster.run(["squeue"]).stdout + said[-3000:], pytrace=False)
        time.sleep(0.1)


def steps(cluster):
    path = cluster.folder / "run" / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def test_workers_and_servers_are_one_world_in_a_heterogeneous_job(cluster, script):
    submit(cluster, script)
    wait(cluster, lambda: (cluster.folder / "run" / "result.json").exists())
    assert "2 workers and 2 servers on 3 nodes" in (cluster.folder / "log").read_text()
    result = json.loads((cluster.folder / "run" / "result.json").read_text())
    assert result["steps"] == STEPS


def test_the_heterogeneous_job_is_queued_again_and_goes_on(cluster, script):
    number = submit(cluster, script)
    wait(cluster, lambda: steps(cluster) > 20)
    done = cluster.run(["scancel", "--batch", "--signal=USR1", number])
    assert done.returncode == 0, done.stderr
    wait(cluster, lambda: (cluster.folder / "run" / "result.json").exists(), 180)
    assert "going on after step" in (cluster.folder / "log").read_text()
    assert steps(cluster) == STEPS
