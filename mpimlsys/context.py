"""Where this process stands: its rank, node and role, and its communicators.

``init()`` starts MPI once and returns the :class:`Context`; everything that communicates takes
it. The context of the process is the only module-level state of the package: MPI itself can be
started only once per process.

Guarantees: communicators of the package are duplicates, so that its messages never meet the
user's; every wait has a deadline. Refusals: it does not catch the death of other ranks.
"""

from __future__ import annotations

import atexit
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

from mpimlsys import choice, config
from mpimlsys.errors import (
    ConfigError,
    CorruptData,
    Diverged,
    MpimlsysError,
    RankFailed,
    Timeout,
)
from mpimlsys.hangs import Sentinel
from mpimlsys.jobfile import ClusterSection, CommSection
from mpimlsys.network import Network
from mpimlsys.process_sets import ProcessSet
from mpimlsys.roles import Role, assign_roles
from mpimlsys.types import Array

_MESSAGE_BYTES = 2048
_KINDS: dict[str, type[MpimlsysError]] = {
    cls.__name__: cls
    for cls in (ConfigError, CorruptData, Diverged, MpimlsysError, RankFailed, Timeout)
}
_current: Context | None = None


class Context:
    """Ranks, nodes, roles and communicators of this process; made by :func:`init`.

    Attributes:
        rank, size: in the world.
        node, node_count: index of this process's node, number of nodes.
        local_rank, local_size: among the ranks of the node.
        role: ``"worker"`` or ``"server"``.
        roles: of all ranks.
        world, node_comm: mpi4py communicators (duplicates that belong to the package).
        group: communicator of the ranks of this role (the workers' group on a worker).
        network: what this process holds of MPI.
        trace: where this rank notes what it does when, see :func:`mpimlsys.trace`.
        peers: the process set of all ranks of this role.
        choice: what ``algorithm = "auto"`` stands for among them; None where it is not needed.
        cores_of_node: cores that the ranks of the node may use together.
        cores: cores that this rank may use without sharing them with another rank of the node;
            as many threads are given to its matrix products.
        comm: how collectives are run.
        timeout_s: longest wait of a collective, from ``comm``.
        servers_called: whether workers and servers have met, see :mod:`mpimlsys.ps`.
    """

    def __init__(self, cluster: ClusterSection, comm: CommSection) -> None:
        config.prepare_mpi()
        self.native = _load_together()
        from mpi4py import MPI

        self.comm = comm
        self.timeout_s = timeout_s = comm.timeout_s
        self.network = network = Network(self.native, timeout_s)
        self.trace = network.trace
        self.world = network.own(MPI.COMM_WORLD.Dup())
        self.rank, self.size = self.world.rank, self.world.size
        _check_launcher(self.size)
        self.node_comm = network.own(self.world.Split_type(MPI.COMM_TYPE_SHARED, key=self.rank))
        self.local_rank, self.local_size = self.node_comm.rank, self.node_comm.size
        self.transport = network.transport(self.world)

        leader = np.array([self.rank], np.int64)
        self.native.broadcast(network.transport(self.node_comm), leader, 0, timeout_s=timeout_s)
        leaders = self.gather(leader)[:, 0]
        nodes = [int(node) for node in np.searchsorted(np.unique(leaders), leaders)]
        self.node, self.node_count = nodes[self.rank], max(nodes) + 1
        self.cores = self._cores(nodes)
        self.limit_blas_threads()

        self.cluster = cluster
        try:
            self.roles = assign_roles(self.size, nodes, cluster)
        except ConfigError as error:
            error.on_all_ranks = True  # a function of what all ranks know
            raise
        self.role: Role = self.roles[self.rank]
        self.group = self.world.Split(int(self.role == "server"), key=self.rank)
        self.peers = ProcessSet(
            network,
            self.group,
            range(self.group.size),
            [node for node, role in zip(nodes, self.roles, strict=True) if role == self.role],
            patient=self.cores_of_node < self.local_size,
        )
        self.servers_called = False
        self._leaving: list[Callable[[], None]] = []
        self._sentinel: Sentinel | None = None
        if self.size > 1:
            self._sentinel = Sentinel(network, self.rank, comm.stall_warning_s, self.gather_bytes)
        self.choice: choice.Choice | None = None
        if comm.algorithm == "auto" and self.role == "worker" and self.peers.size > 1:
            self.choice = choice.choose(
                self.native,
                self.peers.transport,
                self.peers.nodes,
                f"{MPI.Get_library_version()}, {self.cores_of_node} cores of {config.processor()}",
                config.environment().cache_folder,
            )
            self.peers.choose(self.choice.table)

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, the rank that speaks to the user."""
        return self.rank == 0

    def among_peers(self) -> Context:
        """This context as the ranks of this role see it: all that is collective is so over them."""
        if self.peers.size == self.size:
            return self
        view = copy.copy(self)
        view.rank, view.size = self.peers.rank, self.peers.size
        view.transport = self.peers.transport
        view.roles = (self.role,) * view.size
        return view

    def limit_blas_threads(self, requested: int = 0) -> int:
        """Set and return the threads of this rank's matrix products.

        Args:
            requested: how many; 0 takes the user's ``OMP_NUM_THREADS`` or its like, or else the
                cores that this rank need not share.
        """
        threads = requested or config.environment().blas_threads or self.cores
        threadpoolctl.threadpool_limits(threads, user_api="blas")
        return threads

    def empty(self, shape: int | tuple[int, ...], dtype: Any = np.float32) -> Array:
        """An array that the ranks of this role and node can reduce without copying. Collective.

        The seam of decision D1: memory that these ranks share, or private memory where they
        cannot share any. Each rank has its own array; it sees the others' only in collectives.

        Args:
            shape: the same on all ranks of the role on this node, or the array is as good as any
                other.
            dtype: of the elements.

        Returns:
            Array of ``shape`` aligned to 64 bytes, not initialised.
        """
        return self.peers.empty(shape, dtype)

    def process_set(self, ranks: Sequence[int]) -> ProcessSet:
        """See :func:`mpimlsys.process_set`. Collective over the ranks of this role."""
        own = np.array(sorted(ranks), np.int64)
        parts = self.native.gather_parts(self.peers.transport, own, timeout_s=self.timeout_s)
        asked = np.split(parts.data.view(np.int64), np.cumsum(parts.lengths)[:-1] // own.itemsize)
        try:
            check_members(asked, self.peers.size)
        except ConfigError as error:
            error.on_all_ranks = True  # a function of what all ranks know
            raise
        members = own.tolist()
        from mpi4py import MPI

        mine = self.peers.rank in members
        comm = self.group.Split(0 if mine else MPI.UNDEFINED, key=self.peers.rank)
        return ProcessSet(
            self.network,
            comm if mine else None,
            members,
            [self.peers.nodes[rank] for rank in members],
            patient=self.cores_of_node < self.local_size,
        )

    def gather(self, array: Array) -> Array:
        """Every rank's ``array`` stacked along a new first axis. Collective over the world.

        Args:
            array: the same shape and dtype on all ranks, C-contiguous.
        """
        stacked = np.empty((self.size, *array.shape), array.dtype)
        self.native.all_gather(self.transport, array, stacked, timeout_s=self.timeout_s)
        return stacked

    def broadcast_bytes(self, data: bytes) -> bytes:
        """Rank 0's ``data`` on every rank. Collective over the world."""
        length = np.array([len(data)], np.int64)
        self.native.broadcast(self.transport, length, 0, timeout_s=self.timeout_s)
        payload = np.zeros(int(length[0]), np.uint8)
        if self.is_root:
            payload[:] = np.frombuffer(data, np.uint8)
        self.native.broadcast(self.transport, payload, 0, timeout_s=self.timeout_s)
        return payload.tobytes()

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Every rank's ``data``, in the order of ranks. Collective over the world."""
        lengths = self.gather(np.array([len(data)], np.int64))[:, 0]
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: len(data)] = np.frombuffer(data, np.uint8)
        rows = zip(self.gather(padded), lengths, strict=True)
        return [row[:length].tobytes() for row, length in rows]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run a part that may fail on some ranks so that it fails on all. Collective.

        Raises:
            MpimlsysError: on every rank, of the kind and with the message of the lowest rank
                that failed.
        """
        failure: MpimlsysError | None = None
        try:
            yield
        except MpimlsysError as error:
            failure = error
        raise_together(self, failure)

    def abort(self, status: int) -> None:
        """End every rank of the job at once; for errors that only this rank knows of."""
        sys.stdout.flush()
        sys.stderr.flush()
        self.world.Abort(status)

    def log_stalls(self, path: Path) -> None:
        """Append reports of operations that wait too long to a file, beside standard error."""
        if self._sentinel is not None:
            self._sentinel.log_to(path)

    def call_at_close(self, leave: Callable[[], None]) -> None:
        """Have something done that other ranks wait for, at the latest at exit."""
        self._leaving.append(leave)

    def close(self) -> None:
        """Stop the background threads; called at exit."""
        for leave in self._leaving:
            try:
                leave()
            except MpimlsysError as error:  # the others would wait for ever
                print(f"mpimlsys: {error}", file=sys.stderr, flush=True)
                self.abort(1)
        if self._sentinel is not None:
            self._sentinel.close()
        self.network.close()

    def _cores(self, nodes: Sequence[int]) -> int:
        masks = np.zeros((self.size, 128), np.uint64)
        mask = np.zeros(128, np.uint64)
        for core in config.usable_core_ids():
            mask[core // 64] |= np.uint64(1) << np.uint64(core % 64)
        masks = self.gather(mask)
        mates = masks[[rank for rank, node in enumerate(nodes) if node == self.node]]
        self.cores_of_node = int(np.bitwise_count(np.bitwise_or.reduce(mates, axis=0)).sum())
        return cores_per_rank(mates, self.local_rank)


def init(cluster: ClusterSection | None = None, comm: CommSection | None = None) -> Context:
    """Start MPI and return the context of this process; later calls return the same one.

    Collective over the world. A single process without a launcher is a world of one rank. From
    then on, an exception that ends one rank ends the others too, which would wait for it.

    Args:
        cluster: how many parameter servers and where; none by default.
        comm: how collectives are run, such as ``mls.CommSection(timeout_s=60)``.

    Raises:
        ConfigError: the roles cannot be assigned, the extension does not fit the running MPI, or
            the package was initialised before with other arguments.

    Example:
        >>> ctx = init()
        >>> ctx.rank, ctx.size, ctx.role
        (0, 1, 'worker')
    """
    global _current
    if _current is None:
        _current = Context(cluster or ClusterSection(), comm or CommSection())
        atexit.register(_current.close)
        sys.excepthook = _ending_all_ranks(_current, sys.excepthook)
    for name, wanted in (("cluster", cluster), ("comm", comm)):
        if wanted is not None and wanted != (made := getattr(_current, name)):
            raise ConfigError(f"mpimlsys is already initialised with {made}; call init() once.")
    return _current


def check_members(asked: Sequence[Array], size: int) -> None:
    """Whether all ranks ask for the same process set of a role of ``size`` ranks.

    Raises:
        ConfigError: they do not, or it has a rank twice or that is none, or no member.
    """
    members = asked[0].tolist()
    for rank, other in enumerate(asked):
        if other.tolist() != members:
            raise ConfigError(
                f"the ranks disagree about a process set: rank 0 asked for ranks {members}, rank "
                f"{rank} for {other.tolist()}. All ranks call process_set, with the same ranks."
            )
    if not members or len(set(members)) < len(members) or not 0 <= members[0] <= members[-1] < size:
        raise ConfigError(
            f"a process set of ranks {members} cannot be: it needs different ranks from 0 to "
            f"{size - 1}, at least one."
        )


def fail_together(failure: MpimlsysError) -> None:
    """Raise on every rank what this one met before it had a context. Collective over the world.

    Ranks that met nothing take part in it with the first :meth:`Context.together` after
    :func:`init`.
    """
    raise_together(init(), failure)


def _load_together() -> Any:
    """The native extension. Collective over the world, which mpi4py starts.

    Raises:
        ConfigError: on every rank, when it cannot be used on any; on this one, without MPI.
    """
    from mpimlsys import native

    extension, failure = None, ""
    try:
        extension = native.load()
    except ConfigError as error:
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is None or not mpi.Is_initialized():
            raise
        failure = str(error)
    from mpi4py import MPI

    failures = [told for told in MPI.COMM_WORLD.allgather(failure) if told]
    if failures:
        misfit = ConfigError(failures[0])
        misfit.on_all_ranks = True
        raise misfit
    return extension


def _check_launcher(size: int) -> None:
    """A launcher that does not belong to the MPI starts many worlds of one rank.

    Raises:
        ConfigError: it is so; names the remedy.
    """
    environment = config.environment()
    started = environment.size_hint or 1
    if environment.launcher != "none" and size == 1 and started > 1:
        error = ConfigError(
            f"{environment.launcher} started {started} processes, but MPI sees a world of one: the "
            "launcher does not belong to the MPI in use. Use 'mpimlsys launch', which finds the "
            "right one (inside sbatch too), or with srun another --mpi (see srun --mpi=list)."
        )
        error.on_all_ranks = True
        raise error


def _ending_all_ranks(ctx: Context, previous: Callable[..., Any]) -> Callable[..., Any]:
    """An exception hook that aborts the job after the traceback, if other ranks do not know."""

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        previous(kind, error, trace)
        if ctx.size > 1 and not getattr(error, "on_all_ranks", False):
            ctx.abort(130 if kind is KeyboardInterrupt else 1)

    return hook


def current() -> Context | None:
    """The context of this process, None before :func:`init`."""
    return _current


def cores_per_rank(masks: Array, local_rank: int) -> int:
    """Cores that one rank of a node may use without sharing.

    Args:
        masks: (ranks of the node, words) uint64 affinity bit masks.
        local_rank: whose share.

    Returns:
        The size of its own mask where the launcher bound ranks to disjoint cores, else the
        node's cores divided by its ranks; at least 1.
    """
    counts = np.bitwise_count(masks).sum(axis=1)
    union = int(np.bitwise_count(np.bitwise_or.reduce(masks, axis=0)).sum())
    if counts.sum() == union:
        return max(1, int(counts[local_rank]))
    return max(1, union // len(masks))


def raise_together(ctx: Context, failure: MpimlsysError | None) -> None:
    """Raise on every rank what failed on any. Collective over the world.

    Args:
        failure: this rank's error, or None.
    """
    frame = np.zeros(_MESSAGE_BYTES, np.uint8)
    if failure is not None:
        kind = next(name for name, cls in _KINDS.items() if isinstance(failure, cls))
        told = f"{kind}\n{failure}".encode()[:_MESSAGE_BYTES]
        frame[: len(told)] = np.frombuffer(told, np.uint8)
    frames = ctx.gather(frame)
    failed = [rank for rank in range(ctx.size) if frames[rank, 0]]
    if not failed:
        return
    text = bytes(frames[failed[0]]).rstrip(b"\0").decode(errors="ignore")
    kind, _, message = text.partition("\n")
    if len(failed) < ctx.size:
        message = f"rank {failed[0]}: {message}"
    error = _KINDS[kind](message)
    error.on_all_ranks = True
    raise error from failure
