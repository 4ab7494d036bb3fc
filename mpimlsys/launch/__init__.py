"""Start a job with several ranks on this machine, or on listed hosts, as ``mpimlsys launch`` does.

============  ======================================================================
module        what it does
============  ======================================================================
``find``      which launcher belongs to the MPI that mpi4py uses (pure)
``command``   the launcher's arguments and environment (pure)
``detect``    looks at the machine for the two above
``hosts``     reads and checks a host file
``local``     runs the command, passes signals on, leaves no process behind
============  ======================================================================
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mpimlsys import config
from mpimlsys.errors import ConfigError
from mpimlsys.launch import command, detect, local
from mpimlsys.launch import hosts as host_files
from mpimlsys.launch.slurm import queue

__all__ = ["run"]


def run(
    arguments: Sequence[str],
    *,
    ranks: int | None = None,
    hosts: Path | None = None,
    max_restarts: int = 0,
) -> int:
    """Run ``mpimlsys ARGUMENTS`` on ``ranks`` ranks and wait for it.

    Args:
        arguments: of the command line, such as ``["train", "job.toml"]``.
        ranks: how many; None for the tasks of the Slurm allocation that this process runs in, else
            one per core of this machine.
        hosts: a host file of the launcher; None for this machine alone.
        max_restarts: how often to start again, with ``--resume``, after a crash.

    Returns:
        The job's exit status, as :func:`local.run` says.

    Raises:
        ConfigError: no launcher fits, a number of ranks or a host file cannot be used, or this
            process is itself a rank.
    """
    environment = config.environment()
    inside = environment.launcher
    if inside != "none":
        raise ConfigError(
            f"this process was itself started by {inside}; under {inside} use "
            f"'mpimlsys {' '.join(arguments)}', without launch."
        )
    cores = detect.cores()
    allocation = None
    additions = {}
    if environment.slurm_job_id is not None and environment.slurm_end_time is None:
        additions = _end_time(environment.slurm_job_id)
    if environment.slurm_job_id is not None and hosts is None:
        allocation = command.Allocation(
            environment.slurm_tasks_per_node, environment.slurm_cpus_per_task
        )
        tasks = environment.slurm_tasks
        ranks = tasks if ranks is None else ranks
        if tasks is not None and ranks is not None and ranks > tasks:
            raise ConfigError(
                f"-n {ranks}: the Slurm allocation is for {tasks} tasks. Leave out -n, or ask for "
                "more (sbatch --ntasks-per-node, slurm.tasks_per_node)."
            )
    if hosts is not None:
        if ranks is None:
            raise ConfigError("--hosts needs the number of ranks; add -n N.")
        listed = host_files.read(hosts)
        host_files.check_room(listed, hosts, ranks)
        if unknown := host_files.without_address(listed):
            print(
                f"mpimlsys launch: {hosts}: this machine knows no host {' and no '.join(unknown)}. "
                "Correct the name, unless ssh has an alias for it.",
                file=sys.stderr,
            )
    launcher = detect.launcher(allocated=allocation is not None)
    # rank 0 may run on another host: then the folder must be one that the hosts share
    folder = Path.cwd() if hosts is not None or allocation is not None else None
    program = [sys.executable, "-m", "mpimlsys", *arguments]
    for restart in range(1, max_restarts + 2):
        launch = command.build(
            launcher,
            program,
            ranks=cores if ranks is None else ranks,
            cores=cores,
            hosts=hosts,
            allocation=allocation,
            root=os.geteuid() == 0,
            environment=local.child_environment({}),
        )
        status = local.run(launch, additions=additions, outcome_folder=folder)
        if restart > max_restarts or not local.crashed(status):
            break
        print(f"mpimlsys launch: restart {restart} of {max_restarts}", file=sys.stderr, flush=True)
        program += [] if "--resume" in program else ["--resume"]
    return status


def _end_time(job: str) -> dict[str, str]:
    """What newer versions of Slurm set by themselves, so that a run can stop before."""
    try:
        left_s = queue.time_left_s(job)
    except ConfigError:
        return {}  # a queue that does not answer must not keep the job from running
    return {} if left_s is None else {config.SLURM_END_TIME: str(int(time.time() + left_s))}
