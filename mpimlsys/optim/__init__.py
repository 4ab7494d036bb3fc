"""Optimisers on flat arrays, gradient clipping and learning-rate schedules."""

from mpimlsys.optim.clip import clip_by_global_norm
from mpimlsys.optim.optimizers import adam, adamw, from_name, lamb, sgd
from mpimlsys.optim.schedule import Schedule, constant, cosine, step, warmup

__all__ = [
    "Schedule",
    "adam",
    "adamw",
    "clip_by_global_norm",
    "constant",
    "cosine",
    "from_name",
    "lamb",
    "sgd",
    "step",
    "warmup",
]
