"""Arrays in the memory of a GPU, whoever made them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpimlsys.errors import ConfigError

_CUDA = (2, 13)  # DLPack's numbers for memory of CUDA: device, managed
_DEFAULT_STREAM = 1  # CUDA's name of the stream of programs that have no other
_FEWER = "Pass a contiguous copy (cupy.ascontiguousarray, tensor.contiguous())."


@dataclass(frozen=True)
class View:
    """Where an array is.

    Attributes:
        address: of its first element; 0 for an array without elements.
        shape: of the array.
        dtype: the name, such as ``"float32"`` or ``"bfloat16"``.
        itemsize: bytes of an element.
        stream: whose work the array's contents wait for, and where what comes after goes.
        gpu: which one it is in, as CUDA counts; None where the array does not say.
        keeper: the stream lives as long as this; None where nobody says.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    itemsize: int
    stream: int
    gpu: int | None = None
    keeper: Any = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize


def is_on_gpu(array: Any) -> bool:
    """Whether an array is in the memory of a GPU."""
    if isinstance(array, np.ndarray):
        return False
    if is_tensor(array):
        return bool(array.is_cuda)
    if hasattr(array, "__cuda_array_interface__"):
        return True
    device = getattr(array, "__dlpack_device__", None)
    return device is not None and int(device()[0]) in _CUDA


def view(array: Any, *, writable: bool = True) -> View:
    """Where an array of a GPU is, and its stream.

    Args:
        array: of CuPy, PyTorch, or anything else with the CUDA array interface (version 2 or
            newer); with DLPack alone where CuPy is installed.
        writable: whether it must be.

    Raises:
        ConfigError: it is read-only or not contiguous, or does not say where it is.
    """
    name = None
    number = number_of(array)
    if is_tensor(array):
        name = str(array.dtype).removeprefix("torch.")
        keeper = sys.modules["torch"].cuda.current_stream(array.device)
        stream = int(keeper.cuda_stream)
        if name == "bfloat16":  # NumPy has no name for it
            array = array.detach().view(sys.modules["torch"].int16)
        array = array.detach()
    else:
        if not hasattr(array, "__cuda_array_interface__"):
            array = by_dlpack(array)
        stream, keeper = _current_stream(array)
    about = array.__cuda_array_interface__
    dtype = np.dtype(about["typestr"])
    address, read_only = about["data"]
    shape = tuple(int(side) for side in about["shape"])
    if read_only and writable:
        raise ConfigError("an array is read-only; pass one that may be written to.")
    if about.get("mask") is not None:
        raise ConfigError("masked arrays cannot be exchanged.")
    if not _contiguous(shape, about.get("strides"), dtype.itemsize):
        raise ConfigError(f"an array of a GPU is not C-contiguous. {_FEWER}")
    if dtype.kind == "V":  # what CuPy calls ml_dtypes' types
        name = str(array.dtype)
    name = name or dtype.name
    return View(int(address or 0), shape, name, dtype.itemsize, stream, number, keeper)


def is_tensor(array: Any) -> bool:
    """Whether an array is PyTorch's."""
    return type(array).__module__.partition(".")[0] == "torch"


def by_dlpack(array: Any) -> Any:
    """CuPy's array of memory that is described by DLPack alone."""
    try:
        import cupy
    except ImportError as error:
        raise ConfigError(
            f"a {type(array).__name__} says where it is by DLPack alone, which takes CuPy to "
            "read: pip install 'mpimlsys[gpu]'."
        ) from error
    return cupy.from_dlpack(array)


def _contiguous(shape: tuple[int, ...], strides: Any, itemsize: int) -> bool:
    if strides is None or 0 in shape:
        return True
    wanted = itemsize
    for side, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if side != 1 and stride != wanted:
            return False
        wanted *= side
    return True


def number_of(array: Any) -> int | None:
    """The GPU that an array is in, as CUDA counts; None where it does not say."""
    device = getattr(array, "device", None)
    number = getattr(device, "index", None) if is_tensor(array) else getattr(device, "id", None)
    return number if isinstance(number, int) else None


def _current_stream(array: Any) -> tuple[int, Any]:
    """The caller's, and what keeps it: CuPy's current one for its arrays, else what the interface
    names.
    """
    if type(array).__module__.partition(".")[0] == "cupy":
        current = sys.modules["cupy"].cuda.get_current_stream()
        return int(current.ptr), current
    told = array.__cuda_array_interface__.get("stream")
    return _DEFAULT_STREAM if told is None else int(told), None
