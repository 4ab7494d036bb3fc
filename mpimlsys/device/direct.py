"""All-reduce of a GPU's array by an MPI that takes addresses of GPUs: ``algorithm = "mpi"``.

Where the MPI says that it does not, arrays are staged, and the MPI reduces them on the host.
``mpimlsys doctor`` tries it out. Nothing picks it by itself: what it is worth depends on how the
MPI was built.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from mpimlsys.device.arrays import View
from mpimlsys.device.calls import Reduction
from mpimlsys.device.gpu import Gpu
from mpimlsys.errors import RankFailed

if TYPE_CHECKING:
    from mpi4py import MPI

_OPERATIONS = {"sum": "SUM", "average": "SUM", "min": "MIN", "max": "MAX", "product": "PROD"}
_TYPES = {
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "int32": "INT32_T",
    "int64": "INT64_T",
    "uint8": "UINT8_T",
}


def takes_gpu_memory() -> bool:
    """Whether the MPI that runs says that it is CUDA-aware."""
    from mpi4py import MPI

    library = ctypes.CDLL(MPI.__file__)  # and what it was linked with
    ask = getattr(library, "MPIX_Query_cuda_support", None)
    return ask is not None and bool(ask())


class Direct:
    """A communicator for it. Making it is collective.

    Args:
        comm: of the ranks, for this alone.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self._comm = comm

    def can(self, view: View, how: Reduction) -> bool:
        """Whether MPI knows the numbers; averages are divided elsewhere and so left to others."""
        return view.dtype in _TYPES and how.op != "average"

    def all_reduce(self, view: View, how: Reduction, gpu: Gpu, stream: int) -> None:
        """Reduce in place, after what is on ``stream``; complete when it returns.

        It has no deadline, as no MPI reduces a GPU's memory in the background: whoever waits for
        the thread that this runs on has one.

        Raises:
            RankFailed: MPI says that it failed.
        """
        from mpi4py import MPI

        with gpu.event() as before:
            gpu.native.record(before, stream)
            gpu.wait(before, how.timeout_s, "what comes before the all-reduce")
        numbers: Any = [
            MPI.memory.fromaddress(view.address, view.nbytes),
            view.size,
            getattr(MPI, _TYPES[view.dtype]),
        ]
        try:
            self._comm.Allreduce(MPI.IN_PLACE, numbers, getattr(MPI, _OPERATIONS[how.op]))
        except MPI.Exception as error:
            raise RankFailed(f"all-reduce by the MPI: {error}", []) from error
