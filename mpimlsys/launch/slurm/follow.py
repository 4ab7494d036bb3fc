"""``mpimlsys submit``, ``status``, ``logs`` and ``cancel``: jobs known by their run's folder.

``RUN/slurm/`` holds the job file and the script that were submitted, the job's number, and its
log.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from mpimlsys.errors import ConfigError
from mpimlsys.jobfile import ResolvedJob
from mpimlsys.launch.slurm import queue
from mpimlsys.launch.slurm.script import render
from mpimlsys.train.durable import cannot_write, replace_file

_POLL_S = 1.0


def submit(resolved: ResolvedJob, *, dry_run: bool, trace: Path | None = None) -> int | None:
    """Write a job's script and submit it from the current folder.

    Args:
        resolved: the job.
        dry_run: only print the script.
        trace: file of a timeline of all ranks.

    Returns:
        The job's number in the queue, None after a dry run.

    Raises:
        ConfigError: the folder cannot be written, there is no Slurm, or it refuses.
    """
    job = resolved.job
    folder = job.out / "slurm"
    script = render(
        job.slurm,
        name=job.job.name,
        job=str(folder / "job.toml"),
        log=str(folder / "%j.log"),
        options=["--trace", str(trace)] if trace else [],
    )
    if dry_run:
        print(script, end="")
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "job.toml", resolved.to_toml().encode())
        replace_file(folder / "job.sbatch", script.encode())
    except OSError as error:
        raise cannot_write(folder, error, "job.out") from error
    number = queue.sbatch(folder / "job.sbatch")
    replace_file(folder / "job.json", json.dumps({"job": number}).encode())
    print(f"submitted job {number}: {folder / 'job.sbatch'}")
    for command in ("status", "logs -f", "cancel"):
        print(f"  mpimlsys {command} {job.out}")
    return number


def status(run: Path, *, as_json: bool) -> queue.State:
    """Print what Slurm says about a run's job, and how far its training is.

    Raises:
        ConfigError: the run was not submitted, or there is no Slurm.
    """
    number = _number(run)
    state = queue.state_of(number)
    step = _last_step(run)
    if as_json:
        print(json.dumps({"job": number, **vars(state), "step": step}))
        return state
    details = [text for text in (state.nodes, state.elapsed, state.reason) if text]
    if state.exit_status is not None:
        details.append(f"exit status {state.exit_status}")
    print(f"job {number}: {state.state.lower()}" + "".join(f", {text}" for text in details))
    if step is not None:
        print(f"  step {step:,}; {run / 'metrics.jsonl'}")
    return state


def logs(run: Path, *, follow: bool) -> None:
    """Print the log of a run's job; with ``follow``, go on until the job has ended.

    Raises:
        ConfigError: the run was not submitted, or there is no log yet.
    """
    number = _number(run)
    path = run / "slurm" / f"{number}.log"
    seen = 0
    while True:
        ended = queue.state_of(number).exit_status is not None if follow else True
        if path.exists():
            text = path.read_bytes()[seen:]
            seen += len(text)
            sys.stdout.write(text.decode(errors="replace"))
            sys.stdout.flush()
        elif not follow:
            raise ConfigError(f"job {number} has written nothing yet; see: mpimlsys status {run}")
        if ended:
            return
        time.sleep(_POLL_S)


def cancel(run: Path) -> None:
    """Cancel a run's job.

    Raises:
        ConfigError: the run was not submitted, or Slurm refuses.
    """
    number = _number(run)
    queue.scancel(number)
    print(f"cancelled job {number}")


def _number(run: Path) -> int:
    path = run / "slurm" / "job.json"
    try:
        return int(json.loads(path.read_text())["job"])
    except FileNotFoundError as error:
        raise ConfigError(f"{run} was not submitted (no {path}); mpimlsys submit JOB") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {error}.") from error


def _last_step(run: Path) -> int | None:
    """The step of the last whole line of the metrics."""
    try:
        lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    except OSError:
        return None
    whole = [line for line in lines if line.endswith(b"\n")]
    return int(json.loads(whole[-1])["step"]) if whole else None
