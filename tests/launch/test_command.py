"""The launchers' command lines, compared whole with recorded ones."""

from dataclasses import replace
from pathlib import Path

import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.launch import command
from mpimlsys.launch.command import Allocation, Command, build
from mpimlsys.launch.find import Launcher

PROGRAM = ["/env/bin/python", "-m", "mpimlsys", "train", "my job.toml"]
OPENMPI = Launcher(Path("/env/bin/mpirun"), "Open MPI", "5.0.11")
OPENMPI_4 = Launcher(Path("/env/bin/mpirun"), "Open MPI", "4.1.4")
SRUN = Launcher(Path("/usr/bin/srun"), "Open MPI", "5.0.11", is_srun=True)
MPICH = Launcher(Path("/env/bin/mpiexec"), "MPICH", "5.0.2")
INTEL = Launcher(Path("/opt/intel/bin/mpiexec"), "Intel MPI", "2021.18")
TUNED = "OMPI_MCA_btl='^ofi' OMPI_MCA_osc='^ucx'"
DAEMON = Path(command.__file__).parent / "daemon.sh"
AGENT = f"PRTE_MCA_prte_launch_agent='sh {DAEMON} prted'"
AGENT_4 = f"OMPI_MCA_orte_launch_agent='sh {DAEMON} orted'"
TRAIN = "/env/bin/python -m mpimlsys train 'my job.toml'"
HOSTS = Path("hosts.txt")


def shown(launcher, ranks, *, cores=8, hosts=None, allocation=None, root=False, environment=()):
    return str(
        build(
            launcher,
            PROGRAM,
            ranks=ranks,
            cores=cores,
            hosts=hosts,
            allocation=allocation,
            root=root,
            environment=dict(environment),
        )
    )


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: shown(OPENMPI, 8), f"{TUNED} /env/bin/mpirun -n 8 {TRAIN}"),
        (lambda: shown(OPENMPI, 5), f"{TUNED} /env/bin/mpirun -n 5 {TRAIN}"),
        (lambda: shown(OPENMPI, 9), f"{TUNED} /env/bin/mpirun -n 9 --oversubscribe {TRAIN}"),
        (lambda: shown(OPENMPI, 3), f"{TUNED} /env/bin/mpirun -n 3 --map-by slot:PE=2 {TRAIN}"),
        (lambda: shown(OPENMPI, 1), f"{TUNED} /env/bin/mpirun -n 1 --map-by slot:PE=8 {TRAIN}"),
        (
            lambda: shown(OPENMPI, 1, cores=0),
            f"{TUNED} /env/bin/mpirun -n 1 --oversubscribe {TRAIN}",
        ),
        (
            lambda: shown(OPENMPI, 32, hosts=HOSTS),
            f"{TUNED} /env/bin/mpirun -n 32 --hostfile hosts.txt --map-by slot "
            f"-x MPIMLSYS_OUTCOME {TRAIN}",
        ),
        (
            lambda: shown(OPENMPI, 8, root=True),
            f"{TUNED} OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
            f"/env/bin/mpirun -n 8 {TRAIN}",
        ),
        (
            lambda: shown(OPENMPI, 8, environment={"OMPI_MCA_btl": "tcp,self"}),
            f"OMPI_MCA_osc='^ucx' /env/bin/mpirun -n 8 {TRAIN}",
        ),
        (
            lambda: shown(OPENMPI, 8, allocation=Allocation(4, 1)),
            f"{TUNED} {AGENT} /env/bin/mpirun -n 8 -x MPIMLSYS_OUTCOME --map-by ppr:4:node {TRAIN}",
        ),
        (
            lambda: shown(OPENMPI, 8, allocation=Allocation(4, 2)),
            f"{TUNED} {AGENT} /env/bin/mpirun -n 8 -x MPIMLSYS_OUTCOME "
            f"--map-by ppr:4:node:PE=2 {TRAIN}",
        ),
        (
            lambda: shown(OPENMPI, 8, allocation=Allocation(None, None)),
            f"{TUNED} {AGENT} /env/bin/mpirun -n 8 -x MPIMLSYS_OUTCOME {TRAIN}",
        ),
        (
            lambda: shown(OPENMPI_4, 8, allocation=Allocation(None, None)),
            f"{TUNED} {AGENT_4} /env/bin/mpirun -n 8 -x MPIMLSYS_OUTCOME {TRAIN}",
        ),
        (
            lambda: shown(MPICH, 8, allocation=Allocation(4, 2)),
            f"/env/bin/mpiexec -n 8 -ppn 4 {TRAIN}",
        ),
        (
            lambda: shown(SRUN, 8, allocation=Allocation(4, None)),
            f"/usr/bin/srun -n 8 --mpi=pmix {TRAIN}",
        ),
        (
            lambda: shown(replace(SRUN, version="4.1.4"), 8, allocation=Allocation(4, 2)),
            f"SLURM_PMIX_FENCE=tree /usr/bin/srun -n 8 --mpi=pmix --cpus-per-task=2 {TRAIN}",
        ),
        (
            lambda: shown(replace(SRUN, vendor="MPICH"), 8, allocation=Allocation(4, None)),
            f"/usr/bin/srun -n 8 --mpi=pmi2 {TRAIN}",
        ),
        (lambda: shown(MPICH, 4), f"/env/bin/mpiexec -n 4 {TRAIN}"),
        (lambda: shown(MPICH, 99, root=True), f"/env/bin/mpiexec -n 99 {TRAIN}"),
        (
            lambda: shown(MPICH, 4, hosts=HOSTS),
            f"/env/bin/mpiexec -n 4 -machinefile hosts.txt {TRAIN}",
        ),
        (lambda: shown(INTEL, 2), f"/opt/intel/bin/mpiexec -n 2 {TRAIN}"),
    ],
)
def test_recorded_commands(call, expected):
    assert call() == expected


def test_what_is_shown_is_what_is_run():
    built = build(
        OPENMPI, PROGRAM, ranks=8, cores=8, hosts=None, root=False, environment={"PATH": "/bin"}
    )
    assert built == Command(
        ("/env/bin/mpirun", "-n", "8", *PROGRAM),
        {"OMPI_MCA_btl": "^ofi", "OMPI_MCA_osc": "^ucx"},
    )


@pytest.mark.parametrize("ranks", [0, -2])
def test_a_job_has_at_least_one_rank(ranks):
    with pytest.raises(ConfigError, match=f"-n {ranks}: start at least 1 rank"):
        shown(MPICH, ranks)
