"""What this process holds of MPI: communicators, transports over them, background threads.

Guarantees: errors of the communicators become exceptions; threads end with :meth:`Network.close`.
Refusals: communicators live as long as the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpi4py import MPI

_OPERATIONS = (
    "all_reduce",
    "grouped_all_reduce",
    "reduce_scatter",
    "broadcast",
    "all_gather",
    "gather_parts",
    "all_to_all",
    "barrier",
    "ps_push",
    "ps_push_rows",
    "ps_pull_rows",
    "ps_settle",
    "ps_leave",
)


@dataclass(frozen=True)
class Link:
    """A transport and the ranks that it joins.

    Attributes:
        key: the same on all its ranks, and no other link's.
        ranks: in the world, in their order.
        background: whether its operations run on a thread of their own.
    """

    transport: Any
    ranks: tuple[int, ...]
    key: str
    background: bool


class Network:
    """Made once, by the context.

    Attributes:
        native: the extension that fits the running MPI.
        timeout_s: longest wait of a collective.
        trace: where this rank notes what it does, off unless :func:`mpimlsys.trace` runs.
        thread_multiple: whether MPI may be called from several threads at once.
        links: of this process, in the order in which they were made; others may be added.
    """

    def __init__(self, native: Any, timeout_s: float) -> None:
        from mpi4py import MPI

        self.native = native
        self.timeout_s = timeout_s
        self.trace = native.Trace()
        self.thread_multiple = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.links: list[Link] = []
        self._communicators: list[MPI.Comm] = []
        self._engines: list[Any] = []

    def own(self, comm: MPI.Comm) -> MPI.Comm:
        """Keep ``comm``, which belongs to the package."""
        from mpi4py import MPI

        comm.Set_errhandler(MPI.ERRORS_RETURN)
        self._communicators.append(comm)
        return comm

    def transport(
        self, comm: MPI.Comm, *, background: bool = False, waiting: Sequence[int] = ()
    ) -> Any:
        """A transport of the extension over ``comm``, which must be owned.

        Args:
            comm: its ranks.
            background: whether operations run on a thread of their own.
            waiting: ranks in the world that wait for each other in it; all, unless some serve.
        """
        from mpi4py import MPI

        transport = self.native.MpiTransport(MPI._addressof(comm), MPI._sizeof(comm))
        self.native.note_in(transport, self.trace)
        ranks = tuple(waiting) or tuple(
            comm.Get_group().Translate_ranks(None, MPI.COMM_WORLD.Get_group())
        )
        # its members make their links in the same order
        count = sum(link.ranks == ranks for link in self.links)
        digest = hashlib.sha256(repr(ranks).encode()).hexdigest()[:16]
        self.links.append(Link(transport, ranks, f"{digest}-{count}", background))
        return transport

    def engine(self, transport: Any) -> Any:
        """A background thread over ``transport``, which it has for itself."""
        engine = self.native.Engine(transport)
        self._engines.append(engine)
        return engine

    def close(self) -> None:
        """Stop the background threads."""
        while self._engines:
            self._engines.pop().close(timeout_s=5.0)


class Blocking:
    """The extension's operations over one transport: they are complete when they return.

    Args:
        native: the extension.
        transport: of the ranks, for one thread at a time.
    """

    def __init__(self, native: Any, transport: Any) -> None:
        for name in _OPERATIONS:
            setattr(self, name, partial(getattr(native, name), transport))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class InlineEngine:
    """The interface of the native engine without its thread: operations run when submitted."""

    def __init__(self, native: Any, transport: Any) -> None:
        for name in _OPERATIONS:
            setattr(self, name, partial(self._run, getattr(native, name), transport))

    @staticmethod
    def _run(operation: Callable[..., Any], transport: Any, *args: Any, **options: Any) -> Any:
        parts = operation(transport, *args, **options)
        return 0 if parts is None else (0, parts)

    def wait(self, ticket: int, timeout_s: float) -> None:
        """Nothing is left to wait for."""

    def done(self, ticket: int) -> bool:  # noqa: ARG002 the native engine's signature
        """Every operation is complete when it is submitted."""
        return True

    def close(self, timeout_s: float) -> None:
        """Nothing runs."""
