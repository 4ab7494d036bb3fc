"""What gpu_check.py runs: its parts, their order, and the seconds that each may take.

Expected with 16 cores and an H200, of 460 s in all: build 90 to 150, laws 25, dense codecs 50,
sparse ones 30, all-reduce 35 twice, collectives 35; what is left, 100 to 160, is for the
sanitizers. A CUDA error ends the process that meets it, so every law has one of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAWS = str(ROOT / "benchmarks" / "gpu_laws.py")
COLLECTIVES = str(ROOT / "benchmarks" / "gpu_collectives.py")
# what needs the least comes first
LAW_NAMES = ("reductions", "norms", "streams", "frames", "unusual_numbers", "damaged_frames")
CODECS = {
    "dense": "fp16,bf16,fp8_e4m3,fp8_e5m2,int8,int8:stochastic,int4,int4:stochastic,int2,"
    "int2:stochastic,sign,ternary,natural",
    "sparse": "top_k:0.01,top_k:0.01:sampled,random_k:0.01",
}
RANKS = (2, 4)
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
# what setup.py, the checks and the benchmarks import, and an MPI to build for; PyTorch and CuPy
# are used where they are
FITS = """
import sys
sys.path.insert(0, "build_backend")
import mpi4py, mpi_compiler, numpy, pybind11, setuptools, threadpoolctl
mpi4py.rc.initialize = False
from mpi4py import MPI
sys.exit(not mpi_compiler.find_wrappers())
"""
LOADS = """
import mpi4py
mpi4py.rc.initialize = False
import mpimlsys._native_cuda
from mpimlsys import native
native.load()
"""


@dataclass(frozen=True)
class Part:
    """One process.

    Attributes:
        name: of the part; its files begin with it.
        command: what to run; empty when that is not there, for the reason ``missing``.
        limit_s: seconds until it is ended.
        additions: to the environment.
    """

    name: str
    command: Sequence[str]
    limit_s: float
    additions: tuple[tuple[str, str], ...] = ()
    missing: str = ""


def environment() -> dict[str, str]:
    """Of every part: what was built in place is found, and Open MPI starts without questions."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    root = {f"OMPI_ALLOW_RUN_AS_ROOT{end}": "1" for end in ("", "_CONFIRM")}
    # as scripts/configure_mpi.sh has it: no fabrics are looked for
    fabrics = {"OMPI_MCA_btl": "^ofi", "OMPI_MCA_osc": "^ucx"}
    return {**fabrics, **os.environ, **root, "PYTHONPATH": os.pathsep.join(paths)}


def holds(python: str, code: str) -> bool:
    """Whether an interpreter runs this without an error."""
    try:
        done = subprocess.run(
            [python, "-c", code],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def python() -> str:
    """The interpreter that is used: that of ``make install`` where it has all, else this one."""
    own = str(ROOT / ".venv" / "bin" / "python")
    return own if holds(own, FITS) else sys.executable


def is_built() -> bool:
    """Whether that interpreter can import the extensions, that for GPUs and the host's."""
    return holds(python(), LOADS)


def building() -> list[list[Part]]:
    """Builds in place where the interpreter has what that takes; else as ``make install`` does."""
    run = python()
    # warnings of compilers that we have not met end nothing
    quiet = {"CFLAGS": "-w", "CXXFLAGS": "-w", "NVCC_APPEND_FLAGS": "-w -Xcompiler=-w"}
    if holds(run, FITS):
        command = [run, "setup.py", "build_ext", "--inplace"]
    else:
        command = ["make", "install", f"PYTHON={sys.executable}"]
    additions = {**quiet, "MPIMLSYS_CUDA": "1"}
    return [[Part("build", command, 220, tuple(additions.items()))]]


def checking() -> list[list[Part]]:
    """What to run once the extensions are there: parts of one list run side by side."""
    run = python()
    package = [run, "-m", "mpimlsys"]
    bench = [*package, "bench"]
    beside = Path(run).with_name("mpirun")
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun") or ""

    def with_ranks(name: str, ranks: int, command: Sequence[str]) -> Part:
        start = [mpirun, "--oversubscribe", "-n", str(ranks), *command] if mpirun else []
        return Part(name, start, 75, missing="there is no mpirun")

    laws = [Part(f"law-{name}", [run, LAWS, "--law", name], 90) for name in LAW_NAMES]
    stages = [[Part("loads", [run, "-c", LOADS], 60)]]
    stages.append([*laws, Part("doctor", [*package, "doctor"], 60)])
    for kind, names in CODECS.items():
        command = [*bench, "codecs", "--device", "cuda", "--codecs", names, "--json"]
        stages.append([Part(f"codecs-{kind}", command, 100)])
    for ranks in RANKS:
        command = [*bench, "allreduce", "--device", "cuda", "--json"]
        stages.append([with_ranks(f"allreduce-{ranks}", ranks, command)])
    stages.append([with_ranks("collectives", 2, [run, COLLECTIVES])])
    stages.append([under(tool, run) for tool in TOOLS])
    return stages


def under(tool: str, run: str) -> Part:
    """The laws under a sanitizer."""
    program = shutil.which("compute-sanitizer") or shutil.which(
        "/usr/local/cuda/bin/compute-sanitizer"
    )
    start = [program, "--tool", tool, "--error-exitcode", "86"] if program else []
    command = [*start, run, LAWS, "--reduced"] if start else []
    return Part(tool, command, 150, missing="there is no compute-sanitizer")
