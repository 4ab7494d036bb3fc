"""Runs the checks of benchmarks/gpu_laws.py on the stand-in; a program of test_gpu_check.py.

usage: laws_on_standin.py EXTENSION [MISTAKE [LAW]]    with a device that makes this mistake
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
import standin

sys.path.insert(0, str(standin.ROOT / "benchmarks"))

import gpu_laws

from mpimlsys.device import Gpu, view
from mpimlsys.errors import ConfigError


class Block:
    """Memory of the stand-in."""

    def __init__(self, nbytes):
        self.array = standin.Array(np.zeros(nbytes, np.uint8), shared=False)
        self.address = view(self.array).address


class Mistaken:
    """A device that makes one mistake."""

    def __init__(self, native, extension, mistake):
        self._native, self._extension, self._mistake = native, extension, mistake

    def __getattr__(self, name):
        return getattr(self._native, name)

    def encode(self, spec, x, count, frame, *, key, **options):
        key += self._mistake == "draw"
        self._native.encode(spec, x, count, frame, key=key, **options)
        if self._mistake == "residual" and "kept" in options and count:
            ctypes.c_float.from_address(options["kept"]).value += 1
        if self._mistake == "behind":
            room = -(-self._extension.frame_bound(spec, count) // 4) * 4
            ctypes.c_uint8.from_address(frame + room).value = 0

    def add(self, *arguments, factor=1.0, **options):
        if self._mistake == "factor":
            factor *= 2
        self._native.add(*arguments, factor=factor, **options)

    def squares(self, x, count, into, *, stream):
        if self._mistake == "fault" and count == 257:
            raise ConfigError("the GPU: an illegal memory access was encountered")
        self._native.squares(
            x, count - (self._mistake == "squares" and count > 1), into, stream=stream
        )

    def clip(self, x, count, most, *, stream):
        self._native.clip(x, count, most * (1 + (self._mistake == "clip")), stream=stream)

    def reduce(self, sources, *arguments, order, **options):
        order = "any" if self._mistake == "order" else order
        self._native.reduce(sources, *arguments, order=order, **options)


def main(path, mistake="", law=""):
    gpu = Gpu(standin.use(Path(path)).Device(0), 0)
    card = gpu_laws.Card(gpu, Block)
    card.device = Mistaken(gpu.native, card.extension, mistake)
    return 0 if gpu_laws.tell(card, [law] if law else gpu_laws.LAWS, reduced=True) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
