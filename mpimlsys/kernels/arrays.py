"""Where arrays are: in the memory of the host (NumPy) or of a GPU (CuPy).

NumPy's functions work on arrays of both kinds, as those of a GPU take over what they are part of;
what makes arrays out of nothing does not, and is taken from :func:`namespace`. The two kinds are
never mixed: :func:`fill` and :func:`to_host` are the only ways across. CuPy is imported by
:func:`open_device` alone.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.types import Array

DEVICES = ("cpu", "cuda")


def namespace(array: Any) -> Any:
    """``numpy`` or ``cupy``: the module of the functions that make arrays of the same kind."""
    if isinstance(array, np.ndarray):
        return np
    cupy = sys.modules.get("cupy")  # where nobody imported it, no array is of its kind
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def on_host(array: Any) -> bool:
    """Whether the processor can read ``array`` without waiting for a device."""
    return namespace(array) is np


def to_host(array: Any) -> Array:
    """The same numbers as a NumPy array: ``array`` itself, or a copy that waits for the device."""
    return array if on_host(array) else array.get()


def fill(target: Array, values: Any) -> None:
    """Overwrite ``target`` by an array of the host, or of the same device."""
    if on_host(target):
        target[...] = values
    else:
        target[...] = namespace(target).asarray(values, target.dtype)


def wide(array: Array) -> Array:
    """Floating-point numbers of at least 32 bits: ``array`` itself, or float32 of a half."""
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


def open_device(name: str, local_rank: int) -> Any:
    """Choose the device that this process computes on.

    Args:
        name: ``"cpu"``, or ``"cuda"`` for a GPU: the one of the rank's number on its node, and
            again from the first where there are more ranks than GPUs.
        local_rank: number of this rank on its node.

    Returns:
        The module of functions that make arrays there.

    Raises:
        ConfigError: an unknown name; no CuPy, no driver or no GPU.
    """
    if name == "cpu":
        return np
    if name != "cuda":
        raise ConfigError(f"device = {name!r} is unknown; use 'cpu' or 'cuda'.")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise ConfigError(
            f"device = 'cuda' needs CuPy, which cannot be imported ({error}): pip install "
            "'mpimlsys[gpu]', or 'mpimlsys[gpu-cuda12]' for a driver of CUDA 12; or "
            "cluster.device = 'cpu'."
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        if not count:
            raise ConfigError(f"device = 'cuda', and this node has no GPU. {_REMEDY}")
        cupy.cuda.Device(local_rank % count).use()
        cupy.cuda.nvrtc.getVersion()  # the libraries that would be missed in the first step
        cupy.cuda.get_cublas_handle()
    except (ImportError, RuntimeError) as error:
        why = f"device = 'cuda', and CUDA cannot be used: {error}. {_REMEDY}"
        raise ConfigError(why) from error
    return cupy


_REMEDY = (
    "See what 'nvidia-smi' says there, and ask the scheduler for GPUs (slurm.gpus_per_node); pip "
    "install 'mpimlsys[gpu]' brings CUDA's libraries; or cluster.device = 'cpu'."
)
