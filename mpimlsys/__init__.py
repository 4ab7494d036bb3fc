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
    from mpimlsys import data, errors, exchange, nn, optim
    from mpimlsys.collectives import allreduce, allreduce_async, barrier, broadcast
    from mpimlsys.context import Context, init
    from mpimlsys.jobfile import CommSection
    from mpimlsys.train.trainer import Trainer

_MODULES = ("data", "errors", "exchange", "nn", "optim")
_NAMES = {
    "CommSection": "mpimlsys.jobfile",
    "Context": "mpimlsys.context",
    "Trainer": "mpimlsys.train.trainer",
    "allreduce": "mpimlsys.collectives",
    "allreduce_async": "mpimlsys.collectives",
    "barrier": "mpimlsys.collectives",
    "broadcast": "mpimlsys.collectives",
    "init": "mpimlsys.context",
}

__all__ = [
    "CommSection",
    "Context",
    "Trainer",
    "allreduce",
    "allreduce_async",
    "barrier",
    "broadcast",
    "data",
    "errors",
    "exchange",
    "init",
    "nn",
    "optim",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"mpimlsys.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'mpimlsys' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
