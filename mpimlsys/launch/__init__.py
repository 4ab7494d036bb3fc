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


def run(arguments: Sequence[str], *, ranks: int | None = None, hosts: Path | None = None) -> int:
    """Run ``mpimlsys ARGUMENTS`` on ``ranks`` ranks and wait for it.

    Args:
        arguments: of the command line, such as ``["train", "job.toml"]``.
        ranks: how many; None for the tasks of the Slurm allocation that this process runs in, else
            one per core of this machine.
        hosts: a host file of the launcher; None for this machine alone.

    Returns:
        The job's exit status, as :func:`local.run` says.

    Raises:
        ConfigError: no launcher fits, a number of ranks or a host file cannot be used, or this
            process is itself a rank.
    """
    environment = config.environment()
    inside, allocated = environment.launcher, environment.slurm_job_id is not None
    if inside != "none":
        raise ConfigError(
            f"this process was itself started by {inside}; under {inside} use "
            f"'mpimlsys {' '.join(arguments)}', without launch."
        )
    if hosts is not None and not hosts.is_file():
        raise ConfigError(f"--hosts {hosts}: no such file.")
    cores = detect.cores()
    if ranks is None and allocated:
        ranks = environment.slurm_tasks
    if ranks is None and hosts is not None:
        raise ConfigError("--hosts needs the number of ranks; add -n N.")
    launch = command.build(
        detect.launcher(),
        [sys.executable, "-m", "mpimlsys", *arguments],
        ranks=cores if ranks is None else ranks,
        cores=cores,
        hosts=hosts,
        allocated=allocated and hosts is None,
        root=os.geteuid() == 0,
        environment=local.child_environment({}),
    )
    # rank 0 may run on another host: then the folder must be one that the hosts share
    folder = Path.cwd() if hosts is not None or allocated else None
    return local.run(launch, outcome_folder=folder)
