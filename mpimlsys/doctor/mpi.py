"""Starts MPI and looks at it: the library, the extension, the other ranks.

Run as a program it prints its findings as JSON; so a single process asks in a child, which may
crash or hang without harm. Under a launcher every rank calls :func:`look` itself.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpimlsys import __version__, config, native
from mpimlsys.doctor import child
from mpimlsys.doctor.facts import Mpi, Place, Ranks
from mpimlsys.errors import ConfigError
from mpimlsys.launch import detect

_SMALL_ROUNDS = 500
_LARGE_ROUNDS = 9
_LARGE_BYTES = 4 << 20
_FIRST_MESSAGE_S = 20.0
_CLOCK_ROUNDS = 5
# what a library maps once it moves messages through shared memory
_EVIDENCE = {
    "/dev/shm/sm_segment.": "shared memory (Open MPI, sm)",
    "/dev/shm/vader_segment.": "shared memory (Open MPI, vader)",
    "/dev/shm/ucx_shm_": "shared memory (UCX)",
    "/dev/shm/mpich_shm_": "shared memory (MPICH)",
    "/dev/shm/Intel_MPI_": "shared memory (Intel MPI)",
}


def look() -> tuple[Mpi, Ranks]:
    """Start MPI and describe it. Collective over the world.

    Raises:
        ConfigError: MPI cannot be loaded.
    """
    config.prepare_mpi()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"mpi4py cannot load an MPI library ({reason})") from error
    vendor, version = MPI.get_vendor()
    levels = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")
    names = {getattr(MPI, f"THREAD_{level}"): level for level in levels}
    path = detect.mapped_library()
    extension, extension_error = _extension()
    mpi = Mpi(
        vendor=vendor,
        version=".".join(map(str, version)),
        standard=".".join(map(str, MPI.Get_version())),
        library=MPI.Get_library_version().strip(" \0\n").splitlines()[0],
        path=path,
        thread_level=names[MPI.Query_thread()],
        flavour=native.flavour_for(vendor, MPI._sizeof(MPI.COMM_WORLD)),
        built=tuple(native.built_flavours()),
        extension=extension,
        extension_error=extension_error,
        cuda_aware=_cuda_aware(path),
    )
    return mpi, _ranks(MPI, mpi)


def places(own: Place) -> tuple[Place, ...]:
    """Where all ranks run. Collective over the world, after :func:`look`; complete on rank 0.

    Args:
        own: where this rank runs.
    """
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    first = node.bcast(world.rank)
    node.Free()
    # MPI goes by host names; ranks that it puts together may still have a /dev/shm each
    own = dataclasses.replace(own, memory=f"{own.memory}:{first}")
    everyone = world.gather(own) or []
    return tuple(
        dataclasses.replace(place, clock_offset_s=round(offset, 6))
        for place, offset in zip(everyone, _clock_offsets(world), strict=True)
    )


def look_in_child(timeout_s: float = 60.0) -> tuple[Mpi, Ranks]:
    """:func:`look` in a process of its own.

    Raises:
        ConfigError: MPI cannot be loaded, crashed, or took longer than ``timeout_s`` seconds.
    """
    status, out, err = child.run(__name__, timeout_s)
    if status is None:
        raise ConfigError(f"MPI did not start within {timeout_s:g} s.")
    if status:
        said = [line for line in err.splitlines() if line.strip(" -")]
        reason = said[-1].strip() if said else "it said nothing"
        raise ConfigError(f"MPI does not start (exit status {status}): {reason}")
    found = json.loads(out.splitlines()[-1])
    if "error" in found:
        raise ConfigError(found["error"])
    return _revive(Mpi, found["mpi"]), _revive(Ranks, found["ranks"])


def abandon() -> None:
    """End all ranks; for when one of them waits for a message that will not come."""
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(1)


def compare(everyone: Sequence[Mapping[str, str]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """What is not equal on all ranks. Pure.

    Args:
        everyone: thing -> value, of every rank.

    Returns:
        thing -> value -> the ranks that have it, only for things with several values.
    """
    differences = {}
    for thing in everyone[0]:
        values: dict[str, tuple[int, ...]] = {}
        for rank, own in enumerate(everyone):
            values[own[thing]] = (*values.get(own[thing], ()), rank)
        if len(values) > 1:
            differences[thing] = values
    return differences


def _revive(cls: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _extension() -> tuple[str, str]:
    """What the extension was built with, or why it cannot be loaded."""
    try:
        built = native.load().build_info()
    except (ConfigError, ImportError) as error:
        return "", str(error)
    return f"{built['library']}, compiler {built['compiler']}", ""


def _cuda_aware(path: str) -> bool | None:
    """Ask the library itself; only Open MPI and MPICH have an answer."""
    if not path:
        return None
    library = ctypes.CDLL(path)
    if hasattr(library, "MPIX_Query_cuda_support"):
        return bool(library.MPIX_Query_cuda_support())
    if hasattr(library, "MPIX_GPU_query_support"):
        cuda, supported = 0, ctypes.c_int()  # MPIX_GPU_SUPPORT_CUDA in MPICH's mpi.h
        if library.MPIX_GPU_query_support(cuda, ctypes.byref(supported)) == 0:
            return bool(supported.value)
    return None


def _ranks(MPI: Any, mpi: Mpi) -> Ranks:
    world = MPI.COMM_WORLD
    cores = config.usable_core_ids()
    if world.size == 1:
        return Ranks(1, 1, len(cores), (MPI.Get_processor_name(),))
    hosts = tuple(world.allgather(MPI.Get_processor_name()))
    masks = world.allgather(cores)
    mates = [mask for host, mask in zip(hosts, masks, strict=True) if host == hosts[0]]
    everyone = world.allgather(
        {
            "mpimlsys": __version__,
            "Python": platform.python_version(),
            "MPI library": mpi.library,
            "extension": mpi.extension or mpi.extension_error,
        }
    )
    messages = _time_messages(MPI) if world.rank < 2 else {}
    return Ranks(
        size=world.size,
        per_node=len(mates),
        node_cores=len(frozenset().union(*mates)),
        hosts=hosts,
        differences=compare(everyone),
        transport=_transport() if hosts[0] == hosts[1] else "network",
        **messages,
    )


def _time_messages(MPI: Any) -> dict[str, Any]:
    """One message each way between ranks 0 and 1 with a deadline; then many, timed."""
    world = MPI.COMM_WORLD
    peer = 1 - world.rank
    token, answer = bytearray(8), bytearray(8)
    requests = [world.Isend(token, peer), world.Irecv(answer, peer)]
    end = time.monotonic() + _FIRST_MESSAGE_S
    while not MPI.Request.Testall(requests):
        if time.monotonic() > end:
            return {
                "message_error": "a message between ranks 0 and 1 was not delivered "
                f"within {_FIRST_MESSAGE_S:g} s"
            }
    small = _ping_pong(world, peer, token, _SMALL_ROUNDS)
    large = _ping_pong(world, peer, bytearray(_LARGE_BYTES), _LARGE_ROUNDS)
    return {
        "latency_us": round(small * 1e6, 2),
        "bandwidth_mb_s": round(_LARGE_BYTES / large / 1e6, 1),
        "large_bytes": _LARGE_BYTES,
    }


def _ping_pong(world: Any, peer: int, buffer: bytearray, rounds: int) -> float:
    """Median seconds of one way, after a warm-up of a tenth of the rounds."""
    times = []
    for _ in range(rounds + rounds // 10 + 1):
        before = time.perf_counter()
        if world.rank == 0:
            world.Send(buffer, peer)
            world.Recv(buffer, peer)
        else:
            world.Recv(buffer, peer)
            world.Send(buffer, peer)
        times.append((time.perf_counter() - before) / 2)
    return statistics.median(times[-rounds:])


def _clock_offsets(world: Any) -> list[float]:
    """Each rank's wall clock minus that of rank 0, in seconds; complete on rank 0 only."""
    offsets = [0.0] if world.rank == 0 else []
    for peer in range(1, world.size):
        rounds = []
        for _ in range(_CLOCK_ROUNDS):
            if world.rank == 0:
                before = time.time()
                theirs = world.sendrecv(None, peer, source=peer)
                after = time.time()
                rounds.append((after - before, theirs - (before + after) / 2))
            elif world.rank == peer:
                world.recv(source=0)
                world.send(time.time(), 0)
        if world.rank == 0:
            offsets.append(min(rounds)[1])  # the fastest round is the least uncertain
    return offsets


def _transport() -> str:
    maps = Path("/proc/self/maps").read_text()
    return next((name for mark, name in _EVIDENCE.items() if mark in maps), "")


def _main() -> None:
    try:
        mpi, ranks = look()
    except ConfigError as error:
        print(json.dumps({"error": str(error)}), flush=True)
    else:
        facts = {"mpi": dataclasses.asdict(mpi), "ranks": dataclasses.asdict(ranks)}
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    _main()
