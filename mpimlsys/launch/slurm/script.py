"""The sbatch script of a job. Pure.

Plain shell that an administrator can read. The batch shell gets SIGUSR1 before the end of time
and at pre-emption; ``mpimlsys launch`` hands it to the ranks, which finish the step, write a
checkpoint and end with status 138 (128 + SIGUSR1). A script that may be requeued then asks Slurm
to queue it again; ``--resume`` goes on where it stopped.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from mpimlsys.jobfile import SlurmSection

STOPPED = 138  # status of a run that SIGUSR1 has stopped


def render(
    slurm: SlurmSection, *, name: str, job: str, log: str, options: Sequence[str] = ()
) -> str:
    """The script.

    Args:
        slurm: of the job.
        name: of the job in the queue.
        job: path of the job file, as seen from the folder of submission.
        log: path of the log; Slurm fills in ``%j``.
        options: further ones of ``mpimlsys launch``.
    """
    train = shlex.join(["mpimlsys", "launch", job, "--resume", *options])
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(slurm, name, log)), ""]
    lines += ["# what this cluster needs before Python can run", *slurm.setup, ""]
    if slurm.requeue:
        lines += [
            f"{train} &",
            "ranks=$!",
            "trap 'kill -USR1 \"$ranks\"' USR1 TERM",
            "while :; do  # a signal ends wait, but not the ranks",
            '    wait "$ranks"',
            "    status=$?",
            '    kill -0 "$ranks" 2>/dev/null || break',
            "done",
            "",
            f'if [ "$status" -eq {STOPPED} ]; then',
            '    scontrol requeue "$SLURM_JOB_ID"',
            "fi",
            'exit "$status"',
        ]
    else:
        lines += [f"exec {train}"]
    return "\n".join(lines) + "\n"


def _options(slurm: SlurmSection, name: str, log: str) -> Iterator[str]:
    # sbatch takes quotes as a shell does
    yield f"--job-name={shlex.quote(name)}"
    if slurm.partition:
        yield f"--partition={shlex.quote(slurm.partition)}"
    if slurm.account:
        yield f"--account={shlex.quote(slurm.account)}"
    yield f"--nodes={slurm.nodes}"
    yield f"--ntasks-per-node={slurm.tasks_per_node}"
    yield f"--cpus-per-task={slurm.cpus_per_task}"
    if slurm.gpus_per_node:
        yield f"--gpus-per-node={slurm.gpus_per_node}"
    if slurm.memory:
        yield f"--mem={slurm.memory}"
    yield f"--time={slurm.time}"
    yield f"--signal=B:USR1@{slurm.grace_s}"
    yield "--requeue" if slurm.requeue else "--no-requeue"
    yield "--open-mode=append"
    yield f"--output={shlex.quote(log)}"
    yield from slurm.options
