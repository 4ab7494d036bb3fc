"""Gradients to parameter servers, parameters back: the optimiser runs there.

Each bucket is a table, spread over all servers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpimlsys import compress, ps
from mpimlsys.compress import Codec, Compression
from mpimlsys.context import Context
from mpimlsys.errors import ConfigError
from mpimlsys.exchange import residuals, saved_rows
from mpimlsys.exchange.stateless import Stateless
from mpimlsys.types import Array, Bucket, Segment, State

# how long to wait beyond the operations' own deadline for their story
_STORY_S = 5.0
# steps that workers may be apart, whatever consistency allows, so that they hear of each other
_MOST_LAG = 64
# requests are numbered, and not all numbers can be told apart at the same time
_MOST_BUCKETS = 1000


@dataclass(frozen=True)
class ParameterServers:
    """The exchange with parameter servers; some ranks must be servers (``cluster.servers``).

    Args:
        consistency: ``"bsp"``: each step sees all updates of the step before; ``"ssp:3"``: a
            worker is at most 3 steps ahead of the slowest; ``"asp"``: nobody waits.
        embeddings: the model's layers whose rows are at the servers, such as
            :class:`mpimlsys.nn.ServedEmbedding`; their tables have a consistency of their own.
        compress: how gradients and parameters travel, such as ``"int8"``; with classic error
            feedback or none, and after a warm-up. None: as float32.
    """

    consistency: str = "bsp"
    embeddings: Sequence[Any] = ()
    compress: str | Codec | Compression | None = None

    def open(
        self,
        ctx: Context,
        buckets: Sequence[Bucket],
        segments: Sequence[Segment] = (),
        *,
        parameters: Array,
        optimizer: Any,
    ) -> ServersExchange:
        """The live exchange of a model. Collective over the world, with :func:`ps.serve`.

        Args:
            ctx: of the workers.
            buckets: of the model's gradient.
            segments: the places of its parameters.
            parameters: flat; those of the first worker are everybody's first ones.
            optimizer: what the servers do.

        Raises:
            ConfigError: there are no servers, or they do not know this optimiser.
        """
        try:
            if parameters.dtype != np.float32:
                raise ConfigError("parameter servers hold float32: set job.dtype = 'float32'.")
            if len(buckets) > _MOST_BUCKETS:
                raise ConfigError(
                    f"{len(buckets)} buckets are too many for parameter servers; raise "
                    "exchange.bucket_bytes."
                )
            how = None if self.compress is None else compress.of(self.compress)
            if how is not None:
                _check(how)
            rule, numbers = optimizer.server_rule()
            tables = [
                ps.Table(
                    f"bucket {bucket.index}",
                    count=bucket.gradient.size,
                    rule=rule,
                    numbers=numbers,
                    consistency=self.consistency,
                    decayed=_decayed(bucket, segments),
                    urgency=bucket.index,  # later buckets are of earlier layers
                    compress="none" if how is None else str(how.codec),
                    error_feedback=how is None or how.error_feedback == "classic",
                )
                for bucket in buckets
            ]
            row_tables = [layer.table for layer in self.embeddings]
            names = [table.name for table in (*tables, *row_tables)]
            if len(set(names)) < len(names):
                raise ConfigError("two tables have the same name; each needs one of its own.")
        except ConfigError as error:
            error.on_all_ranks = True  # all have the same job
            raise
        exchange = ServersExchange(ctx, buckets, parameters, optimizer, tables, row_tables, how)
        for layer in self.embeddings:
            layer.attach(exchange)
        return exchange


class ServersExchange(Stateless):
    """The live exchange; made by :meth:`ParameterServers.open`.

    Attributes:
        lag: steps that workers may be apart.
        approximate: whether what workers have may differ from what servers have.
        steps: exchanged so far; part of the state where they are compressed.
    """

    kind = "ps"
    updates_parameters = True

    def __init__(
        self,
        ctx: Context,
        buckets: Sequence[Bucket],
        parameters: Array,
        optimizer: Any,
        tables: Sequence[ps.Table],
        row_tables: Sequence[ps.Table],
        compression: Compression | None,
    ) -> None:
        self._ctx, self._buckets, self._optimizer = ctx, buckets, optimizer
        self._parts = [parameters[bucket.start : bucket.stop] for bucket in buckets]
        self._tables = tables
        self.lag = _lag(tables[0].consistency)
        self.approximate = bool(self.lag) or compression is not None
        self._client = ps.Client([*tables, *row_tables])
        # what a step has for each table of rows: rows, their gradients, and the rate
        self._touched: dict[str, list[tuple[Array, Array, float]]] = {
            table.name: [] for table in row_tables
        }
        self._engine = self._client.open_engine()
        self._compression = compression
        self.steps = 0
        self._lr = 0.0
        self._begun: set[int] = set()
        self._sent_before = 0
        self._stale_before = self._client.staleness
        self._put()

    def begin_step(self, lr: float) -> None:
        """The learning rate of the step that begins."""
        self._lr = lr
        self._sent_before = self._client.native.sent_bytes
        self._stale_before = self._client.staleness

    def begin(self, bucket: Bucket) -> None:
        """Push a bucket's gradient, and ask for its parameters."""
        if bucket.index in self._begun:
            raise ConfigError(f"bucket {bucket.index} was begun twice in one step.")
        self._begun.add(bucket.index)
        self._engine.ps_push(
            self._client.native,
            bucket.index,
            bucket.gradient,
            self._parts[bucket.index],
            rate=self._lr,
            plain=self._compression is None or self.steps < self._compression.warmup_steps,
        )

    def finish(self) -> None:
        """Return when the parameters are as new as consistency demands.

        Raises:
            Timeout: other workers did not push, and which, or a server does not answer.
        """
        if len(self._begun) != len(self._buckets):
            raise ConfigError(
                f"the step ended with {len(self._begun)} of {len(self._buckets)} buckets begun: "
                "some parameters got no gradient."
            )
        self._begun.clear()
        for table in self._touched:
            self._push_rows(table)
        self._settle()
        self.steps += 1

    def fetch_rows(self, table: str, rows: Array, width: int) -> Array:
        """Rows of an embedding: (n,) uint64 gives (n, width) float32."""
        number = self._client.number(table)
        into = np.empty((len(rows), width), np.float32)
        self._engine.ps_pull_rows(self._client.native, number, rows, into)
        self._settle()
        return into

    def add_rows(self, table: str, rows: Array, gradients: Array, lr: float) -> None:
        """Gradients of rows, pushed when the step finishes; ``lr`` times that of the step."""
        self._touched[table].append((rows, gradients, lr))

    def gather(self) -> None:
        """Make parameters and the optimiser's state the same on all workers. Collective."""
        self._barrier()
        for index, (table, part) in enumerate(zip(self._tables, self._parts, strict=True)):
            values, updates = self._client.read(table.name)
            part[...] = values[0]
            bucket = self._buckets[index]
            for name, value in zip(self._optimizer.state, values[1:], strict=True):
                self._optimizer.state[name][bucket.start : bucket.stop] = value
            self._optimizer.steps = updates
        self._barrier()

    def sent_bytes(self) -> int | None:
        """What this worker sent in the last step."""
        sent: int = self._client.native.sent_bytes - self._sent_before
        return sent

    def staleness(self) -> list[int] | None:
        """Pulls of the last step that found the slowest worker 0, 1, ... steps behind."""
        if not self.lag:
            return None
        now = self._client.staleness
        return [after - before for before, after in zip(self._stale_before, now, strict=True)]

    def state_dict(self) -> State:
        """What all have alike of compression; parameters and optimiser are the trainer's."""
        if self._compression is None:
            return super().state_dict()
        return residuals.common(self.steps, self._nodes(), self._compression.error_feedback)

    def own_state_dict(self) -> State | None:
        """This worker's residuals, and its part of the rows at the servers.

        Named ``"rank.bucket.residual"``, and as :mod:`mpimlsys.exchange.saved_rows` says.
        Collective where there are rows.
        """
        if self._compression is None and not self._touched:
            return None
        group = self._ctx.group
        kept: State = {}
        for bucket in self._buckets:
            residual, _ = self._client.native.feedback(bucket.index)
            if residual.size:
                kept[f"{group.rank}.{bucket.index}.residual"] = residual
        for table in self._touched:
            part = self._client.read_rows(table, group.rank, group.size)
            kept |= saved_rows.written(group.rank, table, *part)
        if self._touched:
            self._barrier()  # nobody pushes before all have read
        return kept

    def handed_out(self, own: Mapping[str, Array], state: Mapping[str, Array], rank: int) -> State:
        """What ``rank`` has of residuals and rows; with other workers they are shared out."""
        kept = {name: value for name, value in own.items() if name.endswith(".residual")}
        share: State = {}
        if "nodes" in state:
            share = residuals.handed_out(kept, state["nodes"], rank, self._nodes())
        for table in self._touched:
            spec = self._client.tables[self._client.number(table)]
            shape = (spec.count, spec.native(self._ctx.native).entry_floats)
            places = self._client.part_of_rows(table, rank, self._ctx.group.size)
            share |= saved_rows.handed_out(own, table, rank, places, shape)
        return share

    def load_state_dict(self, state: Mapping[str, Array], own: Mapping[str, Array]) -> None:
        """Put parameters, the optimiser's state and rows, just loaded, onto the servers."""
        how, group = self._compression, self._ctx.group
        if how is None:
            super().load_state_dict(state, own)
        else:
            self.steps = residuals.steps_of(state, how.error_feedback)
            pushes = max(0, self.steps - how.warmup_steps)
            for bucket in self._buckets:
                name = f"{group.rank}.{bucket.index}.residual"
                residual = own.get(name, np.empty(0, np.float32))
                self._client.native.set_feedback(bucket.index, residual, pushes)
        for table in self._touched:
            values, updates = saved_rows.mine(own, table, group.rank)
            number = self._client.number(table)
            # with bsp each update was a push of every worker: random numbers go on from there
            self._client.native.set_feedback(number, np.empty(0, np.float32), updates)
            self._client.write_rows(table, group.rank, group.size, values, updates=updates)
            self._barrier()
            if group.rank == 0:
                self._client.spread_hot_rows(table, updates=updates)
        self._put()

    def close(self) -> None:
        """Leave the servers, and stop the background thread."""
        self._client.close()
        self._engine.close(timeout_s=5.0)

    def _nodes(self) -> Array:
        return np.zeros(self._ctx.group.size, np.int64)

    def _put(self) -> None:
        """The first worker's parameters and state become the servers'. Collective."""
        optimizer = self._optimizer
        if self._ctx.group.rank == 0:
            for table, part, bucket in zip(self._tables, self._parts, self._buckets, strict=True):
                state = [value[bucket.start : bucket.stop] for value in optimizer.state.values()]
                self._client.write(table.name, np.stack([part, *state]), updates=optimizer.steps)
        self._barrier()
        for name in (*(table.name for table in self._tables), *self._touched):
            self._client.resume_at(name, 0)

    def _push_rows(self, table: str) -> None:
        """Push what the step has of a table, be it nothing: steps are counted by pushes."""
        number = self._client.number(table)
        touched = self._touched[table] or [
            (np.empty(0, np.uint64), np.empty((0, self._client.tables[number].width), "f4"), 1.0)
        ]
        rows, gradients, rates = zip(*touched, strict=True)
        self._touched[table].clear()
        # FTRL makes the weights anew from all gradients so far: its rate must not fall
        constant = self._client.tables[number].rule == "ftrl"
        lr = self._optimizer.lr if constant else self._lr
        self._engine.ps_push_rows(
            self._client.native,
            number,
            np.concatenate(rows),
            np.concatenate(gradients),
            rate=rates[0] * lr,
        )

    def _settle(self) -> None:
        ticket = self._engine.ps_settle(self._client.native, timeout_s=self._ctx.timeout_s)
        self._engine.wait(ticket, timeout_s=self._ctx.timeout_s + _STORY_S)

    def _barrier(self) -> None:
        ctx = self._ctx
        ctx.native.barrier(ctx.peers.transport, timeout_s=ctx.timeout_s)


