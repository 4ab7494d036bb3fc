"""The compiled extension (csrc/bindings); ``mpimlsys.native.load`` picks the flavour.

Collectives raise ``ConfigError`` for arrays that cannot be used or that differ between ranks (the
same error on every rank when ``check`` is on), ``Timeout`` when a rank did not take part, and
``RankFailed`` when MPI lost one. An *array* is C-contiguous and writable: a NumPy array or any
object with the buffer protocol. ``dtype`` names the element type where NumPy has no name for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

_Op: TypeAlias = Literal["sum", "average", "min", "max", "product"]
_Algorithm: TypeAlias = Literal[
    "auto", "ring", "doubling", "halving", "shared", "hierarchical", "mpi"
]
_Order: TypeAlias = Literal["any", "tree"]

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
    def standing(self) -> dict[str, Any]:
        """What it does or did last; may be called on any thread.

        ``operation``, ``label``, ``dtype`` (empty: none of ours), ``axes`` (-1: no array),
        ``shape`` (at most four lengths), ``number`` (0: nothing yet), ``running``, ``started_s``,
        ``ended_s`` (seconds ago), ``left_s`` (to the deadline), ``step``, ``steps``, ``peer``
        (-1: none) and ``failure`` (why it is broken).
        """

    def abandon(self, why: str) -> None:
        """Make every wait of it end soon, with a ``Timeout`` that gives this reason."""

def MpiTransport(comm_address: int, comm_handle_size: int) -> Transport:
    """Over the ``MPI_Comm`` stored at an address, which must outlive it and return errors."""

def place(transport: Transport, nodes: Sequence[int]) -> None:
    """Tell the node of every rank, by numbers that are the same on all ranks."""

def choose(transport: Transport, choices: Sequence[tuple[int, str]]) -> None:
    """What ``auto`` stands for: up to so many bytes, this algorithm. The same on all ranks."""

def attach_board(
    transport: Transport, mates: Transport, *, patient: bool, timeout_s: float = 300.0
) -> bool:
    """Let the ranks of a node meet in shared memory, if they can; whether they can. Collective.

    ``mates`` is a transport of those ranks only. ``patient`` ranks do not keep a core while they
    wait.
    """

class Window:
    """This rank's block of memory that the ranks of a machine share; supports the buffer protocol.

    An all-reduce of arrays that lie in one window copies nothing.
    """

def make_window(transport: Transport, nbytes: int, *, timeout_s: float = 300.0) -> Window | None:
    """A block of zeroed bytes; None on all ranks where they share no memory. Collective."""

class Trace:
    """What the threads of this rank did when; off until started, bounded (csrc/comm/trace.hpp).

    The thread that makes it is called ``main``.
    """

    def __init__(self) -> None: ...
    @property
    def on(self) -> bool: ...
    def start(self, limit: int) -> None:
        """Forget the events so far and take up to ``limit`` new ones."""

    def stop(self) -> None: ...
    def name_thread(self, name: str) -> None:
        """Give the calling thread a track of this name."""

    def add(self, name: str, start_s: float, end_s: float, number: int = 0) -> None:
        """Note what the calling thread did; times of ``time.perf_counter``."""

    def records(self) -> tuple[npt.NDArray[np.void], list[str], list[str], int]:
        """Events, their names, their tracks, and how many were beyond the limit.

        Events have the fields ``start_ns``, ``duration_ns``, ``bytes``, ``number``, ``name`` and
        ``track``. The first track is that of what waits for a thread.
        """

def note_in(transport: Transport, trace: Trace) -> None:
    """Let the collectives of a new transport be noted."""

def exchange_clocks(
    transport: Transport, turns: int, *, timeout_s: float = 300.0
) -> npt.NDArray[np.void]:
    """When messages to rank 0 were ``sent``, ``answered`` and ``received`` (ns). Collective.

    ``answered`` is by rank 0's clock, the others by this rank's; empty on rank 0.
    """

class ThreadWorld:
    """Ranks as threads of this process, for tests."""

    def __init__(self, size: int) -> None: ...
    @property
    def size(self) -> int: ...
    def transport(self, rank: int) -> Transport: ...

class Parts:
    """Parts from all ranks, in their order."""

    @property
    def lengths(self) -> list[int]:
        """Bytes of each."""
    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The parts one after the other."""

