"""Find MPI compiler wrappers and ask them for their flags."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CXX_BINDINGS = {"mpi_cxx", "mpicxx", "mpichcxx", "mpigc4"}  # removed from MPI in 2012


@dataclass(frozen=True)
class MpiCompiler:
    """What a compiler wrapper adds to a plain compiler.

    Attributes:
        flavour: ``"openmpi"`` or ``"mpich"`` (the handles of MPICH, Intel MPI, MVAPICH, Cray).
        include_dirs, library_dirs, libraries: for compiling and linking.
        system_library_dirs: those of ``library_dirs`` that stay when the build's environment goes.
    """

    flavour: str
    include_dirs: list[str]
    library_dirs: list[str]
    libraries: list[str]
    system_library_dirs: list[str]


def find_wrappers() -> list[str]:
    """``$MPICXX`` or ``$MPICC``, else ``mpicxx`` beside this Python, else on PATH.

    The variables may name wrappers of several flavours, separated by colons.
    """
    for variable in ("MPICXX", "MPICC"):
        if chosen := os.environ.get(variable):
            return [_program(name, variable) for name in chosen.split(os.pathsep)]
    beside = os.pathsep.join(str(Path(prefix) / "bin") for prefix in _environments())
    for path in (beside, None):
        for name in ("mpicxx", "mpic++", "mpicc"):
            if found := shutil.which(name, path=path):
                return [found]
    return []


def inspect(wrapper: str) -> MpiCompiler:
    """The flags of a wrapper; its run-path is left out, as it may be a folder of the build."""
    words = shlex.split(_show(wrapper))
    include_dirs = [word[2:] for word in words if word.startswith("-I")]
    library_dirs = [word[2:] for word in words if word.startswith("-L")]
    libraries = [word[2:] for word in words if word.startswith("-l")]
    environments = [Path(prefix).resolve() for prefix in _environments()]
    return MpiCompiler(
        flavour="openmpi" if _has_open_mpi_header(wrapper, include_dirs) else "mpich",
        include_dirs=include_dirs,
        library_dirs=library_dirs,
        libraries=[name for name in libraries if name not in CXX_BINDINGS],
        system_library_dirs=[
            folder
            for folder in library_dirs
            if not any(Path(folder).resolve().is_relative_to(prefix) for prefix in environments)
        ],
    )


def _program(name: str, variable: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{variable}={name}: no such program.")
    return found


def _environments() -> list[str]:
    """Prefixes of the virtual environment and of a build environment, which is on ``sys.path``."""
    site_packages = [Path(entry) for entry in sys.path if Path(entry).name == "site-packages"]
    prefixes = [str(path.parents[2]) for path in site_packages]
    return [sys.prefix, *prefixes] if sys.prefix != sys.base_prefix else prefixes


def _show(wrapper: str) -> str:
    for option in ("--showme", "-show"):
        done = subprocess.run([wrapper, option], capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and ("-I" in done.stdout or "-l" in done.stdout):
            return done.stdout
    raise SystemExit(
        f"{wrapper} does not tell its flags (tried --showme and -show); set MPICC to the mpicc of "
        "your MPI library."
    )


def _has_open_mpi_header(wrapper: str, include_dirs: list[str]) -> bool:
    folders = [*include_dirs, str(Path(wrapper).resolve().parents[1] / "include"), "/usr/include"]
    for folder in folders:
        header = Path(folder) / "mpi.h"
        if header.is_file():
            return "OMPI_MAJOR_VERSION" in header.read_text(errors="ignore")
    raise SystemExit(f"{wrapper} names no folder with mpi.h; install the MPI's headers.")
