"""Find the MPI compiler wrapper and ask it for its flags."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MpiCompiler:
    """What a compiler wrapper adds to a plain compiler.

    Attributes:
        wrapper: path of ``mpicxx`` or its like.
        flavour: ``"openmpi"`` or ``"mpich"`` (the handles of MPICH, Intel MPI, MVAPICH, Cray).
        include_dirs, library_dirs, libraries: for compiling and linking.
    """

    wrapper: str
    flavour: str
    include_dirs: list[str]
    library_dirs: list[str]
    libraries: list[str]


def find_wrapper() -> str | None:
    """``$MPICXX`` or ``$MPICC``, else ``mpicxx`` beside this Python, else on PATH."""
    for variable in ("MPICXX", "MPICC"):
        if chosen := os.environ.get(variable):
            found = shutil.which(chosen)
            if found is None:
                raise SystemExit(f"{variable}={chosen}: no such program.")
            return found
    beside = os.pathsep.join(str(Path(prefix) / "bin") for prefix in (sys.prefix, *_isolated()))
    for name in ("mpicxx", "mpic++", "mpicc"):
        if found := shutil.which(name, path=beside) or shutil.which(name):
            return found
    return None


def inspect(wrapper: str) -> MpiCompiler:
    """The flags of a wrapper; its run-path is left out, as it may be a folder of the build."""
    words = shlex.split(_show(wrapper))
    include_dirs = [word[2:] for word in words if word.startswith("-I")]
    library_dirs = [word[2:] for word in words if word.startswith("-L")]
    libraries = [word[2:] for word in words if word.startswith("-l")]
    for folder in include_dirs:
        header = Path(folder) / "mpi.h"
        if header.is_file():
            openmpi = "OMPI_MAJOR_VERSION" in header.read_text(errors="ignore")
            flavour = "openmpi" if openmpi else "mpich"
            return MpiCompiler(wrapper, flavour, include_dirs, library_dirs, libraries)
    flavour = "openmpi" if "open" in " ".join(libraries + include_dirs).lower() else "mpich"
    return MpiCompiler(wrapper, flavour, include_dirs, library_dirs, libraries)


def _isolated() -> list[str]:
    """Prefixes of a build environment: build tools put its site-packages on ``sys.path``."""
    found = []
    for entry in sys.path:
        path = Path(entry)
        if path.name == "site-packages":
            found.append(str(path.parents[2]))
    return found


def _show(wrapper: str) -> str:
    for option in ("--showme", "-show"):
        done = subprocess.run([wrapper, option], capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and ("-I" in done.stdout or "-l" in done.stdout):
            return done.stdout
    raise SystemExit(f"{wrapper} does not tell its flags (tried --showme and -show).")
