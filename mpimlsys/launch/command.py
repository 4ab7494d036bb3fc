"""The launcher's command line and environment. Pure: nothing is run or read here.

===========  ==========================================================================
launcher     what is added to ``-n N PROGRAM``
===========  ==========================================================================
Open MPI     cores bound to ranks where each rank has its own, else ``--oversubscribe``;
             leave to run as root; ``btl=^ofi`` (start-up 0.2 s, not 1.2 s) and
             ``osc=^ucx`` (silences an error), unless the user set them; inside an
             allocation, daemons that do not die of the ranks' signals (``daemon.sh``)
hydra        nothing (MPICH and Intel MPI)
srun         the way of finding each other (PMI) that fits the MPI
===========  ==========================================================================
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpimlsys.errors import ConfigError
from mpimlsys.launch.find import Launcher

OUTCOME = "MPIMLSYS_OUTCOME"
_DAEMON = Path(__file__).with_name("daemon.sh")


@dataclass(frozen=True)
class Allocation:
    """What a scheduler has granted, as far as it matters to a launcher.

    Attributes:
        tasks_per_node, cpus_per_task: as they were asked for, None where not.
    """

    tasks_per_node: int | None
    cpus_per_task: int | None


@dataclass(frozen=True)
class Command:
    """What to run.

    Attributes:
        argv: program and arguments.
        additions: environment variables beyond those of this process.
    """

    argv: tuple[str, ...]
    additions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The command as one would type it into a shell."""
        assignments = [f"{name}={shlex.quote(value)}" for name, value in self.additions.items()]
        return " ".join([*assignments, shlex.join(self.argv)])


def build(
    launcher: Launcher,
    program: Sequence[str],
    *,
    ranks: int,
    cores: int,
    hosts: Path | None,
    allocation: Allocation | None = None,
    root: bool,
    environment: Mapping[str, str],
) -> Command:
    """The command that starts ``ranks`` ranks of ``program``.

    Args:
        launcher: of the MPI that the program uses.
        program: the program and its arguments.
        ranks: at least 1.
        cores: of this machine that ranks may be bound to; 0 to bind none.
        hosts: a host file in the launcher's own format; it then decides how many ranks a host
            takes.
        allocation: of a scheduler, which then decides where ranks go.
        root: whether the user is root.
        environment: the variables that are set; these are not overridden.

    Raises:
        ConfigError: ``ranks`` is not positive.
    """
    if ranks < 1:
        raise ConfigError(f"-n {ranks}: start at least 1 rank.")
    head = [str(launcher.path), "-n", str(ranks)]
    if launcher.family == "hydra":
        # Intel MPI takes the numbers of ranks from a "machinefile", but not from a "hostfile" (-f)
        place = ["-machinefile", str(hosts)] if hosts is not None else []
        if allocation is not None and allocation.tasks_per_node:
            place += ["-ppn", str(allocation.tasks_per_node)]
        return Command((*head, *place, *program))
    if launcher.family == "srun":
        return _srun(launcher, head, program, allocation)
    wanted = {"OMPI_MCA_btl": "^ofi", "OMPI_MCA_osc": "^ucx"}
    if root:
        wanted |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if allocation is not None:
        if launcher.version.startswith("4."):
            wanted["OMPI_MCA_orte_launch_agent"] = f"sh {_DAEMON} orted"
        else:
            wanted["PRTE_MCA_prte_launch_agent"] = f"sh {_DAEMON} prted"
    additions = {name: value for name, value in wanted.items() if name not in environment}
    if allocation is not None:
        place = _openmpi_in(allocation)
    else:
        place = _openmpi_placement(ranks, cores, hosts)
    return Command((*head, *place, *program), additions)


def _srun(
    launcher: Launcher, head: list[str], program: Sequence[str], allocation: Allocation | None
) -> Command:
    openmpi = launcher.vendor == "Open MPI"
    place = ["--mpi=pmix" if openmpi else "--mpi=pmi2"]
    if allocation is not None and allocation.cpus_per_task:
        place += [f"--cpus-per-task={allocation.cpus_per_task}"]  # not passed on since Slurm 22.05
    # Open MPI 4 hangs or aborts with Slurm's default way to exchange addresses, 5 with this one
    fence = {"SLURM_PMIX_FENCE": "tree"} if openmpi and launcher.version.startswith("4.") else {}
    return Command((*head, *place, *program), fence)


def _openmpi_in(allocation: Allocation) -> list[str]:
    # Open MPI hands only its own variables to other hosts
    place = ["-x", OUTCOME]
    if allocation.tasks_per_node:
        # mpirun would fill the first node before it uses the second
        cores = f":PE={allocation.cpus_per_task}" if (allocation.cpus_per_task or 1) > 1 else ""
        place += ["--map-by", f"ppr:{allocation.tasks_per_node}:node{cores}"]
    return place


def _openmpi_placement(ranks: int, cores: int, hosts: Path | None) -> list[str]:
    if hosts is not None:
        # said, because a default with ":oversubscribe" would start all ranks on the first host
        return ["--hostfile", str(hosts), "--map-by", "slot", "-x", OUTCOME]
    if ranks > cores:
        return ["--oversubscribe"]
    if ranks * 2 <= cores:
        # by default a rank is bound to one core, whatever lies idle beside it
        return ["--map-by", f"slot:PE={cores // ranks}"]
    return []