def all_reduce(
    transport: Transport,
    array: Any,
    op: _Op = "sum",
    *,
    dtype: str | None = None,
    algorithm: _Algorithm = "auto",
    order: _Order = "any",
    label: str = "",
    timeout_s: float = 300.0,
    segment_bytes: int = 0,
    check: bool = True,
) -> None:
    """Combine ``array`` elementwise over the ranks, in place; the same bits on all of them."""

def grouped_all_reduce(
    transport: Transport,
    arrays: Sequence[Any],
    op: _Op = "sum",
    *,
    dtype: str | None = None,
    fusion_bytes: int = ...,
    algorithm: _Algorithm = "auto",
    order: _Order = "any",
    label: str = "",
    timeout_s: float = 300.0,
) -> None:
    """The same on arrays of one type, which are copied together up to ``fusion_bytes``."""

def reduce_scatter(
    transport: Transport,
    array: Any,
    op: _Op = "sum",
    *,
    row: int = 1,
    dtype: str | None = None,
    order: _Order = "any",
    label: str = "",
    timeout_s: float = 300.0,
) -> None:
    """Leave this rank's part of the combination in its place; the rest is undefined.

    Parts differ by at most one row of so many elements, longer ones first.
    """

def broadcast(
    transport: Transport,
    array: Any,
    root: int,
    *,
    dtype: str | None = None,
    label: str = "",
    timeout_s: float = 300.0,
    segment_bytes: int = 0,
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
    segment_bytes: int = 0,
    check: bool = True,
) -> None:
    """Fill ``whole`` with every rank's ``mine``, in the order of the ranks."""

def gather_parts(
    transport: Transport,
    mine: Any,
    *,
    row_bytes: int = 1,
    dtype: str | None = None,
    label: str = "",
    timeout_s: float = 300.0,
) -> Parts:
    """Every rank's ``mine``, whose lengths may differ; rows must be of one size."""

def all_to_all(
    transport: Transport,
    sent: Any,
    lengths: Sequence[int],
    *,
    row_bytes: int = 1,
    dtype: str | None = None,
    label: str = "",
    timeout_s: float = 300.0,
) -> Parts:
    """A part of ``sent`` to each rank, of so many bytes; the parts that come from all."""

def compressed_all_reduce(
    transport: Transport,
    array: Any,
    memory: Compressor,
    spec: Spec,
    *,
    step: int,
    measure: bool = False,
    label: str = "",
    timeout_s: float = 300.0,
    check: bool = True,
) -> None:
    """Sum float32 over the ranks in place, as frames; the same bits on all of them.

    ``step`` is the same on all ranks and another each time. With ``measure``, ``memory.error`` is
    known afterwards where there is error feedback. Raises ``CorruptData`` for a damaged frame,
    with the rank that it came from.
    """

def barrier(transport: Transport, *, label: str = "", timeout_s: float = 300.0) -> None:
    """Return when every rank has called it."""

