"""A request to stop ends all ranks at the same step, with a checkpoint and its own exit status."""

import json
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.mpi


@pytest.fixture
def long_job(tmp_path, write_job):
    return write_job(
        f"[job]\nout = '{tmp_path / 'run'}'\nepochs = 1000\n[model]\nname = 'cnn'\n"
        "[checkpoint]\nevery = 'end'\n"
    )


def wait_for_steps(folder, process):
    deadline = time.monotonic() + 60
    metrics = folder / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.stat().st_size:
            return
        time.sleep(0.05)
    pytest.fail("the run did not begin to train")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_single_process_stops_cleanly(long_job, tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "mpimlsys", "train", str(long_job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_steps(tmp_path / "run", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"stopped on request ({signal.Signals(number).name}) after step" in err
    assert "Traceback" not in out + err
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    step = json.loads((saved / "manifest.json").read_text())["step"]
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == step
    resumed = subprocess.run(
        [sys.executable, "-m", "mpimlsys", "train", str(tmp_path / "run" / "job.toml"), "--resume",
         "--set", f"job.max_steps={step + 2}"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert f"going on after step {step}" in resumed.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_launch_stops_all_ranks(long_job, tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "mpimlsys", "launch", "-n", "2", str(long_job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_steps(tmp_path / "run", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert (out + err).count("mpimlsys: error: stopped on request") == 1
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) == 1


def kill_a_rank(job, launcher):
    found = subprocess.run(
        ["pgrep", "-f", f"mpimlsys train {job}"], capture_output=True, text=True, timeout=20
    ).stdout.split()
    ranks = [int(pid) for pid in found if int(pid) != launcher.pid]
    assert ranks
    subprocess.run(["kill", "-9", str(max(ranks))], check=True, timeout=20)


def test_launch_tells_the_loss_of_a_rank(long_job, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "mpimlsys", "launch", "-n", "2", str(long_job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_steps(tmp_path / "run", process)
    kill_a_rank(long_job, process)
    _, err = process.communicate(timeout=60)
    assert process.returncode not in (0, 2)
    assert "the job was lost" in err


def test_launch_starts_again_after_a_crash(long_job, tmp_path):
    settings = ["--set", "job.max_steps=600", "--set", "checkpoint.every=20 steps"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mpimlsys", "launch", "-n", "2", "--max-restarts", "1",
         str(long_job), *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run").glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    kill_a_rank(long_job, process)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "mpimlsys launch: restart 1 of 1" in err
    assert "going on after step" in out
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert steps == list(range(1, 601))


# an hour passes during the first step
LATE = """
import sys, time
from mpimlsys import cli
from mpimlsys.train.trainer import Trainer
step, now = Trainer._step, time.time
def long_step(*arguments):
    report = step(*arguments)
    time.time = lambda: now() + 3600
    return report
Trainer._step = long_step
sys.exit(cli.main())
"""


def test_a_run_stops_before_the_time_of_its_allocation_is_over(long_job, tmp_path, mpirun):
    ends = str(int(time.time()) + 3605)  # the last 10 s are for stopping
    done = mpirun(2, ["-c", LATE, "train", long_job], env={"SLURM_JOB_END_TIME": ends})
    assert done.returncode == 128 + signal.SIGUSR1, done.stdout + done.stderr
    assert "stopped because the allocation's time is nearly over after step" in done.stderr
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert json.loads((saved / "manifest.json").read_text())["step"] > 0
