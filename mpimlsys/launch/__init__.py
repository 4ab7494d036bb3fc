"""Start a job with several ranks on this machine, or on listed hosts, as ``mpimlsys launch`` does.

============  ======================================================================
module        what it does
============  ======================================================================
``find``      which launcher belongs to the MPI that mpi4py uses (pure)
``command``   the launcher's arguments and environment (pure)
``detect``    looks at the machine for the two above
``local``     runs the command, passes signals on, leaves no process behind
============  ======================================================================
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mpimlsys import config
from mpimlsys.errors import ConfigError
from mpimlsys.launch import command, detect, local

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
    if hosts is not None and not hosts.is_file():
        raise ConfigError(f"--hosts {hosts}: no such file.")
    cores = detect.cores()
    allocation = None
    if environment.slurm_job_id is not None and hosts is None:
        allocation = command.Allocation(
            environment.slurm_tasks_per_node, environment.slurm_cpus_per_task
        )
        ranks = environment.slurm_tasks if ranks is None else ranks
    if ranks is None and hosts is not None:
        raise ConfigError("--hosts needs the number of ranks; add -n N.")
    launcher = detect.launcher()
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
        status = local.run(launch, outcome_folder=folder)
        if restart > max_restarts or not local.crashed(status):
            break
        print(f"mpimlsys launch: restart {restart} of {max_restarts}", file=sys.stderr, flush=True)
        program += [] if "--resume" in program else ["--resume"]
    return status
