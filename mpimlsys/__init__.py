"""Train machine-learning models over MPI.

    import mpimlsys as mls

    ctx = mls.init()
    mls.allreduce(x)                                   # in place; op="average" by default
    trainer = mls.Trainer(model, optimizer=mls.optim.sgd(0.05, momentum=0.9))
    trainer.fit(dataset, epochs=3)

Everything is imported on first use, so that ``import mpimlsys`` costs milliseconds and starts
no MPI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mpimlsys import compress, data, errors, exchange, nn, optim, ps
    from mpimlsys.collectives import (
        allgather,
        allgather_async,
        allreduce,
        allreduce_async,
        alltoall,
        alltoall_async,
        barrier,
        barrier_async,
        broadcast,
        broadcast_async,
        grouped_allreduce,
        grouped_allreduce_async,
        process_set,
        reducescatter,
        reducescatter_async,
    )
    from mpimlsys.context import Context, init
    from mpimlsys.jobfile import ClusterSection, CommSection
    from mpimlsys.timeline import trace
    from mpimlsys.train.trainer import Trainer

_MODULES = ("compress", "data", "errors", "exchange", "nn", "optim", "ps")
_NAMES = {
    "ClusterSection": "mpimlsys.jobfile",
    "CommSection": "mpimlsys.jobfile",
    "Context": "mpimlsys.context",
    "Trainer": "mpimlsys.train.trainer",
    "init": "mpimlsys.context",
    "trace": "mpimlsys.timeline",
}  # all others that are public are collectives

__all__ = [
    "ClusterSection",
    "CommSection",
    "Context",
    "Trainer",
    "allgather",
    "allgather_async",
    "allreduce",
    "allreduce_async",
    "alltoall",
    "alltoall_async",
    "barrier",
    "barrier_async",
    "broadcast",
    "broadcast_async",
    "compress",
    "data",
    "errors",
    "exchange",
    "grouped_allreduce",
    "grouped_allreduce_async",
    "init",
    "nn",
    "optim",
    "process_set",
    "ps",
    "reducescatter",
    "reducescatter_async",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"mpimlsys.{name}")
    if name in __all__:
        module = _NAMES.get(name, "mpimlsys.collectives")
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'mpimlsys' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
