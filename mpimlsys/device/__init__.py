"""GPUs: one for each process, the arrays in its memory, and collectives of them.

The kernels and everything that asks CUDA are in an extension of their own, ``_native_cuda``,
which is built where CUDA's compiler is found. CuPy is not needed: an array is anything with the
CUDA array interface (or DLPack, which CuPy reads), and its stream is respected.
"""

from mpimlsys.device.arrays import View, is_on_gpu, is_tensor, view
from mpimlsys.device.gpu import Gpu, built, gpu
from mpimlsys.device.queue import Queue, gpu_of, open_queue, queue_of
from mpimlsys.device.results import rows_of

__all__ = [
    "Gpu",
    "Queue",
    "View",
    "built",
    "gpu",
    "gpu_of",
    "is_on_gpu",
    "is_tensor",
    "open_queue",
    "queue_of",
    "rows_of",
    "view",
]
