"""Compiling programs that run the algorithms of csrc/comm in the simulator; needs no MPI."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
TESTS = [
    *sorted((CSRC / "base").glob("*.cpp")),
    HERE / "sim_test.cpp",
    HERE.parent / "native" / "main.cpp",
]
STUDY = [HERE / "scaling.cpp", HERE / "modelled_reduce.cpp"]
_NOT_SIMULATED = (
    "mpi",
    "engine",
    "threads",
    "compress",
    "frames",
    "balanced",
)  # how names of files begin
_SIMULATED = [
    *(p for p in sorted((CSRC / "comm").glob("*.cpp")) if not p.name.startswith(_NOT_SIMULATED)),
    *(HERE / name for name in ("fiber.cpp", "network.cpp", "world.cpp")),
]
_FLAGS = ["-std=c++20", "-ffp-contract=off", f"-I{CSRC}", f"-I{HERE}", f"-I{HERE.parent}"]
_WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wno-unknown-pragmas", "-Werror"]
_TIMEOUT_S = 240


def build(
    programs: Mapping[str, Sequence[Path]], flags: Sequence[str], folder: Path
) -> dict[str, Path]:
    """Programs of these sources and the simulator, in ``folder``.

    Raises:
        RuntimeError: what the compiler says.
    """

    def compiled(source: Path) -> Path:
        target = folder / f"{source.parent.name}-{source.stem}.o"
        _call(["g++", *_FLAGS, *_WARNINGS, *flags, "-c", source, "-o", target])
        return target

    sources = {source for own in programs.values() for source in own} | set(_SIMULATED)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = dict(zip(sources, pool.map(compiled, sources), strict=True))
    for name, own in programs.items():
        linked = [objects[source] for source in (*_SIMULATED, *own)]
        _call(["g++", *flags, "-pthread", *linked, "-o", folder / name])
    return {name: folder / name for name in programs}


def _call(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
