"""Optimisers on flat arrays, gradient clipping and learning-rate schedules."""

from mpimlsys.optim.clip import clip_by_global_norm
from mpimlsys.optim.compressed import onebit_adam, zero_one_adam
from mpimlsys.optim.names import COMPRESSING, from_name
from mpimlsys.optim.optimizers import adam, adamw, lamb, sgd
from mpimlsys.optim.schedule import Schedule, constant, cosine, step, warmup

__all__ = [
    "COMPRESSING",
    "Schedule",
    "adam",
    "adamw",
    "clip_by_global_norm",
    "constant",
    "cosine",
    "from_name",
    "lamb",
    "onebit_adam",
    "sgd",
    "step",
    "warmup",
    "zero_one_adam",
]
