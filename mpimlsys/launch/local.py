"""Runs a launcher's command and answers for it: signals, exit status, nothing left behind.

Guarantees:

* Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 (those that are not ignored) reach the ranks as SIGUSR1, which
  they take as "finish the step, write a checkpoint, end". Not as SIGINT or SIGTERM: Open MPI's
  launcher answers those by killing the ranks within a quarter of a second, and only SIGUSR1 is
  passed on by Open MPI and hydra alike. The launcher gets its own session, so that the terminal's
  Ctrl-C does not reach it.
* A second Ctrl-C, or ``grace_s`` after the first signal, kills the job.
* The exit status is what rank 0 reported, not what the launcher made of it.
* No process of the job outlives it. They are recognised by the value of ``MPIMLSYS_OUTCOME``, as
  ranks leave the launcher's process group and session, and with Open MPI survive its death.
* Nor does a shared-memory file of its MPI: MPICH and Open MPI 4 leave some when ranks
  are killed.

Refusals: processes on other hosts are the launcher's to end; if this process is itself killed by
SIGKILL the job goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from mpimlsys.launch.command import OUTCOME, Command

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_TO_THE_RANKS = signal.SIGUSR1
_STOPPING = (
    b"\nmpimlsys launch: stopping after this step, with a checkpoint; "
    b"press Ctrl-C again to stop at once.\n"
)
_SHARED_MEMORY = Path("/dev/shm")
_SEGMENTS = ("sm_segment.", "vader_segment.", "mpich_shm_", "Intel_MPI_")
_CLEAN_UP_S = 3.0  # the launcher's own time to end its ranks and remove its files


def child_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and ``additions``, for a child process."""
    return {**os.environ, **additions}


def run(
    command: Command,
    *,
    additions: Mapping[str, str] | None = None,
    grace_s: float = 30.0,
    outcome_folder: Path | None = None,
) -> int:
    """Print and run ``command``, wait for its end. From the main thread only.

    Args:
        command: of the launcher.
        additions: further environment variables, for rank 0.
        grace_s: seconds between the first request to stop and killing the job.
        outcome_folder: where rank 0 can write its report; None for the system's temporary folder.

    Returns:
        The exit status, by :func:`verdict`.
    """
    print(f"$ {command}", flush=True)
    with tempfile.TemporaryDirectory(prefix=".mpimlsys-", dir=outcome_folder) as folder:
        outcome = Path(folder) / "outcome.json"
        before = segments()
        job = _Job(command, outcome, grace_s, additions or {})
        try:
            launcher_status = job.wait()
        finally:
            kill_marked(OUTCOME, str(outcome))
            remove_unused(segments() - before)
        status, remark = verdict(_read(outcome), launcher_status, job.stop_signal, job.killed)
    if remark:
        print(f"mpimlsys launch: {remark}", file=sys.stderr, flush=True)
    return status


def verdict(
    reported: int | None, launcher_status: int, stop_signal: int, killed: bool
) -> tuple[int, str]:
    """The exit status of a job and what to say about it. Pure.

    Args:
        reported: by rank 0, None when it could not.
        launcher_status: of the launcher, as ``subprocess`` returns it (negative for a signal).
        stop_signal: that asked this process to stop, 0 for none.
        killed: whether the job had to be killed.
    """
    if stop_signal and reported == 128 + _TO_THE_RANKS:
        return 128 + stop_signal, ""  # the ranks only saw SIGUSR1; report the user's signal
    if reported is not None:
        return reported, ""
    if killed:
        return 128 + stop_signal, "the job was killed before it could stop by itself."
    if stop_signal:
        return 128 + stop_signal, "the job ended before rank 0 could report a clean stop."
    status = 128 - launcher_status if launcher_status < 0 else launcher_status
    how = f"exit status {status}"
    if status - 128 in set(signal.Signals):
        how = signal.Signals(status - 128).name
    return status or 1, f"the job was lost: it ended ({how}) before rank 0 could report."


def crashed(status: int) -> bool:
    """Whether starting again may help: not after success, a mistake of the user, or a stop."""
    return status not in (0, 2, *(128 + number for number in _STOP_SIGNALS))


def kill_marked(variable: str, value: str) -> None:
    """Kill every process of this machine that was started with ``variable=value``.

    The shared-memory files of MPI that they leave in ``/dev/shm`` are removed.
    """
    wanted = f"{variable}={value}".encode()
    left: set[Path] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                left |= _mapped((entry / "maps").read_text())
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is not ours
    for segment in left:
        segment.unlink(missing_ok=True)


def segments() -> set[Path]:
    """This user's files of MPI libraries in ``/dev/shm``."""
    own: set[Path] = set()
    for path in _SHARED_MEMORY.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # another job's, which has just ended
            if path.name.startswith(_SEGMENTS) and path.stat().st_uid == os.geteuid():
                own.add(path)
    return own


def remove_unused(files: set[Path]) -> None:
    """Remove those of ``files`` that no process of this machine has mapped."""
    used: set[Path] = set()
    for maps in Path("/proc").glob("[0-9]*/maps") if files else ():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            used |= _mapped(maps.read_text())
    for file in files - used:
        file.unlink(missing_ok=True)


def _mapped(maps: str) -> set[Path]:
    """The files of MPI libraries in ``/dev/shm`` among the lines of ``/proc/PID/maps``."""
    mapped = {Path(line.split()[-1]) for line in maps.splitlines() if f" {_SHARED_MEMORY}/" in line}
    return {path for path in mapped if path.name.startswith(_SEGMENTS)}


def _read(outcome: Path) -> int | None:
    """The status that rank 0 reported; None when there is no report or only part of one."""
    try:
        return int(json.loads(outcome.read_text())["status"])
    except (FileNotFoundError, json.JSONDecodeError):
        return None


class _Job:
    """A running launcher, and the signals that this process receives meanwhile."""

    def __init__(
        self, command: Command, outcome: Path, grace_s: float, additions: Mapping[str, str]
    ) -> None:
        self.stop_signal = 0
        self.killed = False
        self._mark = str(outcome)
        self._grace_s = grace_s
        self._deadline = float("inf")
        self._process: subprocess.Popen[bytes] | None = None
        # what is ignored stays ignored: SIGHUP under nohup
        heard = [one for one in _STOP_SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
        self._previous = {number: signal.signal(number, self._stop) for number in heard}
        self._process = subprocess.Popen(
            command.argv,
            env=child_environment({**command.additions, **additions, OUTCOME: self._mark}),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        if self.stop_signal:
            self._process.send_signal(_TO_THE_RANKS)

    def wait(self) -> int:
        assert self._process is not None
        try:
            while True:
                try:
                    return self._process.wait(timeout=0.25)
                except subprocess.TimeoutExpired:
                    if time.monotonic() > self._deadline:
                        self._kill()
        finally:
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.stop_signal:
            if number == signal.SIGINT:
                self._kill()
            return
        self.stop_signal = number
        self._deadline = time.monotonic() + self._grace_s
        if self._process is not None:
            self._process.send_signal(_TO_THE_RANKS)
        with contextlib.suppress(OSError):  # after SIGHUP there is no terminal
            os.write(2, _STOPPING)

    def _kill(self) -> None:
        """The launcher is asked to end the ranks; what then remains is killed."""
        if self.killed:
            kill_marked(OUTCOME, self._mark)
            return
        self.killed = True
        self._deadline = time.monotonic() + _CLEAN_UP_S
        if self._process is not None:
            self._process.terminate()
