"""Sources of samples, their checks, and which rank works on which of them."""

from mpimlsys.data.datasets import ArrayDataset, TextDataset, Vocabulary
from mpimlsys.data.description import Description
from mpimlsys.data.pipeline import Prefetcher
from mpimlsys.data.sharding import epoch_order, shard, steps_per_epoch
from mpimlsys.data.sources import Splits, inputs_from_file, labelled, load, rescaled
from mpimlsys.data.standardise import Moments

__all__ = [
    "ArrayDataset",
    "Description",
    "Moments",
    "Prefetcher",
    "Splits",
    "TextDataset",
    "Vocabulary",
    "epoch_order",
    "inputs_from_file",
    "labelled",
    "load",
    "rescaled",
    "shard",
    "steps_per_epoch",
]
