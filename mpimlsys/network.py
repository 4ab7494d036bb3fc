"""What this process holds of MPI: communicators, transports over them, background threads.

Guarantees: errors of the communicators become exceptions; threads end with :meth:`Network.close`.
Refusals: communicators live as long as the process.
"""

from __future__ import annotations

from collections.abc import Callable
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
)


class Network:
    """Made once, by the context.

    Attributes:
        native: the extension that fits the running MPI.
        timeout_s: longest wait of a collective.
        trace: where this rank notes what it does, off unless :func:`mpimlsys.trace` runs.
        thread_multiple: whether MPI may be called from several threads at once.
    """

    def __init__(self, native: Any, timeout_s: float) -> None:
        from mpi4py import MPI

        self.native = native
        self.timeout_s = timeout_s
        self.trace = native.Trace()
        self.thread_multiple = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._communicators: list[MPI.Comm] = []
        self._engines: list[Any] = []

    def own(self, comm: MPI.Comm) -> MPI.Comm:
        """Keep ``comm``, which belongs to the package."""
        from mpi4py import MPI

        comm.Set_errhandler(MPI.ERRORS_RETURN)
        self._communicators.append(comm)
        return comm

    def transport(self, comm: MPI.Comm) -> Any:
        """A transport of the extension over ``comm``, which must be owned."""
        from mpi4py import MPI

        transport = self.native.MpiTransport(MPI._addressof(comm), MPI._sizeof(comm))
        self.native.note_in(transport, self.trace)
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
