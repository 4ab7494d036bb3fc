"""Measures codecs on the stand-in and prints the result; a program of test_device_bench.py.

usage: bench_on_standin.py EXTENSION CODECS SIZE [wrong]
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


def main(path, codecs, size, *wrong):
    native = standin.use(Path(path)).Device(0)
    card = Gpu(Wrong(native) if wrong else native, 0)
    chosen = [parse(text) for text in codecs.split(",")]
    print(json.dumps(device_codecs.measure(card, Block, chosen, [int(size)])))


if __name__ == "__main__":
    main(*sys.argv[1:])
