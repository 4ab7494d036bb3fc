"""Memory of a GPU from CUDA's driver, for benchmarks and checks, which need no CuPy or PyTorch.

The memory is of the device's primary context, which the CUDA runtime, and so everything else in a
process, uses too.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mpimlsys.errors import ConfigError

_LIBRARY = "libcuda.so.1"


class Memory:
    """Bytes on a GPU; given back with :meth:`free`, or with this object.

    Attributes:
        address: of the first, a multiple of 256.
        nbytes: how many.
    """

    def __init__(self, device: Device, nbytes: int) -> None:
        self.address = device.allocate(nbytes)
        self.nbytes = nbytes
        self.free = weakref.finalize(self, device.free, self.address)
        self.free.atexit = False  # a process gives all back when it ends


class Device:
    """A GPU, as CUDA counts those that this process may see.

    Raises:
        ConfigError: there is none, or the driver refuses; names its call and error.
    """

    def __init__(self, number: int) -> None:
        try:
            self._cuda = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise ConfigError(
                f"this machine has no driver of CUDA ({error}). Run on one with a GPU; in a "
                "container: docker run --gpus all."
            ) from None
        self._call("cuInit", 0)
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), number)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def memory(self, nbytes: int) -> Memory:
        """Memory that nothing was written to."""
        return Memory(self, nbytes)

    def allocate(self, nbytes: int) -> int:
        """The address of so many bytes, one at least."""
        address = ctypes.c_uint64()
        with self._current():
            self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(nbytes, 1)))
        return address.value

    def free(self, address: int) -> None:
        """Give back what :meth:`allocate` gave; waits for what runs on the device."""
        with self._current():
            self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def copy(self, into: int, source: int, nbytes: int) -> None:
        """Copy between any two addresses of host and device, and wait."""
        with self._current():
            addresses = ctypes.c_uint64(into), ctypes.c_uint64(source)
            self._call("cuMemcpy", *addresses, ctypes.c_size_t(nbytes))

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorName(code, ctypes.byref(text))
            said = (text.value or b"an error without a name").decode()
            raise ConfigError(f"the GPU's driver: {name} says {said} ({code}).")
