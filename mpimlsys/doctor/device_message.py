"""Gives MPI memory of the first GPU: an all-reduce of one process. A program; it may crash.

An MPI that cannot read a GPU's memory dies of it, or sends something else. That messages between
ranks are right is not shown by it.
"""

from __future__ import annotations

import numpy as np

from mpimlsys import config
from mpimlsys.device import Gpu, gpu
from mpimlsys.device.memory import Memory

_COUNT = 1000
_WAIT_S = 20.0


def main() -> None:
    """Raises SystemExit where the sum is wrong."""
    config.prepare_mpi()
    device = gpu(0)
    values = np.arange(_COUNT, dtype=np.float32)
    source, into = Memory(device, values.nbytes), Memory(device, values.nbytes)
    copy(device, source.address, values.ctypes.data, values.nbytes)
    found = np.full_like(values, -1)
    copy(device, into.address, found.ctypes.data, found.nbytes)

    from mpi4py import MPI

    MPI.COMM_WORLD.Allreduce(
        [MPI.buffer.fromaddress(source.address, source.nbytes), MPI.FLOAT],
        [MPI.buffer.fromaddress(into.address, into.nbytes), MPI.FLOAT],
    )
    copy(device, found.ctypes.data, into.address, found.nbytes)
    if not np.array_equal(found, values):
        raise SystemExit("it returned, but the sum is wrong")


def copy(device: Gpu, into: int, source: int, nbytes: int) -> None:
    """Copy between any two addresses of host and device, and wait."""
    stream = device.native.make_stream()
    with device.event() as copied:
        device.native.copy(into, source, nbytes, stream=stream)
        device.native.record(copied, stream)
        device.wait(copied, _WAIT_S, "copying")
    device.native.drop_stream(stream)


if __name__ == "__main__":
    main()
