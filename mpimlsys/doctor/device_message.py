"""Gives MPI memory of the first GPU: an all-reduce of one process. A program; it may crash.

An MPI that cannot read a GPU's memory dies of it, or sends something else. That messages between
ranks are right is not shown by it.
"""

from __future__ import annotations

import numpy as np

from mpimlsys import config
from mpimlsys.driver import Device

_COUNT = 1000


def main() -> None:
    """Raises SystemExit where the sum is wrong."""
    config.prepare_mpi()
    device = Device(0)
    values = np.arange(_COUNT, dtype=np.float32)
    source, into = device.memory(values.nbytes), device.memory(values.nbytes)
    device.copy(source.address, values.ctypes.data, values.nbytes)
    found = np.full_like(values, -1)
    device.copy(into.address, found.ctypes.data, found.nbytes)

    from mpi4py import MPI

    MPI.COMM_WORLD.Allreduce(
        [MPI.buffer.fromaddress(source.address, source.nbytes), MPI.FLOAT],
        [MPI.buffer.fromaddress(into.address, into.nbytes), MPI.FLOAT],
    )
    device.copy(found.ctypes.data, into.address, found.nbytes)
    if not np.array_equal(found, values):
        raise SystemExit("it returned, but the sum is wrong")


if __name__ == "__main__":
    main()
