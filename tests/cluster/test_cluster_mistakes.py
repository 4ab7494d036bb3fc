"""Mistakes that only a cluster can make: one message that names cause and remedy, nothing left."""

import sys
from pathlib import Path

import pytest

BIN = Path(sys.prefix) / "bin"
JOB = Path(__file__).resolve().parent.parent.parent / "examples" / "mnist_cnn.toml"
WITHIN_S = 30


def told(done, hosts, text, status=2):
    """The one message; and no process is left."""
    output = done.stdout + done.stderr
    assert done.returncode == status, output
    assert text in output
    assert output.count("mpimlsys: error") + output.count("mpimlsys launch: ") == 1, output
    assert "Traceback" not in output
    assert hosts.nothing_left() == []


def batch(cluster, *lines):
    """Run a script as a batch job on two nodes; its output is standard output."""
    script = cluster.folder / "job.sh"
    script.write_text("\n".join(["#!/bin/bash", *lines]) + "\n")
    log = cluster.folder / "job.log"
    options = ["--wait", "--nodes=2", "--ntasks-per-node=1", f"--output={log}"]
    done = cluster.run(["sbatch", *options, script], timeout_s=WITHIN_S)
    done.stdout += log.read_text()
    return done


def test_a_partition_that_does_not_exist(cluster):
    options = ["--partition", "nowhere", "--set", f"job.out={cluster.folder}/run"]
    done = cluster.run(["mpimlsys", "submit", JOB, *options], timeout_s=WITHIN_S)
    told(done, cluster, "specified: nowhere. This cluster has: high, low. Choose one")


def test_an_option_that_slurm_does_not_know(cluster):
    options = ["--set", 'slurm.options=["--nonsense"]', "--set", f"job.out={cluster.folder}/run"]
    done = cluster.run(["mpimlsys", "submit", JOB, *options], timeout_s=WITHIN_S)
    told(done, cluster, "sbatch: unrecognized option '--nonsense'")


@pytest.mark.parametrize("flavour", ["none", "pmi2"])
def test_a_pmi_that_does_not_fit(cluster, flavour, mpi_launcher):
    if mpi_launcher.family == "hydra" and flavour == "pmi2":
        pytest.skip("pmi2 is the one that fits MPICH")
    if mpi_launcher.version.startswith("4."):
        pytest.skip("Open MPI 4 ends by itself then, and says so at length")
    command = ["srun", "-N2", "-n4", f"--mpi={flavour}", "mpimlsys", "train", JOB]
    done = cluster.run([*command, "--set", f"job.out={cluster.folder}/run"], timeout_s=WITHIN_S)
    told(done, cluster, "srun started 4 processes, but MPI sees a world of one")


def test_more_ranks_than_the_allocation_has(cluster):
    command = ["salloc", "-N2", "-n2", "mpimlsys", "launch", "-n", "5", JOB]
    done = cluster.run(command, timeout_s=WITHIN_S)
    told(done, cluster, "-n 5: the Slurm allocation is for 2 tasks. Leave out -n, or ask")


def test_a_job_file_on_one_node_only(cluster):
    done = batch(cluster, f"cp {JOB} /tmp/mine.toml", "mpimlsys launch /tmp/mine.toml")
    told(done, cluster, "rank 1: cannot read the job file /tmp/mine.toml: No such file")


def test_checkpoints_that_are_not_shared(cluster):
    done = batch(cluster, f"mpimlsys launch {JOB} --set job.out=/tmp/run")
    told(done, cluster, "checkpoint.dir /tmp/run/checkpoints is not one folder on all hosts")


def test_a_host_that_does_not_exist(hosts):
    (hosts.folder / "hosts").write_text("n0 slots=1\nn7 slots=1\n")
    command = ["mpimlsys", "launch", "-n", "2", "--hosts", hosts.folder / "hosts", JOB]
    done = hosts.run(command, timeout_s=WITHIN_S)
    assert done.returncode == 1
    assert "this machine knows no host n7. Correct the name" in done.stderr
    assert hosts.nothing_left() == []


def test_more_ranks_than_slots(hosts):
    (hosts.folder / "hosts").write_text("n0 slots=1\nn1 slots=1\n")
    command = ["mpimlsys", "launch", "-n", "5", "--hosts", hosts.folder / "hosts", JOB]
    done = hosts.run(command, timeout_s=WITHIN_S)
    told(done, hosts, "take 2. Start 2 ranks at most, or give the hosts more slots.")
