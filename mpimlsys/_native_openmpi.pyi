"""The compiled extension (csrc/bindings); ``mpimlsys.native.load`` picks the flavour.

Collectives raise ``ConfigError`` for arrays that cannot be used or that differ between ranks (the
same error on every rank when ``check`` is on), ``Timeout`` when a rank did not take part, and
``RankFailed`` when MPI lost one. An *array* is C-contiguous and writable: a NumPy array or any
object with the buffer protocol. ``dtype`` names the element type where NumPy has no name for it.
"""

from typing import Any, Literal, TypeAlias, TypedDict

_Op: TypeAlias = Literal["sum", "average", "min", "max"]

class _BuildInfo(TypedDict):
    version: str
    flavour: str
    library: str
    handle_size: int
    compiler: str
    cxx_standard: int
    isa_levels: list[str]

class Transport:
    """A network of ranks. It runs one collective at a time; after a failure it stays broken."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...

def MpiTransport(comm_address: int, comm_handle_size: int) -> Transport:
    """Over the ``MPI_Comm`` stored at an address, which must outlive it and return errors."""

def attach_board(transport: Transport, *, patient: bool, timeout_s: float = 300.0) -> bool:
    """Let the ranks meet in shared memory, if they can; whether they can. Collective.

    ``patient`` ranks do not keep a core while they wait.
    """

class Window:
    """This rank's block of memory that the ranks of a machine share; supports the buffer protocol.

    An all-reduce of arrays that lie at the same place of one window copies nothing.
    """

def make_window(transport: Transport, nbytes: int, *, timeout_s: float = 300.0) -> Window | None:
    """A block of zeroed bytes; None on all ranks where they share no memory. Collective."""

class ThreadWorld:
    """Ranks as threads of this process, for tests."""

    def __init__(self, size: int) -> None: ...
    @property
    def size(self) -> int: ...
    def transport(self, rank: int) -> Transport: ...

def all_reduce(
    transport: Transport,
    array: Any,
    op: _Op = "sum",
    *,
    dtype: str | None = None,
    label: str = "",
    timeout_s: float = 300.0,
    segment_bytes: int = ...,
    check: bool = True,
) -> None:
    """Combine ``array`` elementwise over the ranks, in place; the same bits on all of them."""

def broadcast(
    transport: Transport,
    array: Any,
    root: int,
    *,
    dtype: str | None = None,
    label: str = "",
    timeout_s: float = 300.0,
    segment_bytes: int = ...,
    check: bool = True,
) -> None:
    """Copy the root's ``array`` into every rank's; the root's may be read-only."""

def all_gather(
    transport: Transport,
    mine: Any,
    whole: Any,
    *,
    label: str = "",
    timeout_s: float = 300.0,
    segment_bytes: int = ...,
    check: bool = True,
) -> None:
    """Fill ``whole`` with every rank's ``mine``, in the order of the ranks."""

def barrier(transport: Transport, *, label: str = "", timeout_s: float = 300.0) -> None:
    """Return when every rank has called it."""

class Engine:
    """A background thread that runs operations in the order in which they are submitted.

    It owns the transport and keeps the arrays alive. The first failure ends it: every later call
    raises that failure.
    """

    def __init__(self, transport: Transport) -> None: ...
    def all_reduce(
        self,
        array: Any,
        op: _Op = "sum",
        *,
        dtype: str | None = None,
        label: str = "",
        timeout_s: float = 300.0,
        segment_bytes: int = ...,
        check: bool = True,
    ) -> int:
        """Submit an all-reduce and return its ticket."""

    def broadcast(
        self,
        array: Any,
        root: int,
        *,
        dtype: str | None = None,
        label: str = "",
        timeout_s: float = 300.0,
        segment_bytes: int = ...,
        check: bool = True,
    ) -> int:
        """Submit a broadcast and return its ticket."""

    def wait(self, ticket: int, *, timeout_s: float = 300.0) -> None:
        """Return when the operation is complete; its failure, or a ``Timeout``, is raised."""

    def done(self, ticket: int) -> bool:
        """Whether ``wait`` would return or raise at once."""

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Let submitted operations finish for this long, then give them up."""

def build_info() -> _BuildInfo:
    """What the extension was compiled with."""

def isa_levels() -> list[str]:
    """Instruction sets that this machine can run, slowest first."""

def isa() -> str:
    """The instruction set in use; the fastest unless set."""

def set_isa(name: str) -> None:
    """Use another instruction set, for tests."""
