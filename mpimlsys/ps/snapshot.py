"""A table of the parameter servers as it was at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mpimlsys.errors import ConfigError
from mpimlsys.types import Array

if TYPE_CHECKING:
    from mpimlsys.ps.client import Client


class Snapshot:
    """Made by :meth:`mpimlsys.ps.Client.snapshot`; iterate over it once.

    Servers keep aside what is written before it was read, so read it soon, or close it.

    Attributes:
        versions: updates that the table had had at each server.

    Example:
        >>> with client.snapshot("words", since=earlier.versions) as snapshot:
        ...     for rows, values in snapshot:
        ...         published[rows] = values
    """

    def __init__(
        self, client: Client, table: int, since: Sequence[int] | None, timeout_s: float
    ) -> None:
        servers = range(client.server_count)
        if since is not None and len(since) != len(servers):
            raise ConfigError(
                f"since has {len(since)} versions, but there are {len(servers)} servers: pass the "
                "versions of a snapshot of this job."
            )
        self._native, self._table, self._timeout_s = client.native, table, timeout_s
        self._left: dict[int, int] = {}  # numbers of what is still to be read, by server
        self.versions: tuple[int, ...] = ()
        try:
            for server in servers:
                number, updates = self._native.snapshot(
                    table, server, None if since is None else since[server], timeout_s=timeout_s
                )
                self._left[server] = number
                self.versions = (*self.versions, updates)
        except ConfigError:
            self.close()
            raise

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Entries: (n,) uint64, rows or elements, and their parameters: (n, width) float32."""
        while self._left:
            server = next(iter(self._left))
            piece = self._native.piece(
                self._table, server, self._left[server], timeout_s=self._timeout_s
            )
            if piece is None:
                del self._left[server]
            elif piece[0].size:
                yield piece

    def close(self) -> None:
        """Tell the servers that the rest is not wanted."""
        while self._left:
            server, number = self._left.popitem()
            self._native.drop(self._table, server, number, timeout_s=self._timeout_s)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