def _check(how: Compression) -> None:
    """Servers add up whole tables, so not everything that all-reduce can is possible."""
    if how.error_feedback == "ef21":
        raise ConfigError(
            "parameter servers take error_feedback = 'classic' or 'none'; what they send back are "
            "differences, as ef21 does, either way."
        )
    for name in ("min_elements", "ramp_steps", "momentum", "clip_norm"):
        if getattr(how, name):
            raise ConfigError(f"exchange.compress_{name} needs exchange.kind = 'allreduce'.")
    if how.pattern != "auto":
        raise ConfigError(f"pattern = {how.pattern!r} is one of all-reduce; leave it out.")


def _decayed(bucket: Bucket, segments: Sequence[Segment]) -> tuple[tuple[int, int], ...]:
    found = []
    for segment in sorted(segments, key=lambda segment: segment.start):
        start, stop = max(segment.start, bucket.start), min(segment.stop, bucket.stop)
        if segment.decay and start < stop:
            found.append((start - bucket.start, stop - start))
    return tuple(found)


def _lag(consistency: str) -> int:
    """After how many steps votes can be counted without waiting for who may be behind."""
    if consistency == "bsp":
        return 0
    match = re.fullmatch(r"ssp:(\d+)", consistency)
    return min(int(match[1]) + 1, _MOST_LAG) if match else _MOST_LAG
