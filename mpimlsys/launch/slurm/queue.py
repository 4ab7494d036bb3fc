"""Slurm's commands, with deadlines and with errors that say what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpimlsys.errors import ConfigError

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class State:
    """What Slurm says about a job.

    Attributes:
        state: such as ``PENDING``, ``RUNNING``, ``COMPLETED``; ``UNKNOWN`` when Slurm has
            forgotten it.
        reason: why it waits or ended, empty when there is nothing to say.
        nodes: where it runs.
        elapsed: time that it has run, ``[days-]hours:minutes:seconds``.
        exit_status: of the batch script, None while it runs.
    """

    state: str
    reason: str = ""
    nodes: str = ""
    elapsed: str = ""
    exit_status: int | None = None


def sbatch(script: Path) -> int:
    """Submit a script from the current folder; returns the job's number.

    Raises:
        ConfigError: there is no Slurm, or it refuses; gives its reason.
    """
    try:
        output = _run(["sbatch", "--parsable", str(script)], f"Slurm refuses {script}")
    except ConfigError as error:
        if "partition" not in str(error):
            raise
        raise ConfigError(f"{error} {_partitions()}") from error
    return int(output.partition(";")[0])


def state_of(job: int) -> State:
    """What Slurm says about a job.

    Raises:
        ConfigError: there is no Slurm, or it does not answer.
    """
    try:
        text = _run(["scontrol", "--oneliner", "show", "job", str(job)], f"no state of job {job}")
    except ConfigError as error:
        if "Invalid job id" in str(error):
            return State("UNKNOWN", "Slurm has forgotten it")
        raise
    return parse(text)


def parse(text: str) -> State:
    """Read what ``scontrol --oneliner show job`` prints."""
    fields = dict(re.findall(r"(\w+)=(\S*)", text))

    def field(name: str) -> str:
        value = fields.get(name, "")
        return "" if value in ("None", "(null)", "N/A") else value

    state = field("JobState") or "UNKNOWN"
    ended = state not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED")
    code, _, number = field("ExitCode").partition(":")
    status = int(code or 0) + (128 + int(number) if number not in ("", "0") else 0)
    return State(
        state, field("Reason"), field("NodeList"), field("RunTime"), status if ended else None
    )


def time_left_s(job: str) -> float | None:
    """Seconds until a job's time is over, None when it is not limited.

    Raises:
        ConfigError: there is no Slurm, or it does not answer.
    """
    return parse_time(_run(["squeue", "--noheader", f"--jobs={job}", "--format=%L"], "no time"))


def parse_time(text: str) -> float | None:
    """Seconds of ``[days-][[hours:]minutes:]seconds``, None for anything else.

    Example:
        >>> parse_time("1-00:01:05"), parse_time("UNLIMITED")
        (86465.0, None)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def scancel(job: int) -> None:
    """End a job: first a SIGUSR1 to its script would stop it cleanly; this does not wait.

    Raises:
        ConfigError: there is no Slurm, or it refuses.
    """
    _run(["scancel", str(job)], f"job {job} cannot be cancelled")


def _partitions() -> str:
    """What to do about a partition that does not exist."""
    remedy = "Choose one that sinfo lists: slurm.partition, or --partition."
    try:
        names = _run(["sinfo", "--noheader", "--format=%R"], "no list").split()
    except ConfigError:
        return remedy
    return f"This cluster has: {', '.join(sorted(set(names)))}. {remedy}"


def _run(command: Sequence[str], what: str) -> str:
    if shutil.which(command[0]) is None:
        raise ConfigError(
            f"there is no {command[0]} here; submit from a login node of the cluster, or print the "
            "script: mpimlsys submit JOB --dry-run"
        )
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{what}: {command[0]} gave no answer for {_TIMEOUT_S:g} s.") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        # what follows is advice on Slurm's own command line
        reason = next((line for line in lines if line.startswith(f"{command[0]}: ")), lines[-1])
        raise ConfigError(f"{what}: {reason.strip('.')}.")
    return done.stdout.strip()
