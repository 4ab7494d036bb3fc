"""Checkpoints of a run that do not stop training.

At a step that all ranks agree on, each copies its share of the state (:meth:`Saver.begin`); a
thread writes the copy while training goes on. When the threads of all ranks have written, which the
ranks learn from each other with a later step's votes, rank 0's thread commits
(:meth:`Saver.commit`). :meth:`Saver.finish` waits for both, at the end of a run.

The copy takes as much memory as the rank's share, and is kept for the next time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent import futures
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, MpimlsysError, Timeout
from mpimlsys.kernels.arrays import to_host
from mpimlsys.train import checkpoint
from mpimlsys.train.checkpoint_files import Entry
from mpimlsys.train.durable import cannot_write
from mpimlsys.train.shares import Part, shares
from mpimlsys.types import Array


class Saver:
    """Writes the checkpoints of a run. Every method that is collective is so over the world.

    Args:
        ctx: of the run.
        folder: of the checkpoints.
        keep: how many.
        step: of the checkpoint that the run goes on from, 0 for none.

    Attributes:
        begun_step: of the newest checkpoint that was begun.
        saved_step: of the newest checkpoint that was committed.
        count: of checkpoints.
        stall_s: seconds for which training stood still for them on this rank.
        longest_s: seconds from the beginning of one to the last rank's having written, at most.

    Raises:
        ConfigError: the folder cannot be written, or is not one folder on all hosts. Collective.
    """

    def __init__(self, ctx: Context, folder: Path, *, keep: int, step: int) -> None:
        self._ctx, self._folder, self._keep = ctx, folder, keep
        self._thread = futures.ThreadPoolExecutor(
            1, "checkpoint", lambda: ctx.trace.name_thread("checkpoint")
        )
        self._writing: futures.Future[list[Entry]] | None = None
        self._committing: futures.Future[Path] | None = None
        self._files = 0
        self._manifest: Mapping[str, object] = {}
        self._copy = np.empty(0, np.uint8)
        self.begun_step = self.saved_step = step
        self.count, self.stall_s, self.longest_s = 0, 0.0, 0.0
        self._begun_at = 0.0
        self._owner = ctx.broadcast_bytes(checkpoint.owner().encode()).decode()
        if ctx.is_root:
            checkpoint.remove_stale(folder)
        if ctx.node_count > 1:
            _check_shared(ctx, folder, self._owner)

    @property
    def written(self) -> bool:
        """Whether this rank has written its share of the pending checkpoint."""
        return self._writing is not None and self._writing.done() and self.failure is None

    @property
    def failure(self) -> MpimlsysError | None:
        """What has gone wrong in the background on this rank."""
        for future in (self._writing, self._committing):
            error = future.exception() if future is not None and future.done() else None
            if isinstance(error, MpimlsysError):
                return error
            if error is not None:
                raise error
        return None

    def begin(
        self,
        step: int,
        tensors: Mapping[str, Array],
        manifest: Mapping[str, object],
        own: Mapping[str, Array] | None = None,
    ) -> None:
        """Copy this rank's share of the state and start to write it. Collective.

        Args:
            step: steps done.
            tensors: the state, the same on all ranks.
            manifest: what to remember about the run.
            own: state of this rank alone, under names that no other rank has; None on all ranks
                where there is no such state.
        """
        self.finish()
        started = perf_counter()
        rank, parts = self._ctx.rank, shares(tensors, self._ctx.size)
        if own is not None:
            parts += [[] for _ in range(self._ctx.size - len(parts))]
            parts[rank] += [Part(name, v.shape, 0, v.reshape(-1)) for name, v in own.items()]
        self._files = len(parts)
        mine = self._copied(parts[rank]) if rank < self._files else None
        self.begun_step, self._manifest = step, manifest
        self._writing = self._thread.submit(self._write, mine)
        self._begun_at = started
        self._stood_still("copy checkpoint", started)

    def commit(self) -> None:
        """Commit the checkpoint that all ranks have ``written``. Collective."""
        assert self._writing is not None
        started = perf_counter()
        mine = json.dumps([asdict(entry) for entry in self._writing.result()])
        texts = self._ctx.gather_bytes(mine.encode())[: self._files]
        if self._ctx.is_root:
            files = [[Entry(**fields) for fields in json.loads(text)] for text in texts]
            self._committing = self._thread.submit(
                checkpoint.commit,
                self._folder, self.begun_step, files, manifest=self._manifest, keep=self._keep,
            )  # fmt: skip
        self._writing, self.saved_step = None, self.begun_step
        self.count += 1
        self.longest_s = max(self.longest_s, perf_counter() - self._begun_at)
        self._stood_still("commit checkpoint", started)

    def finish(self) -> None:
        """Wait until what has begun is on the disk. Collective.

        Raises:
            ConfigError: a rank could not write.
            Timeout: the disk took longer than the context's ``timeout_s``.
        """
        started = perf_counter()
        if self._writing is not None:
            with self._ctx.together():
                self._await(self._writing)
            self.commit()
        with self._ctx.together():
            if self._committing is not None:
                self._await(self._committing)
                self._committing = None
        self._stood_still("wait for checkpoint", started)

    def close(self) -> None:
        """Forget what is pending, after an error. Local."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._ctx.is_root:
            checkpoint.remove_stale(self._folder)

    def _stood_still(self, why: str, started: float) -> None:
        now = perf_counter()
        self.stall_s += now - started
        self._ctx.trace.add(why, started, now)

    def _write(self, parts: list[Part] | None) -> list[Entry]:
        if parts is None:
            return []
        rank, count, started = self._ctx.rank, self._files, perf_counter()
        entries = checkpoint.write_share(
            self._folder, self.begun_step, self._owner, parts, rank, count
        )
        self._ctx.trace.add("write checkpoint", started, perf_counter())
        return entries

    def _copied(self, parts: list[Part]) -> list[Part]:
        """The same parts in memory of this object."""
        size = sum(part.values.nbytes for part in parts)
        if len(self._copy) < size:
            self._copy = np.empty(size, np.uint8)
        copied, start = [], 0
        for part in parts:
            stop = start + part.values.nbytes
            values = self._copy[start:stop].view(part.values.dtype)
            values[...] = to_host(part.values)
            copied.append(replace(part, values=values))
            start = stop
        return copied

    def _await(self, future: futures.Future[Any]) -> None:
        try:
            future.result(self._ctx.timeout_s)
        except futures.TimeoutError:
            raise Timeout(
                f"the checkpoint of step {self.begun_step} was not on the disk after "
                f"{self._ctx.timeout_s:g} s ({self._folder}); raise comm.timeout_s, or set "
                "checkpoint.dir to a faster disk."
            ) from None


def _check_shared(ctx: Context, folder: Path, owner: str) -> None:
    """Whether all hosts see what rank 0 writes. Collective."""
    probe = folder / f".{owner}.shared"
    with ctx.together():
        if ctx.is_root:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe.touch()
            except OSError as error:
                raise cannot_write(folder, error, "checkpoint.dir") from error
    try:
        with ctx.together():
            if not probe.exists():
                raise ConfigError(
                    f"checkpoint.dir {folder} is not one folder on all hosts: a file of rank 0 is "
                    "not there. Set checkpoint.dir, or job.out, to a folder on a file system that "
                    "all hosts share."
                )
    finally:
        if ctx.is_root:
            probe.unlink()
