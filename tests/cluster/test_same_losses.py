"""One job file under mpirun, srun and sbatch, and over emulated hosts: the same losses."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BIN = Path(sys.prefix) / "bin"
JOB = Path(__file__).resolve().parent.parent.parent / "examples" / "mnist_cnn.toml"
# dropout draws its masks on each rank, so it would depend on their number
SHORT = ["--set", "job.max_steps=20", "--set", "model.dropout=0.0"]


def losses(run):
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return np.array([record["loss"] for record in records])


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Losses of one process."""
    run = tmp_path_factory.mktemp("alone")
    command = [BIN / "mpimlsys", "train", JOB, *SHORT, "--set", f"job.out={run}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert len(losses(run)) == 20
    return losses(run)


def same(run, expected, ranks):
    assert json.loads((run / "result.json").read_text())["world_size"] == ranks
    np.testing.assert_allclose(losses(run), expected, rtol=1e-4)


def test_over_four_hosts(hosts, expected):
    text = "".join(f"{name} slots=1\n" for name in hosts.network.names)
    (hosts.folder / "hosts").write_text(text)
    run = hosts.folder / "run"
    options = ["-n", "4", "--hosts", hosts.folder / "hosts"]
    said = hosts.mpimlsys("launch", *options, JOB, *SHORT, "--set", f"job.out={run}")
    assert "4 ranks on 4 nodes" in said
    same(run, expected, 4)
    assert hosts.nothing_left() == []


def test_under_srun(cluster, expected):
    run = cluster.folder / "run"
    command = ["mpimlsys", "train", JOB, *SHORT, "--set", f"job.out={run}"]
    done = cluster.run(["srun", "-N2", "-n4", "--mpi=pmix", *command])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 ranks on 2 nodes" in done.stdout
    same(run, expected, 4)


def test_in_a_batch_job(cluster, expected):
    run = cluster.folder / "run"
    options = ["--nodes", "2", "--time", "00:10:00", "--set", "slurm.tasks_per_node=2"]
    setup = f'slurm.setup=["export PATH={BIN}:$PATH"]'
    submitted = cluster.mpimlsys(
        "submit", JOB, *options, *SHORT, "--set", f"job.out={run}", "--set", setup
    )
    assert re.match(r"submitted job \d+", submitted)
    log = cluster.mpimlsys("logs", "-f", run)
    assert "4 ranks on 2 nodes" in log
    status = json.loads(cluster.mpimlsys("status", "--json", run))
    assert (status["state"], status["exit_status"], status["step"]) == ("COMPLETED", 0, 20)
    same(run, expected, 4)
    assert cluster.nothing_left() == []


WITHOUT_MPIRUN = """
import sys
import time
from mpimlsys import cli
from mpimlsys.errors import ConfigError
from mpimlsys.launch import detect
def none(mpi):
    raise ConfigError("no mpirun")
detect.launcher_of = none
sys.exit(cli.main())
"""


def test_launch_takes_srun_where_there_is_no_mpirun(cluster, expected):
    run = cluster.folder / "run"
    program = ["python", "-c", WITHOUT_MPIRUN, "launch", JOB, *SHORT, "--set", f"job.out={run}"]
    done = cluster.run(["salloc", "-N2", "-n4", *program])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "srun -n 4 --mpi=pm" in done.stdout
    assert "4 ranks on 2 nodes" in done.stdout
    same(run, expected, 4)
    assert cluster.nothing_left() == []


def test_a_job_is_followed_and_cancelled(cluster):
    run = cluster.folder / "run"
    setup = f'slurm.setup=["export PATH={BIN}:$PATH"]'
    job = [JOB, "--set", "job.epochs=10000", "--set", f"job.out={run}", "--set", setup]
    cluster.mpimlsys("submit", *job)
    deadline = time.monotonic() + 60
    status = {}
    while status.get("step") is None and time.monotonic() < deadline:
        status = json.loads(cluster.mpimlsys("status", "--json", run))
    assert status["state"] == "RUNNING"
    assert status["step"] > 0
    assert "mpimlsys 0." in cluster.mpimlsys("logs", run)
    cluster.mpimlsys("cancel", run)
    assert cluster.nothing_left() == []
    assert "cancelled" in cluster.mpimlsys("status", run)
