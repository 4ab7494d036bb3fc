"""From a job to the things that train: data, model, trainer."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys import __version__, data, exchange, nn, optim
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError
from mpimlsys.jobfile import Job
from mpimlsys.train.trainer import Trainer
from mpimlsys.types import Dataset


@dataclass(frozen=True)
class Workbench:
    """What a run works with.

    Attributes:
        job: the job.
        train, test: the data; ``test`` is None where there is none.
        trainer: model, optimiser and exchange.
        description: what a model must know of its data, saved with every checkpoint.
    """

    job: Job
    train: Dataset
    test: Dataset | None
    trainer: Trainer
    description: data.Description

    def manifest(self) -> dict[str, Any]:
        """What a checkpoint says about its run, beside the tensors."""
        job = self.job
        return {
            "mpimlsys": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "seed": job.job.seed,
            "dtype": job.job.dtype,
            "batch_size": job.data.batch_size,
            "accumulate": job.data.accumulate,
            "samples": len(self.train),
            "model": job.model.name,
            "optimizer": job.optimizer.name,
            "random": "Philox, keyed by (seed, rank), counted by step; order by (seed, epoch)",
        }
