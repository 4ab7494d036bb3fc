"""Measures codecs on the stand-in and prints the result; a program of test_device_bench.py.

usage: bench_on_standin.py EXTENSION CODECS SIZE [wrong | broken]
"""

import json
import sys
from pathlib import Path

import mpi4py
import numpy as np
import standin

mpi4py.rc.initialize = False  # the library is loaded, but MPI does not start

from mpimlsys.bench import device_codecs  # noqa: E402
from mpimlsys.compress.codec import parse  # noqa: E402
from mpimlsys.device import Gpu, view  # noqa: E402
from mpimlsys.errors import ConfigError  # noqa: E402


class Block:
    """Memory of the stand-in."""

    def __init__(self, nbytes):
        self.array = standin.Array(np.zeros(nbytes, np.uint8))
        self.address = view(self.array).address


class Wrong:
    """A device whose frames are of another draw."""

    def __init__(self, native):
        self._native = native

    def __getattr__(self, name):
        return getattr(self._native, name)

    def encode(self, *arguments, key, **options):
        self._native.encode(*arguments, key=key + 1, **options)


class Broken(Wrong):
    """A device that fails after a while, and then at all that it is asked for."""

    left = 5

    def encode(self, *arguments, **options):
        self.left -= 1
        self._native.encode(*arguments, **options)
        self.fail()

    def record(self, *arguments):
        self.fail()
        self._native.record(*arguments)

    def fail(self):
        if self.left < 0:
            raise ConfigError("the GPU: an illegal memory access was encountered")


def main(path, codecs, size, mistake=""):
    native = standin.use(Path(path)).Device(0)
    mistaken = {"wrong": Wrong, "broken": Broken}.get(mistake)
    card = Gpu(mistaken(native) if mistaken else native, 0)
    chosen = [parse(text) for text in codecs.split(",")]
    rows = []
    try:
        device_codecs.measure(card, Block, chosen, [int(size)], rows)
    finally:
        print(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
