"""Jobs that are stopped at a random step, queued again and resumed end with the same bits."""

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.prefix) / "bin"
SCRIPTS = Path(__file__).resolve().parent.parent.parent / "slurm"
STEPS = 1200
JOB = f"""
[job]
seed = 5
epochs = 1000
max_steps = {STEPS}
blas_threads = 1  # some processors sum in another order with another number

[data]
source = "mnist"
batch_size = 32

[model]
name = "mlp"
hidden = [64]
dropout = 0.2

[optimizer]
name = "adam"
lr = 0.001

[checkpoint]
every = "200 steps"

[slurm]
nodes = 2
time = "00:10:00"
requeue = true
setup = ["export PATH={BIN}:$PATH"]
"""


@pytest.fixture
def job(cluster):
    path = cluster.folder / "job.toml"
    path.write_text(JOB)
    return path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The last checkpoint of two local ranks that nothing interrupts."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "job.toml").write_text(JOB)
    subprocess.run(
        [BIN / "mpimlsys", "launch", "-n", "2", folder / "job.toml", "--set", "job.out=run"],
        cwd=folder, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return final_state(folder / "run")


def final_state(run):
    state = run / "checkpoints" / f"step-{STEPS:010d}" / "state.safetensors"
    return hashlib.sha256(state.read_bytes()).hexdigest()


def step_of(run):
    try:
        whole = (run / "metrics.jsonl").read_text().rpartition("\n")[0].splitlines()
    except FileNotFoundError:
        return 0
    return json.loads(whole[-1])["step"] if whole else 0


def submit(cluster, job, run):
    return int(cluster.mpimlsys("submit", job, "--set", f"job.out={run}").split(maxsplit=3)[2][:-1])


def await_all(cluster, runs, condition, timeout_s):
    """Poll until ``condition(run)`` has held once for every run; fails with their logs."""
    waiting = set(runs)
    deadline = time.monotonic() + timeout_s
    while waiting := {run for run in waiting if not condition(run)}:
        if time.monotonic() > deadline:
            logs = [
                path.read_text()[-1500:] for run in waiting for path in run.rglob("slurm/*.log")
            ]
            queue = cluster.run(["squeue"]).stdout
            pytest.fail("\n".join([queue, *logs]), pytrace=False)
        time.sleep(0.05)


def finished(cluster, number):
    done = cluster.run(["scontrol", "--oneliner", "show", "job", str(number)])
    return "JobState=COMPLETED" in done.stdout


INTERRUPTIONS = {
    "USR1 to the ranks": ["scancel", "--signal=USR1"],
    "USR1 to the script": ["scancel", "--signal=USR1", "--batch"],
    "requeue": ["scontrol", "requeue"],
}


def test_ten_jobs_stopped_at_a_random_step_end_with_the_same_bits(cluster, job, uninterrupted):
    runs = [cluster.folder / f"run-{index}" for index in range(10)]
    numbers = {run: submit(cluster, job, run) for run in runs}
    kinds = {run: list(INTERRUPTIONS)[index % 3] for index, run in enumerate(runs)}
    # after a checkpoint, and long before the end
    at = {run: random.randrange(210, STEPS - 500) for run in runs}

    def interrupt(run):
        if step_of(run) < at[run]:
            return False
        command = [*INTERRUPTIONS[kinds[run]], str(numbers[run])]
        done = cluster.run(command)
        assert done.returncode == 0, done.stderr
        return True

    await_all(cluster, runs, interrupt, 140)
    await_all(cluster, runs, lambda run: finished(cluster, numbers[run]), 140)
    for run in runs:
        (log,) = (run / "slurm").glob("*.log")
        assert "going on after step" in log.read_text(), (kinds[run], at[run], log.read_text())
        assert final_state(run) == uninterrupted, (kinds[run], at[run])
    assert cluster.nothing_left() == []


def test_a_job_of_higher_priority_takes_the_nodes(cluster, job, uninterrupted):
    run = cluster.folder / "run"
    number = submit(cluster, job, run)
    await_all(cluster, [run], lambda run: step_of(run) > 50, 60)
    urgent = ["srun", "--partition=high", "--nodes=4", "--exclusive", "hostname"]
    done = cluster.run(urgent, timeout_s=60)
    assert done.returncode == 0, done.stderr
    await_all(cluster, [run], lambda _: finished(cluster, number), 180)
    (log,) = (run / "slurm").glob("*.log")
    assert "stopped on request (SIGUSR1)" in log.read_text()
    assert "going on after step" in log.read_text()
    assert final_state(run) == uninterrupted


def test_a_task_of_an_array_is_queued_again_on_its_own(cluster, job, uninterrupted):
    script = (SCRIPTS / "array.sbatch").read_text()
    script = script.replace("source .venv/bin/activate", f"export PATH={BIN}:$PATH")
    script = script.replace("--ntasks-per-node=4", "--ntasks-per-node=2")
    script = script.replace("examples/mnist_cnn.toml", str(job)).replace("0-4", "4-5")
    (cluster.folder / "array.sbatch").write_text(script)
    done = cluster.run(["sbatch", "--parsable", "array.sbatch"])
    assert done.returncode == 0, done.stderr
    number = done.stdout.strip()
    runs = {task: cluster.folder / "runs" / "mnist-cnn" / f"seed-{task}" for task in (4, 5)}
    await_all(cluster, [runs[5]], lambda run: step_of(run) > 50, 60)
    cluster.run(["scancel", "--signal=USR1", "--batch", f"{number}_5"])
    await_all(cluster, runs.values(), lambda run: (run / "result.json").exists(), 180)
    logs = {task: (cluster.folder / f"mnist-cnn-{number}_{task}.log").read_text() for task in runs}
    assert "going on after step" in logs[5]
    assert "going on after step" not in logs[4]
    assert final_state(runs[5]) == uninterrupted  # the job's own seed is 5
    assert final_state(runs[4]) != uninterrupted