class Engine:
    """A background thread that runs operations in the order in which they are submitted.

    It owns the transport and keeps the arrays alive. The first failure ends it: every later call
    raises that failure.
    """

    def __init__(self, transport: Transport) -> None: ...
    def all_reduce(self, array: Any, op: _Op = "sum", **options: Any) -> int:
        """Submit an operation and return its ticket; the options are those of the function."""

    def grouped_all_reduce(self, arrays: Sequence[Any], op: _Op = "sum", **options: Any) -> int: ...
    def reduce_scatter(self, array: Any, op: _Op = "sum", **options: Any) -> int: ...
    def broadcast(self, array: Any, root: int, **options: Any) -> int: ...
    def all_gather(self, mine: Any, whole: Any, **options: Any) -> int: ...
    def compressed_all_reduce(
        self, array: Any, memory: Compressor, spec: Spec, **options: Any
    ) -> int:
        """The memory must not be looked at before the ticket's operation is complete."""

    def barrier(self, **options: Any) -> int: ...
    def ps_push(self, client: Client, table: int, gradient: Any, into: Any, **options: Any) -> int:
        """Requests to servers; those of one client go through one engine."""

    def ps_pull(self, client: Client, table: int, into: Any, **options: Any) -> int: ...
    def ps_push_rows(
        self, client: Client, table: int, rows: Any, gradients: Any, **options: Any
    ) -> int: ...
    def ps_pull_rows(self, client: Client, table: int, rows: Any, into: Any) -> int: ...
    def ps_settle(self, client: Client, **options: Any) -> int: ...
    def ps_leave(self, client: Client, **options: Any) -> int: ...
    def gather_parts(self, mine: Any, **options: Any) -> tuple[int, Parts]:
        """The parts are there when the ticket's operation is complete."""

    def all_to_all(
        self, sent: Any, lengths: Sequence[int], **options: Any
    ) -> tuple[int, Parts]: ...
    def wait(self, ticket: int, *, timeout_s: float = 300.0) -> None:
        """Return when the operation is complete; its failure, or a ``Timeout``, is raised."""

    def done(self, ticket: int) -> bool:
        """Whether ``wait`` would return or raise at once."""

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Let submitted operations finish for this long, then give them up."""

class Spec:
    """How to encode: a codec of the table with its options, see ``csrc/codec/codec.hpp``."""

    def __init__(
        self,
        codec: str,
        *,
        amount: float = 0.0,
        values: str = "none",
        stochastic: bool = False,
        sampled: bool = False,
        unbiased: bool = False,
    ) -> None: ...
    @property
    def codec(self) -> str: ...
    @property
    def amount(self) -> float: ...
    @property
    def sparse(self) -> bool: ...
    @property
    def granule(self) -> int:
        """Elements; an array may be cut at multiples of it, 0 where it cannot be cut."""
    @property
    def told(self) -> str:
        """The codec and all options in words; the same for the same."""

class _CodecRow(TypedDict):
    name: str
    combines: Literal["sum", "gather"]
    sparse: bool
    granule: int
    fixed_size: bool

_Floats: TypeAlias = npt.NDArray[np.float32]
_Bytes: TypeAlias = npt.NDArray[np.uint8]

def codecs() -> list[_CodecRow]:
    """The rows of the codec table."""

def frame_bound(spec: Spec, count: int) -> int:
    """Bytes of a frame of ``count`` elements at most; exactly, where the row says fixed_size."""

def encode(spec: Spec, x: _Floats, *, key: int = 0, first: int = 0) -> _Bytes:
    """A frame (docs/wire.md). Numbers are drawn from stream ``key``, from ``first`` on."""

def encode_into(spec: Spec, x: _Floats, frame: _Bytes, *, key: int = 0, first: int = 0) -> int:
    """The same into an array that has room for the bound; returns the bytes of the frame.

    Other threads of Python run meanwhile.
    """

def decode(frame: _Bytes, *, most: int = ...) -> _Floats:
    """What a frame holds. Raises ``CorruptData`` unless it is sound, of ``most`` elements."""

def decode_into(frame: _Bytes, into: _Floats) -> None:
    """The same into an array of as many elements; other threads of Python run meanwhile."""

def add_into(frame: _Bytes, factor: float, into: _Floats) -> None:
    """``into += factor * decode(frame)``."""

def check_frame(frame: _Bytes, spec: Spec, count: int) -> None:
    """Raises ``CorruptData`` unless it is a sound frame of this codec and number of elements."""

def draw_basis(count: int, key: int) -> _Floats:
    """A start for the Q of PowerSGD, the same on any machine."""

def orthonormalise(matrices: Sequence[tuple[int, int, int]], rank: int, p: _Floats) -> None:
    """Make the columns of every P orthonormal; they follow one another, column by column."""

def crc32c(data: _Bytes) -> int:
    """The checksum of frames."""

class Compressor:
    """What one array keeps between compressed all-reduces, and how it is compressed.

    ``parts`` are (start, length) of what is compressed, ascending; the rest travels as it is.
    ``matrices`` are (start, rows, columns) of what ``power_sgd`` factorises: they follow one
    another and fill the parts. ``seed`` is of this array, the same on all ranks.
    """

    def __init__(
        self,
        count: int,
        *,
        parts: Sequence[tuple[int, int]],
        matrices: Sequence[tuple[int, int, int]] = (),
        feedback: Literal["none", "classic", "ef21"] = "none",
        momentum: float = 0.0,
        clip_norm: float = 0.0,
        pattern: Literal["auto", "ring", "owners", "gather", "balanced"] = "auto",
        seed: int = 0,
    ) -> None: ...
    @property
    def sent_bytes(self) -> int:
        """By this rank in the last exchange, of what is compressed."""
    @property
    def messages(self) -> int: ...
    @property
    def error(self) -> float:
        """``|C(y) - y|^2 / |y|^2`` of the last exchange; negative where it was not measured."""

    def carry_on(self, gradient: _Floats) -> None:
        """Put what momentum makes of it in its place, where there is one rank only."""

    def state(self) -> dict[str, _Floats]:
        """Copies of what is kept, by name; of this rank, what is not used yet left out."""

    def load_state(self, state: Mapping[str, _Floats]) -> None:
        """Take such a state over; names that are missing begin anew."""

def can_travel(
    spec: Spec,
    feedback: Literal["none", "classic", "ef21"],
    pattern: Literal["auto", "ring", "owners", "gather", "balanced"],
) -> bool:
    """Whether frames of this codec can travel so."""

def balanced_selection(spec: Spec) -> Spec:
    """For a balanced exchange of a device's array: how its frame of the largest is made."""

