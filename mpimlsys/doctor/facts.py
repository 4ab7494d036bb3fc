"""What the doctor looks at. Every field is a plain value, so that ``--json`` prints it as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Software:
    """Versions; empty strings for packages that are not installed.

    Attributes:
        blas: one text per BLAS or OpenMP library that NumPy loaded.
        mpi_wheels: the MPI libraries that were installed by pip into this environment.
    """

    mpimlsys: str
    python: str
    executable: str
    numpy: str
    numba: str
    mpi4py: str
    blas: tuple[str, ...] = ()
    mpi_wheels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """This node, as this process may use it.

    Attributes:
        cores: logical cores that this process may use (affinity mask).
        quota_cores: cores that the control group grants, None without a limit.
        blas_threads: the user's own choice of BLAS threads, None without one.
        shm_free_bytes: free space of ``/dev/shm``, None when it cannot be written.
        disk_free_bytes: free space of the current folder, None when it cannot be written.
        gpus: one text per GPU; ``gpu_error`` says why they could not be counted.
        gpu_ids: UUIDs of those that this process may use (``CUDA_VISIBLE_DEVICES``).
    """

    host: str
    cores: int
    quota_cores: float | None
    blas_threads: int | None
    shm_free_bytes: int | None
    folder: str
    disk_free_bytes: int | None
    root: bool
    container: bool
    gpus: tuple[str, ...] = ()
    gpu_ids: tuple[str, ...] = ()
    gpu_error: str = ""


@dataclass(frozen=True)
class Start:
    """How ranks are started here.

    Attributes:
        inside: the launcher this process was started by: ``mpirun``, ``hydra``, ``srun``, ``none``.
        size_hint: how many ranks that launcher says there are.
        launcher: the launcher that ``mpimlsys launch`` would use, empty when there is none.
        launcher_error: why there is none.
        slurm_commands: those on PATH.
    """

    inside: str
    size_hint: int | None
    launcher: str
    launcher_error: str
    slurm_commands: tuple[str, ...] = ()
    slurm_job_id: str | None = None
    slurm_nodes: int | None = None
    slurm_tasks: int | None = None


@dataclass(frozen=True)
class Mpi:
    """The MPI library, seen from one rank after MPI has started.

    Attributes:
        library: first line of its own description.
        path: the file that is loaded, empty when unknown.
        standard: of the MPI standard, such as ``"3.1"``.
        thread_level: ``SINGLE``, ``FUNNELED``, ``SERIALIZED`` or ``MULTIPLE``.
        flavour: the flavour of the extension that this library needs.
        built: the flavours that exist.
        extension: the MPI that the extension was compiled with, and the compiler.
        extension_error: why the extension cannot be used; empty when it can.
        cuda_aware: whether device memory may be passed to MPI; None when it does not say.
    """

    vendor: str
    version: str
    standard: str
    library: str
    path: str
    thread_level: str
    flavour: str
    built: tuple[str, ...]
    extension: str
    extension_error: str
    cuda_aware: bool | None


@dataclass(frozen=True)
class Ranks:
    """What the ranks found together.

    Attributes:
        size: number of ranks.
        per_node: ranks on the node of rank 0.
        node_cores: logical cores that those ranks may use together.
        hosts: the host of every rank.
        differences: what is not equal on all ranks: thing -> value -> ranks.
        latency_us: median one-way time of 8 bytes between ranks 0 and 1, in microseconds.
        bandwidth_mb_s: one way, of ``large_bytes``, in 1e6 bytes per second.
        transport: evidence of how the messages went, empty when there is none.
        message_error: why no message was timed.
    """

    size: int
    per_node: int
    node_cores: int
    hosts: tuple[str, ...]
    differences: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    latency_us: float | None = None
    bandwidth_mb_s: float | None = None
    large_bytes: int = 0
    transport: str = ""
    message_error: str = ""


@dataclass(frozen=True)
class Place:
    """Where one rank runs. Sets of numbers are texts such as ``0-3,8``.

    Attributes:
        cores: logical cores that it may use (affinity mask).
        allowed_cores: those that it could be bound to.
        numa: NUMA nodes of ``cores``, empty when the kernel does not say.
        gpus: UUIDs of the GPUs that it may use.
        memory: equal on the ranks that share memory.
        clock_offset_s: its wall clock minus that of rank 0.
    """

    host: str
    cores: str
    allowed_cores: str
    numa: str
    gpus: tuple[str, ...]
    memory: str
    clock_offset_s: float = 0.0


@dataclass(frozen=True)
class Device:
    """A GPU, as CUDA counts those that this process may see.

    Attributes:
        compute_capability: such as (9, 0).
        peers: numbers of those whose memory it can read.
    """

    number: int
    name: str
    memory_bytes: int
    compute_capability: tuple[int, ...]
    peers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cuda:
    """What the extension for GPUs found; empty texts for what is not there.

    Attributes:
        targets: what its kernels were built with and for; empty where it was not built.
        error: why no GPU can be used.
        driver: the newest CUDA that the driver supports, such as ``"13.0"``.
        runtime: the CUDA of the extension.
        cupy: its version.
        mpi_failure: how an all-reduce of a GPU's memory failed; empty when it was right, None when
            it was not tried.
    """

    targets: str = ""
    error: str = ""
    driver: str = ""
    runtime: str = ""
    devices: tuple[Device, ...] = ()
    cupy: str = ""
    mpi_failure: str | None = None


@dataclass(frozen=True)
class Facts:
    """All of it.

    Attributes:
        mpi: None when MPI cannot be used, for the reason ``mpi_error``.
        places: of every rank; empty for a process that no launcher started.
    """

    software: Software
    machine: Machine
    start: Start
    mpi: Mpi | None
    mpi_error: str
    ranks: Ranks
    places: tuple[Place, ...] = ()
    cuda: Cuda = Cuda()
