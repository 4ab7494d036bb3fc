"""Ranks that communicate with each other: all of a role, or some of them chosen at run time.

Guarantees: each set has communicators of its own, so that operations of several sets may be under
way at once, in any order. Refusals: sets live as long as the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mpimlsys.choice import Table
from mpimlsys.errors import ConfigError
from mpimlsys.network import Blocking, InlineEngine, Network
from mpimlsys.types import Array

if TYPE_CHECKING:
    from mpi4py import MPI


class ProcessSet:
    """Some ranks of this role; made by :func:`mpimlsys.process_set`.

    Attributes:
        ranks: of the members among the ranks of this role, ascending.
        rank: this process's place among them; -1 where it is not a member.
        size: number of members.
        nodes: the node of each member.
    """

    def __init__(
        self,
        network: Network,
        comm: MPI.Comm | None,
        ranks: Sequence[int],
        nodes: Sequence[int],
        *,
        patient: bool,
    ) -> None:
        """Collective over the members, which pass their communicator; others pass None.

        Args:
            network: of this process.
            comm: the members' communicator, in the order of ``ranks``.
            ranks: of the members.
            nodes: the node of each.
            patient: whether members share cores, so that waiting must not keep one.
        """
        self.ranks = tuple(ranks)
        self.nodes = tuple(nodes)
        self.size = len(self.ranks)
        self.rank = comm.rank if comm else -1
        self._network = network
        self._patient = patient
        self._table: Table = []
        if comm is None:
            return
        from mpi4py import MPI

        self._comm = network.own(comm)
        mates = network.own(comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank))
        self._mates = network.transport(mates)
        self._transport = self._connected(comm)
        # made now, while all members are here: making it later would wait for them
        self._background = self._apart()

    def __repr__(self) -> str:
        return f"ProcessSet({list(self.ranks)})"

    @property
    def transport(self) -> Any:
        """The network of its members, for operations that the caller waits for.

        Raises:
            ConfigError: this process is not a member.
        """
        if self.rank < 0:
            raise ConfigError(
                f"this rank is not in the process set of ranks {list(self.ranks)}; call its "
                "operations on its members only (its rank is -1 on others)."
            )
        return self._transport

    @cached_property
    def engine(self) -> Any:
        """The background thread of the operations whose names end in ``_async``."""
        self.transport  # noqa: B018 for its error
        return self._engine_over(self._background)

    def open_engine(self) -> Any:
        """Another background thread with its own communicator. Collective."""
        return self._engine_over(self._apart())

    def open_blocking(self) -> Blocking:
        """Operations for a thread of the caller's own, with their own communicator. Collective."""
        transport = self._apart() or self._transport
        return Blocking(self._network.native, transport)

    @property
    def allows_threads(self) -> bool:
        """Whether another thread than the main one may wait for ranks."""
        return self._network.thread_multiple

    def duplicate(self) -> MPI.Comm:
        """A communicator of its members for other libraries. Collective."""
        self.transport  # noqa: B018 for its error
        return self._network.own(self._comm.Dup())

    def choose(self, table: Table) -> None:
        """What ``algorithm = "auto"`` stands for; the same on all members."""
        self._table = table
        for transport in (self._transport, self._background):
            if transport is not None:
                self._network.native.choose(transport, table)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """See :meth:`mpimlsys.context.Context.empty`. Collective."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        window = None
        if self._mates.size > 1:
            window = self._network.native.make_window(
                self._mates, nbytes, timeout_s=self._network.timeout_s
            )
        if window is not None:
            raw = np.frombuffer(window, np.uint8)
        else:
            raw = np.empty(nbytes + 64, np.uint8)
            raw = raw[-raw.ctypes.data % 64 :]
        return raw[:nbytes].view(dtype).reshape(shape)

    def _apart(self) -> Any:
        """A transport for a background thread; None where MPI allows no such threads."""
        if not self._network.thread_multiple:
            return None
        return self._connected(self._network.own(self._comm.Dup()), background=True)

    def _engine_over(self, transport: Any) -> Any:
        if transport is None:
            return InlineEngine(self._network.native, self._transport)
        return self._network.engine(transport)

    def _connected(self, comm: MPI.Comm, *, background: bool = False) -> Any:
        """A transport that knows where its ranks are; those of one node share memory."""
        native = self._network.native
        transport = self._network.transport(comm, background=background)
        native.place(transport, self.nodes)
        native.choose(transport, self._table)
        if self._mates.size > 1:
            native.attach_board(
                transport, self._mates, patient=self._patient, timeout_s=self._network.timeout_s
            )
        return transport
