"""The process environment: read here, and nowhere else in the package.

Guarantees: nothing is imported that starts MPI; ``environment()`` only reads; ``prepare_mpi()``
sets only variables that the user left unset.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_RANK = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
_SIZE = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
_LOCAL_RANK = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_LOCAL_SIZE = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
SLURM_END_TIME = "SLURM_JOB_END_TIME"
_BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Environment:
    """What the environment says about this process.

    Attributes:
        launcher: ``"mpirun"`` (Open MPI), ``"hydra"`` (MPICH, Intel MPI), ``"srun"`` or ``"none"``.
        rank_hint, size_hint, local_rank_hint, local_size_hint: as the launcher exports them;
            None when it does not. MPI itself decides; these serve before MPI is started.
        slurm_job_id, slurm_nodes, slurm_tasks: the allocation this process runs in, if any.
        slurm_tasks_per_node, slurm_cpus_per_task: as they were asked for, None where not.
        slurm_end_time: when the allocation ends, in seconds since 1970; None where it is not said.
        blas_threads: the user's own choice of BLAS threads, None when there is none.
        cuda_visible: ``CUDA_VISIBLE_DEVICES``.
        mpicc: the compiler wrapper that the user chose for building.
        outcome_file: where rank 0 writes the job's exit status for ``mpimlsys launch``.
        data_folder: a folder of data sets, ``MPIMLSYS_DATA``.
        cache_folder: for what is worth keeping between runs, ``XDG_CACHE_HOME`` or ``~/.cache``.
    """

    launcher: str
    rank_hint: int | None
    size_hint: int | None
    local_rank_hint: int | None
    local_size_hint: int | None
    slurm_job_id: str | None
    slurm_nodes: int | None
    slurm_tasks: int | None
    slurm_tasks_per_node: int | None
    slurm_cpus_per_task: int | None
    slurm_end_time: int | None
    blas_threads: int | None
    cuda_visible: str | None
    mpicc: str | None
    outcome_file: Path | None
    data_folder: Path | None
    cache_folder: Path


def environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read the environment.

    Args:
        variables: a mapping in place of ``os.environ`` (for tests).
    """
    env = os.environ if variables is None else variables
    outcome = env.get("MPIMLSYS_OUTCOME")
    data = env.get("MPIMLSYS_DATA")
    return Environment(
        launcher=_launcher(env),
        rank_hint=_first_int(env, _RANK),
        size_hint=_first_int(env, _SIZE),
        local_rank_hint=_first_int(env, _LOCAL_RANK),
        local_size_hint=_first_int(env, _LOCAL_SIZE),
        slurm_job_id=env.get("SLURM_JOB_ID"),
        slurm_nodes=_first_int(env, ("SLURM_JOB_NUM_NODES", "SLURM_NNODES")),
        slurm_tasks=_first_int(env, ("SLURM_NTASKS",)),
        slurm_tasks_per_node=_first_int(env, ("SLURM_NTASKS_PER_NODE",)),
        slurm_cpus_per_task=_first_int(env, ("SLURM_CPUS_PER_TASK",)),
        slurm_end_time=_first_int(env, (SLURM_END_TIME,)),
        blas_threads=_first_int(env, _BLAS_THREADS),
        cuda_visible=env.get("CUDA_VISIBLE_DEVICES"),
        mpicc=env.get("MPICXX") or env.get("MPICC"),
        outcome_file=Path(outcome) if outcome else None,
        data_folder=Path(data) if data else None,
        cache_folder=Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mpimlsys",
    )


def prepare_mpi() -> None:
    """Set Open MPI's start-up parameters that the user left open; call before MPI starts.

    A process without a launcher talks only to itself: with ``btl=self`` Open MPI starts in a
    fifth of the time and leaves no segment behind in ``/dev/shm``. Under a launcher the fabric
    probe of ``ofi`` is left out (1.2 s against 0.2 s) and ``osc/ucx``, which reports errors on
    shared windows. Other MPI libraries ignore these variables.
    """
    alone = environment().launcher == "none"
    os.environ.setdefault("OMPI_MCA_btl", "self" if alone else "^ofi")
    os.environ.setdefault("OMPI_MCA_osc", "^ucx")


def processor() -> str:
    """The name of this machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def usable_core_ids() -> frozenset[int]:
    """The cores this process may run on (affinity mask)."""
    return frozenset(os.sched_getaffinity(0))


def _launcher(env: Mapping[str, str]) -> str:
    if "OMPI_COMM_WORLD_SIZE" in env or "PRTE_LAUNCHED" in env:
        return "mpirun"
    if "SLURM_STEP_ID" in env and "SLURM_PROCID" in env and "HYDRA_BSTRAP_LOCALHOST" not in env:
        # the batch script itself carries SLURM_PROCID too, but runs in the step "batch"
        batch_script = env.get("SLURM_STEP_ID") in ("4294967291", "batch")
        return "none" if batch_script else "srun"
    if "PMI_RANK" in env or "PMIX_RANK" in env:
        return "hydra"
    return "none"


def _first_int(env: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = env.get(name, "").split(",")[0].strip()
        if value.isdigit():
            return int(value)
    return None
