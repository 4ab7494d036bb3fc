"""Rows that servers hold, in a checkpoint: each worker writes a part of them. Pure.

A worker's part has the names ``"rank.table.rows"``, ``"rank.table.values"`` and
``"rank.table.updates"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.types import Array, State


def written(rank: int, table: str, rows: Array, values: Array, updates: int) -> State:
    """A worker's part.

    Args:
        rank: of the worker.
        table: its name.
        rows: (n,) uint64.
        values: (n, width + state) float32, with the optimiser's state.
        updates: that the table has had.
    """
    name = f"{rank}.{table}"
    return {
        f"{name}.rows": rows,
        f"{name}.values": values,
        f"{name}.updates": np.array(updates, np.int64),
    }


def handed_out(
    own: Mapping[str, Array], table: str, rank: int, rows: Array, shape: tuple[int, int]
) -> State:
    """What a worker puts in place, out of the parts that any number of workers wrote.

    Args:
        own: the parts.
        table: its name.
        rank: of the worker.
        rows: (n,) uint64 that it puts in place.
        shape: of the whole table with its optimiser's state.

    Raises:
        ConfigError: the parts are not those of such a table.
    """
    whole, updates = _whole(own, table, shape)
    return {
        f"{rank}.{table}.values": whole[rows],
        f"{rank}.{table}.updates": np.array(updates, np.int64),
    }


def mine(own: Mapping[str, Array], table: str, rank: int) -> tuple[Array, int]:
    """What was handed out to this worker: values, and the updates that the table has had.

    Raises:
        ConfigError: nothing was.
    """
    if f"{rank}.{table}.values" not in own:
        raise ConfigError(
            f"there are no rows for {table!r}: give load_state_dict what handed_out returned too."
        )
    return own[f"{rank}.{table}.values"], int(own[f"{rank}.{table}.updates"])


class SavedRows:
    """The rows of a checkpoint, for a model that is only applied.

    Args:
        tensors: of the checkpoint.
        count: rows of the table.
    """

    def __init__(self, tensors: Mapping[str, Array], count: int) -> None:
        self._tensors, self._count = tensors, count
        self._whole: Array | None = None

    def fetch_rows(self, table: str, rows: Array, width: int) -> Array:
        """(n,) uint64 gives (n, width) float32.

        Raises:
            ConfigError: the checkpoint does not hold such a table.
        """
        if self._whole is None:
            widths = [
                value.shape[1]
                for name, value in self._tensors.items()
                if name.endswith(f".{table}.values")
            ]
            self._whole = _whole(self._tensors, table, (self._count, max(widths, default=0)))[0]
        return self._whole[rows, :width]

    def add_rows(self, table: str, rows: Array, gradients: Array, lr: float) -> None:
        """Nothing calls this: a model with the rows of a checkpoint is applied, not trained."""
        raise NotImplementedError("rows of a checkpoint do not change")


def _whole(own: Mapping[str, Array], table: str, shape: tuple[int, int]) -> tuple[Array, int]:
    """A table with its optimiser's state, and its updates, from the parts of all workers."""
    whole = np.empty(shape, np.float32)
    missing = np.ones(shape[0], bool)
    updates = 0
    mine = re.compile(rf"(exchange\.)?\d+\.{re.escape(table)}\.rows")
    for name, places in own.items():
        if not mine.fullmatch(name):
            continue
        part = name.removesuffix(".rows")
        values = own[f"{part}.values"]
        if values.shape != (len(places), shape[1]) or (places >= shape[0]).any():
            missing[:] = True
            break
        whole[places] = values
        missing[places] = False
        updates = max(updates, int(own[f"{part}.updates"]))
    if missing.any():
        raise ConfigError(
            f"this checkpoint does not hold {shape[0]} rows of {shape[1]} numbers for "
            f"{table!r}; use the job it was written with."
        )
    return whole, updates