def balanced_frames(
    spec: Spec, selection: _Bytes, count: int, *, rank: int, size: int, key: int
) -> tuple[_Bytes, list[int], _Bytes]:
    """What a rank sends of that frame: frames for all owners one after the other, and their bytes;

    and a frame of what they say, for the array. Raises ``CorruptData`` for a damaged selection.
    """

def balanced_telling(spec: Spec, count: int, *, size: int, share: int) -> Spec:
    """How an owner of ``share`` of ``count`` elements makes its frame of their sums."""

class Table:
    """What servers hold under a name; ``mpimlsys.ps.Table`` says what the arguments mean.

    ``kind`` is ``"dense"`` or ``"rows"``, ``staleness`` that of ``consistency="ssp"``.
    """

    def __init__(
        self,
        name: str,
        *,
        kind: Literal["dense", "rows"] = "dense",
        count: int,
        width: int = 1,
        rule: str = "sgd",
        numbers: Mapping[str, float] = ...,
        consistency: Literal["bsp", "ssp", "asp"] = "bsp",
        staleness: int = 0,
        decayed: Sequence[tuple[int, int]] = (),
        spread: Literal["hash", "range"] = "hash",
        initial: Literal["zeros", "uniform", "normal"] = "zeros",
        scale: float = 0.0,
        seed: int = 0,
        urgency: int = 0,
        codec: Spec = ...,
        feedback: bool = True,
        hot: Sequence[int] = (),
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def entry_floats(self) -> int:
        """Numbers of an element or row, with those of its rule."""

    def rows_of(self, servers: int, server: int, start: int, length: int) -> npt.NDArray[np.uint64]:
        """The rows that one of so many servers has at some of its places, (length,)."""

    def replicas(self, servers: int, server: int) -> list[tuple[int, int, int]]:
        """Hot rows that a server has behind its share: each with the server and place it is at."""

class Server:
    """One shard of all tables: number ``index`` of so many ``servers``, for ``workers`` (ranks)."""

    def __init__(
        self,
        transport: Transport,
        tables: Sequence[Table],
        *,
        index: int,
        servers: int,
        workers: Sequence[int],
    ) -> None: ...
    def run(self, *, timeout_s: float = 300.0) -> None:
        """Serve until all workers have left or ``stop`` is called.

        ``timeout_s`` is how long a worker may wait for others. Other threads of Python run
        meanwhile.
        """

    def stop(self) -> None:
        """End ``run`` soon; from any thread."""

    def counts(self) -> dict[str, int]:
        """``requests``, ``refused``, ``pushes`` and ``pulls`` so far, and how many ``waiting``."""

class Client:
    """A worker's requests to ``servers`` (ranks); the functions below and the engine run them."""

    def __init__(
        self,
        transport: Transport,
        tables: Sequence[Table],
        *,
        servers: Sequence[int],
        patience_s: float = 300.0,
        worker: int = 0,
    ) -> None: ...
    def resume_at(self, table: int, steps: int) -> None:
        """Go on as if so many steps had been pushed."""

    def feedback(self, table: int) -> tuple[_Floats, int]:
        """What compressed pushes left out, (count,) or empty, and how many pushes there were."""

    def share(self, table: int, server: int) -> int:
        """Elements or rows of a server's share."""

    def set_feedback(self, table: int, residual: _Floats, pushes: int) -> None:
        """Take such a state over."""

    @property
    def sent_bytes(self) -> int: ...
    @property
    def staleness(self) -> list[int]:
        """Pulls that found the slowest worker 0, 1, ... steps behind; the last counts all above."""

    def read(
        self, table: int, server: int, start: int, length: int, *, timeout_s: float = 300.0
    ) -> tuple[_Floats, int, int]:
        """Entries of a server's share with their rule's state, its updates, and steps of all."""

    def write(
        self,
        table: int,
        server: int,
        start: int,
        length: int,
        values: _Floats,
        *,
        updates: int,
        steps: int,
        timeout_s: float = 300.0,
    ) -> None:
        """Put such entries in their places."""

    def observe(self, *, timeout_s: float = 300.0) -> None:
        """Nobody waits for pushes of this worker, which makes none."""

    def snapshot(
        self, table: int, server: int, since: int | None, *, timeout_s: float = 300.0
    ) -> tuple[int, int]:
        """Begin one of a server's share: its number, and the updates that the table has had."""

    def piece(
        self, table: int, server: int, number: int, *, timeout_s: float = 300.0
    ) -> tuple[npt.NDArray[np.uint64], _Floats] | None:
        """Some of its entries, (n,), and their parameters, (n, width); None: all have come."""

    def drop(self, table: int, server: int, number: int, *, timeout_s: float = 300.0) -> None:
        """A snapshot need not be kept any longer."""

def ps_push(
    transport: Transport,
    client: Client,
    table: int,
    gradient: _Floats,
    into: _Floats | None = None,
    *,
    rate: float,
    plain: bool = False,
) -> None:
    """Begin to send a gradient, and to receive parameters where ``into`` is given.

    ``plain``: as float32, whatever the table's codec.
    """

def ps_pull(
    transport: Transport, client: Client, table: int, into: _Floats, *, plain: bool = False
) -> None: ...
def ps_push_rows(
    transport: Transport,
    client: Client,
    table: int,
    rows: npt.NDArray[np.uint64],
    gradients: _Floats,
    *,
    rate: float,
) -> None: ...
def ps_pull_rows(
    transport: Transport, client: Client, table: int, rows: npt.NDArray[np.uint64], into: _Floats
) -> None: ...
def ps_settle(
    transport: Transport, client: Client, *, label: str = "", timeout_s: float = 300.0
) -> None:
    """Return when all requests are complete."""

def ps_leave(transport: Transport, client: Client, *, timeout_s: float = 300.0) -> None:
    """Tell the servers that this worker is done."""

def ps_verbs() -> list[tuple[str, bool, bool, str]]:
    """Of each request: name, whether it brings values, whether it receives some, and meaning."""

def dense_range(count: int, servers: int, server: int) -> tuple[int, int]:
    """Start and length of a server's share of a dense table."""

def build_info() -> _BuildInfo:
    """What the extension was compiled with."""

def isa_levels() -> list[str]:
    """Instruction sets that this machine can run, slowest first."""

def isa() -> str:
    """The instruction set in use; the fastest unless set."""

def set_isa(name: str) -> None:
    """Use another instruction set, for tests."""
