"""What it means where the ranks run: cores, memory, GPUs, clocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpimlsys.doctor.facts import Facts, Place
from mpimlsys.doctor.finding import Finding, count
from mpimlsys.doctor.ranges import compact, expand

_CLOCK_S = 5.0  # file systems and schedulers put up with less than that
_SHOWN = 3  # of many alike
_BIND = {
    "mpirun": "mpirun --bind-to core --map-by slot:PE={cores}",
    "hydra": "mpiexec -bind-to core:{cores} (Intel MPI: I_MPI_PIN_DOMAIN={cores})",
    "srun": "srun --cpus-per-task={cores} --cpu-bind=cores",
}


def cores(facts: Facts) -> list[Finding]:
    """Whether the node of rank 0 has a core for each of its ranks."""
    cores, what = _time_of_cores(facts)
    per_node = facts.ranks.per_node
    first = next(iter(_by_host(facts.places).values()), {})
    if per_node <= max(cores, 1) or _crowds(first):  # of those binding() speaks
        return [Finding("cores", "ok", what)]
    return [
        Finding(
            "cores",
            "warning",
            f"{what}: ranks share cores and wait for each other",
            f"start at most {count(max(1, int(cores)), 'rank')} on this node",
        )
    ]


def blas(facts: Facts) -> list[Finding]:
    """Whether the user's own number of BLAS threads fits the cores."""
    threads, per_node = facts.machine.blas_threads, facts.ranks.per_node
    cores, _ = _time_of_cores(facts)
    if threads is None:
        libraries = "; ".join(facts.software.blas) or "none found"
        return [Finding("BLAS", "ok", f"{libraries}; training divides the cores by the ranks")]
    if threads * per_node <= max(cores, 1):
        return [Finding("BLAS", "ok", f"{count(threads, 'thread')}, set by the user")]
    return [
        Finding(
            "BLAS",
            "warning",
            f"{threads} threads (OMP_NUM_THREADS or alike) times {per_node} ranks are more "
            f"than {cores:g} cores",
            f"export OMP_NUM_THREADS={max(1, int(cores) // per_node)}, or unset it",
        )
    ]


def binding(facts: Facts) -> list[Finding]:
    """Whether ranks are bound to the same cores while others lie idle."""
    troubles, granted = [], 1
    for host, places in _by_host(facts.places).items():
        for mask, ranks in _crowds(places).items():
            troubles.append(
                f"ranks {compact(ranks)} of {host} are bound to the same cores ({mask})"
            )
            granted = len(_allowed(places.values())) // len(places)
    if not troubles:
        return []
    command = _BIND[facts.start.inside].format(cores=granted)
    return [
        Finding(
            "binding",
            "warning",
            f"{_some(troubles)}, though the node has cores for all of them",
            f"let the launcher give each rank cores of its own: {command}",
        )
    ]


def memory(facts: Facts) -> list[Finding]:
    """Whether the ranks of a host share its memory."""
    troubles = []
    for host, places in _by_host(facts.places).items():
        groups: dict[str, list[int]] = {}
        for rank, place in places.items():
            groups.setdefault(place.memory, []).append(rank)
        if len(groups) > 1:
            apart = " and ".join(compact(ranks) for ranks in groups.values())
            troubles.append(f"ranks {apart} of {host}")
    if not troubles:
        return []
    return [
        Finding(
            "one memory",
            "warning",
            f"one host, but separate shared memory: {_some(troubles)}; what they share inside a "
            "node fails or takes the network",
            "run the ranks of a node in one container, or let its containers share /dev/shm "
            "(docker run --ipc=host, apptainer without --contain); if these are several "
            "machines, give each a host name of its own",
        )
    ]


def gpus(facts: Facts) -> list[Finding]:
    """Whether two ranks would use one GPU."""
    users: dict[str, list[int]] = {}
    for rank, gpu in enumerate(gpu_of_each(facts.places)):
        if gpu:
            users.setdefault(gpu, []).append(rank)
    troubles = [
        f"ranks {compact(ranks)} ({facts.places[ranks[0]].host}) would use {gpu}"
        for gpu, ranks in users.items()
        if len(ranks) > 1
    ]
    if not troubles:
        return []
    return [
        Finding(
            "GPU per rank",
            "warning",
            f"ranks share a GPU: {_some(troubles)}",
            "give each rank its own: srun --gpus-per-task=1; with mpirun, as many ranks on a "
            "node as it has GPUs. Nothing to mend when the model runs on the CPU",
        )
    ]


def clocks(facts: Facts) -> list[Finding]:
    """Whether the wall clocks of the hosts agree; training runs, but what reads times suffers."""
    firsts = [next(iter(places.values())) for places in _by_host(facts.places).values()]
    if len(firsts) < 2:
        return []
    wrong = [
        f"{place.host} is {_duration(place.clock_offset_s)}"
        for place in firsts
        if abs(place.clock_offset_s) > _CLOCK_S
    ]
    if not wrong:
        largest = max(abs(place.clock_offset_s) for place in firsts)
        return [Finding("clocks", "ok", f"within {largest:.3f} s of {firsts[0].host}")]
    return [
        Finding(
            "clocks",
            "warning",
            f"they differ from {firsts[0].host}: {_some(wrong)}; times in logs and of files are "
            "wrong, and Slurm refuses hosts that are minutes off",
            "synchronise the hosts with chrony or another NTP service; on each: chronyc tracking",
        )
    ]


def gpu_of_each(places: Sequence[Place]) -> list[str]:
    """The GPU that each rank would use, by custom that of its number on the host; empty: none."""
    chosen = [""] * len(places)
    for members in _by_host(places).values():
        for local_rank, (rank, place) in enumerate(members.items()):
            if place.gpus:
                chosen[rank] = place.gpus[local_rank % len(place.gpus)]
    return chosen


def _by_host(places: Sequence[Place]) -> dict[str, dict[int, Place]]:
    """host -> rank -> place; the host of rank 0 comes first."""
    found: dict[str, dict[int, Place]] = {}
    for rank, place in enumerate(places):
        found.setdefault(place.host, {})[rank] = place
    return found


def _crowds(places: dict[int, Place]) -> dict[str, list[int]]:
    """Masks with more ranks than cores -> those ranks, where the host has cores for all."""
    if len(_allowed(places.values())) < len(places):
        return {}
    masks: dict[str, list[int]] = {}
    for rank, place in places.items():
        masks.setdefault(place.cores, []).append(rank)
    return {mask: ranks for mask, ranks in masks.items() if len(ranks) > len(expand(mask))}


def _allowed(places: Iterable[Place]) -> frozenset[int]:
    return frozenset().union(*(expand(place.allowed_cores) for place in places))


def _time_of_cores(facts: Facts) -> tuple[float, str]:
    """Cores whose time the ranks of rank 0's node have, and these in words."""
    machine, ranks = facts.machine, facts.ranks
    cores = float(ranks.node_cores)
    what = f"{count(ranks.node_cores, 'core')} on {machine.host}"
    if machine.quota_cores is not None and machine.quota_cores < cores:
        cores = machine.quota_cores
        what += f", of which the container may use the time of {cores:g}"
    return cores, f"{what}, {count(ranks.per_node, 'rank')} on this node"


def _duration(offset_s: float) -> str:
    minutes, seconds = divmod(round(abs(offset_s)), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    text = " ".join(f"{number} {unit}" for number, unit in parts if number)
    return f"{text} {'ahead' if offset_s > 0 else 'behind'}"


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more
