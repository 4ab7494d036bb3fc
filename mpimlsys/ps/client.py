"""A worker's side of the parameter servers, from Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mpimlsys import context
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, nearest
from mpimlsys.network import InlineEngine
from mpimlsys.ps.snapshot import Snapshot
from mpimlsys.ps.table import Table
from mpimlsys.ps.wiring import wire
from mpimlsys.types import Array

_PIECE_BYTES = 32 << 20


class Client:
    """Pushes gradients and pulls parameters. Requests go to all servers at once.

    Arrays of a request must stay as they are until :meth:`settle` has returned; only then pulled
    values are there.

    Example:
        >>> client = mls.ps.Client([mls.ps.Table("w", count=1000)])
        >>> client.push("w", gradient, lr=0.1, into=parameters)
        >>> client.settle()
        >>> client.close()
    """

    def __init__(
        self, tables: Sequence[Table], *, reads_only: bool = False, ctx: Context | None = None
    ) -> None:
        """Collective over the world: servers call :func:`mpimlsys.ps.serve`.

        Args:
            tables: as all workers name them.
            reads_only: this worker pushes nothing, and nobody waits for it.
            ctx: of the job.

        Raises:
            ConfigError: this rank is no worker, there are no servers, or ranks have different
                tables.
        """
        self._ctx = ctx = ctx or context.init()
        wiring = wire(ctx, tables)
        if ctx.role != "worker":
            raise ConfigError("a rank that is a parameter server calls mls.ps.serve().")
        self.tables = wiring.tables
        self.server_count = len(wiring.servers)
        self.transport = wiring.transport
        self._number = {table.name: index for index, table in enumerate(self.tables)}
        self.native: Any = ctx.native.Client(
            wiring.transport,
            wiring.native_tables(ctx.native),
            servers=wiring.servers,
            patience_s=0.9 * ctx.timeout_s,
            worker=wiring.workers.index(ctx.rank),
        )
        self._closed = False
        ctx.call_at_close(self.close)
        if reads_only:
            self.native.observe(timeout_s=ctx.timeout_s)

    def push(
        self,
        table: str,
        gradient: Array,
        *,
        lr: float,
        into: Array | None = None,
        plain: bool = False,
    ) -> None:
        """Send this step's gradient of a dense table.

        Args:
            table: its name.
            gradient: (count,) float32, C-contiguous.
            lr: learning rate.
            into: (count,) float32; gets the parameters once consistency allows it.
            plain: both travel as float32, whatever the table's codec.
        """
        self._ctx.native.ps_push(
            self.transport, self.native, self.number(table), gradient, into, rate=lr, plain=plain
        )

    def pull(self, table: str, into: Array, *, plain: bool = False) -> None:
        """Ask for the parameters of a dense table, as ``into`` of :meth:`push`.

        Where the table has a codec, they are what the servers have told so far, and come closer
        to the parameters with each pull.
        """
        self._ctx.native.ps_pull(self.transport, self.native, self.number(table), into, plain=plain)

    def push_rows(self, table: str, rows: Array, gradients: Array, *, lr: float) -> None:
        """Send this step's gradients of some rows; those of repeated rows are summed.

        Args:
            table: its name.
            rows: (n,) uint64; may be empty, as steps are counted by their pushes.
            gradients: (n, width) float32.
            lr: learning rate.
        """
        self._ctx.native.ps_push_rows(
            self.transport, self.native, self.number(table), rows, gradients, rate=lr
        )

    def pull_rows(self, table: str, rows: Array, into: Array) -> None:
        """Ask for rows: (n,) uint64 ``into`` (n, width) float32."""
        self._ctx.native.ps_pull_rows(self.transport, self.native, self.number(table), rows, into)

    def settle(self, label: str = "") -> None:
        """Wait until all requests are complete.

        Raises:
            Timeout: other workers did not push, and which, or a server does not answer.
            ConfigError: a server refused a request.
        """
        self._ctx.native.ps_settle(
            self.transport, self.native, label=label, timeout_s=self._ctx.timeout_s
        )

    def snapshot(self, table: str, *, since: Sequence[int] | None = None) -> Snapshot:
        """The table as it is now, to be read while others go on; settles first.

        Each server's share is of one moment: no push is half in it. With ``"bsp"``, the snapshot
        of a worker that trains is the table after the steps that it has pushed, on all servers.

        Args:
            table: its name.
            since: :attr:`Snapshot.versions` of an earlier one: only what may have changed after
                it.

        Raises:
            ConfigError: there was no such version, or too many snapshots are being read.
            Timeout: other workers did not push, or a server does not answer.
        """
        return Snapshot(self, self.number(table), since, self._ctx.timeout_s)

    def read(self, table: str) -> tuple[Array, int]:
        """All of a dense table's parameters and its optimiser's state; settles first.

        Returns:
            (1 + state arrays, count) float32, and the updates that the table has had.
        """
        number = self.number(table)
        spec = self.tables[number]
        whole = np.empty((self._arrays(spec), spec.count), np.float32)
        updates = 0
        for server, at, first, count in self._pieces(spec):
            values, updates, _ = self.native.read(
                number, server, first, count, timeout_s=self._ctx.timeout_s
            )
            whole[:, at : at + count] = values.reshape(-1, count)
        return whole, updates

    def write(self, table: str, values: Array, *, updates: int = 0, steps: int = 0) -> None:
        """Put a dense table in place; settles first.

        One worker does so while the others ask for nothing, and all then :meth:`resume_at`.

        Args:
            table: its name.
            values: as from :meth:`read`, or the parameters alone: (count,) float32; then its state
                begins with zeros.
            updates: that the table has had.
            steps: that every worker has pushed.
        """
        number = self.number(table)
        spec = self.tables[number]
        given = np.atleast_2d(values)
        for server, at, first, count in self._pieces(spec):
            piece = np.zeros((self._arrays(spec), count), np.float32)
            piece[: len(given)] = given[:, at : at + count]
            self.native.write(
                number,
                server,
                first,
                count,
                piece.reshape(-1),
                updates=updates,
                steps=steps,
                timeout_s=self._ctx.timeout_s,
            )

    def read_rows(self, table: str, part: int, parts: int) -> tuple[Array, Array, int]:
        """Some of a table's rows with their optimiser's state; settles first.

        Args:
            table: its name.
            part: which part of the rows; each worker may read another one.
            parts: how many there are.

        Returns:
            (n,) uint64 rows, (n, width + state) float32, and the updates that the table has had.
        """
        number = self.number(table)
        rows, values, updates = [], [], 0
        for server, first, count in self._slots(number, part, parts):
            piece, updates, _ = self.native.read(
                number, server, first, count, timeout_s=self._ctx.timeout_s
            )
            rows.append(self._native(number).rows_of(self.server_count, server, first, count))
            values.append(piece.reshape(count, -1))
        if not rows:
            width = self._native(number).entry_floats
            return np.empty(0, np.uint64), np.empty((0, width), np.float32), 0
        return np.concatenate(rows), np.concatenate(values), updates

    def part_of_rows(self, table: str, part: int, parts: int) -> Array:
        """The rows that :meth:`write_rows` takes, (n,) uint64."""
        number = self.number(table)
        found = [
            self._native(number).rows_of(self.server_count, server, first, count)
            for server, first, count in self._slots(number, part, parts)
        ]
        return np.concatenate(found) if found else np.empty(0, np.uint64)

    def write_rows(
        self, table: str, part: int, parts: int, values: Array, *, updates: int, steps: int = 0
    ) -> None:
        """Put rows in place, as :meth:`read_rows` gives them; settles first.

        Workers may each write a part of their own, while none asks for anything else; then all
        :meth:`resume_at`.

        Args:
            table: its name.
            part, parts: which rows: those of :meth:`part_of_rows`.
            values: (n, width + state) float32, in that order.
            updates: that the table has had.
            steps: that every worker has pushed.
        """
        number = self.number(table)
        at = 0
        for server, first, count in self._slots(number, part, parts):
            self.native.write(
                number,
                server,
                first,
                count,
                np.ascontiguousarray(values[at : at + count], np.float32).reshape(-1),
                updates=updates,
                steps=steps,
                timeout_s=self._ctx.timeout_s,
            )
            at += count

    def spread_hot_rows(self, table: str, *, updates: int, steps: int = 0) -> None:
        """Bring hot rows from where they are to the other servers; settles first.

        One worker does so when all have done :meth:`write_rows`.

        Args:
            table: its name.
            updates, steps: as for :meth:`write_rows`.
        """
        number, timeout_s = self.number(table), self._ctx.timeout_s
        for server in range(self.server_count):
            replicas = self._native(number).replicas(self.server_count, server)
            values = [
                self.native.read(number, home, place, 1, timeout_s=timeout_s)[0]
                for _, home, place in replicas
            ]
            first = self.native.share(number, server)
            most = max(1, _PIECE_BYTES // (4 * self._native(number).entry_floats))
            for at in range(0, len(values), most):
                piece = np.concatenate(values[at : at + most])
                self.native.write(
                    number,
                    server,
                    first + at,
                    len(values[at : at + most]),
                    piece,
                    updates=updates,
                    steps=steps,
                    timeout_s=timeout_s,
                )

    def resume_at(self, table: str, steps: int) -> None:
        """Go on as if this worker had pushed so many steps of a table."""
        self.native.resume_at(self.number(table), steps)

    def open_engine(self) -> Any:
        """A background thread for requests; no others may be made while it has some."""
        network = self._ctx.network
        if network.thread_multiple:
            return network.engine(self.transport)
        return InlineEngine(self._ctx.native, self.transport)

    @property
    def staleness(self) -> list[int]:
        """Pulls that found the slowest worker 0, 1, ... steps behind; the last counts all above."""
        found: list[int] = self.native.staleness
        return found

    def close(self) -> None:
        """Tell the servers that this worker is done; they end when all are.

        Called at exit too.
        """
        if self._closed:
            return
        self._closed = True
        self._ctx.native.ps_leave(self.transport, self.native, timeout_s=self._ctx.timeout_s)

    def number(self, table: str) -> int:
        """The place of a table among the tables."""
        if table not in self._number:
            raise ConfigError(f"there is no table {table!r}.{nearest(table, self._number)}")
        return self._number[table]

    def _native(self, number: int) -> Any:
        return self.tables[number].native(self._ctx.native)

    def _slots(self, number: int, part: int, parts: int) -> Iterator[tuple[int, int, int]]:
        """What is read or written of a part of a table of rows: server, first place, places."""
        most = max(1, _PIECE_BYTES // (4 * self._native(number).entry_floats))
        for server in range(self.server_count):
            share = self.native.share(number, server)
            start, stop = share * part // parts, share * (part + 1) // parts
            for first in range(start, stop, most):
                yield server, first, min(most, stop - first)

    def _arrays(self, spec: Table) -> int:
        """Arrays of a dense table: the parameters, and the optimiser's state."""
        arrays: int = spec.native(self._ctx.native).entry_floats
        return arrays

    def _pieces(self, spec: Table) -> Iterator[tuple[int, int, int, int]]:
        """What is read or written at a time: server, start in the table and share, elements."""
        most = _PIECE_BYTES // (4 * self._arrays(spec))
        for server in range(self.server_count):
            start, length = self._ctx.native.dense_range(spec.count, self.server_count, server)
            for first in range(0, length, most):
                yield server, start + first, first, min(most, length - first)
