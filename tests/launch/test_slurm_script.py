"""The sbatch scripts: equal to the files in slurm/, accepted by bash, right about signals.

The programs that they call are stand-ins, which write down how they were called.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpimlsys.jobfile import SlurmSection, load_job
from mpimlsys.launch.slurm.script import render

PROJECT = Path(__file__).parent.parent.parent
FOLDER = PROJECT / "slurm"
NODES = {"nodes": 2, "tasks_per_node": 4}
FILES = {
    "train.sbatch": SlurmSection(**NODES),
    "requeue.sbatch": SlurmSection(**NODES, requeue=True),
    "train_gpu.sbatch": SlurmSection(**NODES, gpus_per_node=4, requeue=True),
}
TRAIN = "mpimlsys train examples/mnist_cnn.toml --resume"
# written by hand: the calls it makes, and the job that it queues again
BY_HAND = {
    "array.sbatch": (
        [
            "mpimlsys launch examples/mnist_cnn.toml --resume "
            "--set job.seed=3 --set job.out=runs/mnist-cnn/seed-3"
        ],
        "40_3",
    ),
    "container.sbatch": (
        [
            "module load openmpi",
            f"mpirun -n 8 --map-by ppr:4:node:PE=1 apptainer exec mpimlsys.sif {TRAIN}",
            f"apptainer exec mpimlsys.sif {TRAIN}",
            TRAIN,
        ],
        "42",
    ),
    "ps.sbatch": (
        [
            f"srun --het-group=0,1 --mpi=pmix {TRAIN} --set exchange.kind=ps "
            "--set cluster.servers=2 --set cluster.placement=pack",
            f"{TRAIN} --set exchange.kind=ps --set cluster.servers=2 --set cluster.placement=pack",
        ],
        "42",
    ),
}
ODD = {
    "name": "it's my run",
    "job": "runs/it's my run/slurm/job.toml",
    "log": "runs/it's my run/slurm/%j.log",
}


def script(slurm, **changes):
    names = {"name": "mnist-cnn", "job": "runs/mnist-cnn/slurm/job.toml"}
    return render(slurm, **{**names, "log": "runs/mnist-cnn/slurm/%j.log", **changes})


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_submit_writes(name):
    assert (FOLDER / name).read_text() == script(FILES[name])


def test_all_files_are_tested():
    assert {path.name for path in FOLDER.glob("*.sbatch")} == FILES.keys() | BY_HAND.keys()


@pytest.mark.parametrize("name", [*FILES, *BY_HAND])
def test_bash_accepts_them(name):
    done = subprocess.run(["bash", "-n", FOLDER / name], capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("requeue", [True, False])
def test_odd_names_are_quoted_for_the_shell(requeue):
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "-"],
        input=script(SlurmSection(requeue=requeue), **ODD),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("sbatch") is None, reason="no sbatch on PATH")
def test_odd_names_are_quoted_for_sbatch(tmp_path):
    (tmp_path / "job.sbatch").write_text(script(SlurmSection(partition="my part"), **ODD))
    (read,) = read_by_sbatch(tmp_path)
    assert read["job-name"] == "it's my run"
    assert read["partition"] == "my part"
    assert read["output"] == f"{tmp_path}/runs/it's my run/slurm/%j.log"


@pytest.mark.skipif(shutil.which("sbatch") is None, reason="no sbatch on PATH")
def test_sbatch_reads_two_parts_of_the_heterogeneous_job(tmp_path):
    shutil.copy(FOLDER / "ps.sbatch", tmp_path / "job.sbatch")
    workers, servers = read_by_sbatch(tmp_path)
    assert (workers["partition"], workers["gpus-per-node"]) == ("gpu", "4")
    assert (servers["partition"], servers["ntasks-per-node"]) == ("cpu", "1")
    assert "gpus-per-node" not in servers
    assert servers["time"] == workers["time"]


def read_by_sbatch(folder):
    """The options that sbatch finds in ``job.sbatch``, per part; there is no cluster to ask."""
    (folder / "slurm.conf").write_text(
        "ClusterName=none\nSlurmctldHost=localhost\nSlurmctldPort=1\nAuthType=auth/none\n"
        "GresTypes=gpu\nMessageTimeout=1\nNodeName=localhost\nPartitionName=none Nodes=localhost\n"
    )
    done = subprocess.run(
        ["sbatch", "-vv", "--test-only", "job.sbatch"],
        cwd=folder,
        env={**os.environ, "SLURM_CONF": str(folder / "slurm.conf")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    parts = []
    for line in done.stderr.splitlines():
        if line.endswith(": defined options"):
            parts.append({})
        elif " : " in line:
            option, value = line.removeprefix("sbatch: ").split(" : ")
            parts[-1][option.strip()] = value
    return parts


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
    """A folder with stand-ins for the programs; returns how to run the text of a script in it."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (bin_folder / "mpimlsys").write_text(
        f"#!{sys.executable}\n"
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "stopped = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: stopped.append(1))\n"
        "with open('calls', 'a') as calls: print('mpimlsys', *sys.argv[1:], file=calls)\n"
        "Path('started').touch()\n"
        "for _ in range(600):\n"
        "    if stopped: time.sleep(0.3); sys.exit(138)\n"
        "    if Path('finish').exists(): sys.exit(int(Path('finish').read_text()))\n"
        "    time.sleep(0.05)\n"
    )
    # those that run another program: how many arguments come before it
    for name, own in {"mpirun": 4, "apptainer": 2, "srun": 2}.items():
        (bin_folder / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >>calls\nshift {own}\nexec "$@"\n'
        )
    (bin_folder / "module").write_text('#!/bin/sh\necho "module $*" >>calls\n')
    (bin_folder / "scontrol").write_text('#!/bin/sh\necho "$@" >>requeued\n')
    for program in bin_folder.iterdir():
        program.chmod(0o755)
    running = []

    def start(text, **variables):
        (tmp_path / "job.sbatch").write_text(text)
        process = subprocess.Popen(
            ["bash", "job.sbatch"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{bin_folder}:{os.environ['PATH']}",
                "SLURM_JOB_ID": "42",
                **variables,
            },
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
@pytest.mark.parametrize("name", BY_HAND)
def test_a_stopped_run_of_the_files_by_hand_is_queued_again(cluster, tmp_path, name, number):
    calls, requeued = BY_HAND[name]
    process = cluster(
        (FOLDER / name).read_text(),
        SLURM_NTASKS="8",
        SLURM_NTASKS_PER_NODE="4",
        SLURM_CPUS_PER_TASK="1",
        SLURM_ARRAY_JOB_ID="40",
        SLURM_ARRAY_TASK_ID="3",
    )
    process.send_signal(number)
    assert process.wait(timeout=30) == 138
    assert (tmp_path / "calls").read_text().splitlines() == calls
    assert (tmp_path / "requeued").read_text() == f"requeue {requeued}\n"


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("name", BY_HAND)
def test_the_files_by_hand_give_the_status_of_the_run(cluster, tmp_path, name, status):
    process = cluster((FOLDER / name).read_text())
    (tmp_path / "finish").write_text(str(status))
    assert process.wait(timeout=30) == status
    assert not (tmp_path / "requeued").exists()


@pytest.mark.parametrize("name", BY_HAND)
def test_the_jobs_of_the_files_by_hand_are_valid(name):
    last_call = BY_HAND[name][0][-1].split()
    overrides = [last_call[at + 1] for at, word in enumerate(last_call) if word == "--set"]
    load_job(PROJECT / last_call[2], overrides)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_stopped_run_is_queued_again(cluster, tmp_path, number):
    process = cluster(script(SlurmSection(requeue=True, setup=[])))
    process.send_signal(number)
    assert process.wait(timeout=30) == 138
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_run_that_has_ended_is_not(cluster, tmp_path, status):
    process = cluster(script(SlurmSection(requeue=True, setup=[])))
    (tmp_path / "finish").write_text(str(status))
    assert process.wait(timeout=30) == status
    assert not (tmp_path / "requeued").exists()


def test_without_requeue_launch_gets_the_signal_itself(cluster, tmp_path):
    process = cluster(script(SlurmSection(setup=[])))
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 138
    assert not (tmp_path / "requeued").exists()
