"""The sbatch scripts: equal to the files in slurm/, accepted by bash, right about signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpimlsys.jobfile import SlurmSection
from mpimlsys.launch.slurm.script import render

FOLDER = Path(__file__).parent.parent.parent / "slurm"
NODES = {"nodes": 2, "tasks_per_node": 4}
FILES = {
    "train.sbatch": SlurmSection(**NODES),
    "requeue.sbatch": SlurmSection(**NODES, requeue=True),
    "train_gpu.sbatch": SlurmSection(**NODES, gpus_per_node=4, requeue=True),
}


def script(slurm, **changes):
    names = {"name": "mnist-cnn", "job": "runs/mnist-cnn/slurm/job.toml"}
    return render(slurm, **{**names, "log": "runs/mnist-cnn/slurm/%j.log", **changes})


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_submit_writes(name):
    assert (FOLDER / name).read_text() == script(FILES[name])


def test_all_files_are_tested():
    assert {path.name for path in FOLDER.glob("*.sbatch")} == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_bash_accepts_them(name):
    done = subprocess.run(["bash", "-n", FOLDER / name], capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_every_option_of_the_job_file_is_written():
    slurm = SlurmSection(
        partition="gpu",
        account="abc",
        nodes=3,
        tasks_per_node=2,
        cpus_per_task=8,
        gpus_per_node=1,
        memory="16G",
        time="2-00:00:00",
        grace_s=60,
        setup=["module load openmpi", "source env/bin/activate"],
        options=["--constraint=ib"],
    )
    assert script(slurm, job="a b/job.toml") == (
        "#!/bin/bash\n"
        "#SBATCH --job-name=mnist-cnn\n"
        "#SBATCH --partition=gpu\n"
        "#SBATCH --account=abc\n"
        "#SBATCH --nodes=3\n"
        "#SBATCH --ntasks-per-node=2\n"
        "#SBATCH --cpus-per-task=8\n"
        "#SBATCH --gpus-per-node=1\n"
        "#SBATCH --mem=16G\n"
        "#SBATCH --time=2-00:00:00\n"
        "#SBATCH --signal=B:USR1@60\n"
        "#SBATCH --no-requeue\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --output=runs/mnist-cnn/slurm/%j.log\n"
        "#SBATCH --constraint=ib\n"
        "\n"
        "# what this cluster needs before Python can run\n"
        "module load openmpi\n"
        "source env/bin/activate\n"
        "\n"
        "exec mpimlsys launch 'a b/job.toml' --resume\n"
    )


@pytest.fixture
def cluster(tmp_path):
    """A folder with a stand-in for mpimlsys and scontrol; returns how to run a script in it."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "mpimlsys").write_text(
        f"#!{sys.executable}\n"
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "stopped = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: stopped.append(1))\n"
        "Path('started').touch()\n"
        "for _ in range(600):\n"
        "    if stopped: time.sleep(0.3); sys.exit(138)\n"
        "    if Path('finish').exists(): sys.exit(int(Path('finish').read_text()))\n"
        "    time.sleep(0.05)\n"
    )
    (bin_folder / "scontrol").write_text('#!/bin/sh\necho "$@" >>requeued\n')
    for program in bin_folder.iterdir():
        program.chmod(0o755)
    running = []

    def start(slurm):
        (tmp_path / "job.sbatch").write_text(script(slurm))
        process = subprocess.Popen(
            ["bash", "job.sbatch"],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"},
            start_new_session=True,
        )
        running.append(process)
        deadline = time.monotonic() + 30
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_stopped_run_is_queued_again(cluster, tmp_path, number):
    process = cluster(SlurmSection(requeue=True, setup=[]))
    process.send_signal(number)
    assert process.wait(timeout=30) == 138
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_run_that_has_ended_is_not(cluster, tmp_path, status):
    process = cluster(SlurmSection(requeue=True, setup=[]))
    (tmp_path / "finish").write_text(str(status))
    assert process.wait(timeout=30) == status
    assert not (tmp_path / "requeued").exists()


def test_without_requeue_launch_gets_the_signal_itself(cluster, tmp_path):
    process = cluster(SlurmSection(setup=[]))
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 138
    assert not (tmp_path / "requeued").exists()
