"""A stand-in for a GPU: the extension for GPUs with its kernels compiled for the host.

``build(folder)`` compiles it; ``use(path)`` makes it the extension of this process, with streams
that take their time where ``MLS_STANDIN_LATE`` is in the environment (host_streams.hpp). ``Array``
is an array in the "memory of the device": it has the CUDA array interface and nothing of NumPy's,
so that code that takes it for a NumPy array fails.
"""

import ctypes
import importlib.machinery
import importlib.util
import itertools
import mmap
import os
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
CSRC = ROOT / "csrc"
NAME = "_native_cuda"
SOURCES = [
    *sorted((CSRC / "base").glob("*.cpp")),
    *sorted((CSRC / "codec").glob("*.cpp")),
    CSRC / "bindings" / "failures.cpp",
    CSRC / "bindings" / "device.cpp",
    Path(__file__).with_name("host_device.cpp"),
]
_numbers = itertools.count()


def build(folder):
    """Compile the extension into ``folder`` and return its path."""
    import sysconfig

    import pybind11

    flags = ["-std=c++20", "-O1", "-g0", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden"]
    flags += ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wno-unknown-pragmas", "-Werror"]
    flags += [f"-I{CSRC}", f"-isystem{pybind11.get_include()}"]
    flags += [f"-isystem{sysconfig.get_path('include')}"]
    flags += [f"-DMLS_MODULE={NAME}", '-DMLS_TARGETS="the host"']

    def compiled(source):
        target = folder / f"{source.parent.name}-{source.stem}.o"
        subprocess.run(["g++", *flags, "-c", source, "-o", target], check=True, timeout=400)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, SOURCES))
    path = folder / f"{NAME}.so"
    subprocess.run(["g++", "-shared", "-pthread", *objects, "-o", path], check=True, timeout=120)
    return path


def use(path):
    """Make the stand-in the extension for GPUs of this process."""
    loader = importlib.machinery.ExtensionFileLoader(f"mpimlsys.{NAME}", str(path))
    spec = importlib.util.spec_from_file_location(f"mpimlsys.{NAME}", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[f"mpimlsys.{NAME}"] = module
    return module


class Array:
    """An array in memory that other processes can see; ``host`` is a copy of it."""

    def __init__(self, values, *, stream=None, shared=True):
        values = np.asarray(values, order="C")
        self._stream = stream
        size = max(values.nbytes, 1)
        if shared:
            path = Path(f"/dev/shm/mls-standin-{os.getpid()}-{next(_numbers)}")
            with path.open("w+b") as file:
                file.truncate(size)
                self._memory = mmap.mmap(file.fileno(), size)
            weakref.finalize(self, path.unlink, missing_ok=True)
        else:
            self._memory = bytearray(size)
        self._values = np.frombuffer(self._memory, values.dtype, values.size).reshape(values.shape)
        self._values[...] = values

    def __del__(self):
        # as libraries that give memory back in the order of the stream
        if not sys.is_finalizing():
            finish(self._stream)

    @property
    def host(self):
        finish(self._stream)
        return self._values.copy()

    @property
    def dtype(self):
        return self._values.dtype

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self._values.shape,
            "typestr": self._values.dtype.str,
            "data": (self._values.ctypes.data, False),
            "strides": None,
            "version": 3,
            "stream": self._stream,
        }


def finish(stream):
    """Wait for what a caller's stream has to do, and for no other."""
    from mpimlsys.device.gpu import _opened

    for gpu in _opened.values():
        with gpu.event() as done:
            gpu.native.record(done, stream or 0)
            gpu.wait(done, 60, "the caller's stream")


def host(array):
    """A copy of any array with the CUDA array interface."""
    about = array.__cuda_array_interface__
    finish(about.get("stream"))
    dtype = np.dtype(array.dtype or about["typestr"])
    nbytes = int(np.prod(about["shape"])) * dtype.itemsize
    memory = ctypes.string_at(about["data"][0], nbytes) if nbytes else b""
    return np.frombuffer(memory, dtype).reshape(about["shape"])
