"""An embedding whose rows parameter servers hold."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.nn.module import Module
from mpimlsys.nn.sequence import must_be_indices
from mpimlsys.types import Array, Phase, Ready


class RowStore(Protocol):
    """Where rows are, as the exchange with parameter servers gives it to the layer."""

    def fetch_rows(self, table: str, rows: Array, width: int) -> Array: ...

    def add_rows(self, table: str, rows: Array, gradients: Array, lr: float) -> None: ...


class ServedEmbedding(Module):
    """A row of a table per index; only the rows that a batch touches travel.

    Give it to the exchange too: ``ParameterServers(embeddings=[layer])``. The table says which
    optimiser its rows have.

    Args:
        table: a :class:`mpimlsys.ps.Table` of rows.
        lr: times the learning rate of the step.

    Shapes:
        x (...) integers in [0, table.count), y (..., table.width).

    Raises:
        ConfigError: the table is dense.
    """

    def __init__(self, table: Any, *, lr: float = 1.0) -> None:
        if table.is_dense:
            raise ConfigError(f"an embedding needs rows: give the table {table.name!r} a width.")
        self.table, self._lr = table, lr
        self._store: RowStore | None = None

    def attach(self, store: RowStore) -> None:
        """Take rows from there."""
        self._store = store

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        if self._store is None:
            raise ConfigError(
                f"the rows of {self.table.name!r} are nowhere: give this layer to "
                "ParameterServers(embeddings=[...])."
            )
        must_be_indices(inputs, repr(self.table.name))
        rows, places = np.unique(inputs, return_inverse=True)
        if len(rows) and (rows[0] < 0 or rows[-1] >= self.table.count):
            raise ConfigError(
                f"an index of {rows[0] if rows[0] < 0 else rows[-1]} is outside the "
                f"{self.table.count} rows of {self.table.name!r}."
            )
        self._rows, self._places = rows.astype(np.uint64), places.reshape(-1)
        self._shape = inputs.shape
        values = self._store.fetch_rows(self.table.name, self._rows, self.table.width)
        return values[self._places].reshape(*inputs.shape, self.table.width)

    def backward(self, grad: Array, ready: Ready) -> Array:
        del ready
        from mpimlsys.kernels import jit

        assert self._store is not None
        sums = np.zeros((len(self._rows), self.table.width), np.float32)
        each = np.ascontiguousarray(grad, np.float32).reshape(-1, self.table.width)
        jit.scatter_add(self._places.astype(np.int64, copy=False), each, sums)
        self._store.add_rows(self.table.name, self._rows, sums, self._lr)
        return np.zeros(self._shape, grad.dtype)
