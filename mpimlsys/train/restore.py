"""Go on from a checkpoint: rank 0 reads and checks it, all ranks take it over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train import checkpoint
from mpimlsys.train.build import Workbench
from mpimlsys.types import State

# the states that ranks have of their own, by rank
_OWN = re.compile(r"exchange\.\d+\.")

# what must not change between the parts of a run, or the continuation is another run
_FIXED = ("seed", "dtype", "batch_size", "accumulate", "samples", "model", "optimizer")


def restore(ctx: Context, bench: Workbench, folder: Path, say: Callable[[str], None]) -> int:
    """Load the newest whole checkpoint of ``folder`` into the trainer. Collective.

    Args:
        bench: the trainer of the same job, with its initial state.
        folder: checkpoints; read by rank 0 only, so it need not be shared.
        say: told about damaged checkpoints and about where the run goes on.

    Returns:
        The steps done; 0 when there is no checkpoint yet.

    Raises:
        CorruptData: there are checkpoints, and all are damaged.
        ConfigError: the checkpoint belongs to another job.
    """
    found = None
    with ctx.together():
        if ctx.is_root:
            damaged: list[str] = []
            found = checkpoint.newest(folder, damaged.append)
            if found is None and damaged:
                raise CorruptData(
                    f"cannot resume: every checkpoint in {folder} is damaged ({damaged[0]}). To "
                    "begin again, leave out --resume."
                )
            for line in damaged:
                say(line)
            if found is None:
                say(f"no checkpoint in {folder} yet: starting from the first step")
            else:
                _check_same_job(found.manifest, bench.manifest())
                _check_same_features(found.tensors, bench.description.tensors())
                say(f"going on after step {found.step} from {found.path}")
    common, own = _divided(found.tensors if found else {})
    state = _broadcast(ctx, common)
    if not state:
        return 0
    mine: State = {}
    for rank in range(ctx.size):
        part: State = {}
        with ctx.together():
            if ctx.is_root:
                part = bench.trainer.handed_out(own, common, rank)
        received = _sent(ctx, part, rank)
        if rank == ctx.rank:
            mine = received
    with ctx.together():
        bench.trainer.load_state_dict(
            {name: value for name, value in state.items() if not name.startswith("data.")}, mine
        )
    return bench.trainer.steps_done


def _divided(tensors: State) -> tuple[State, State]:
    """What all ranks have alike, and what ranks have of their own."""
    own = {name: value for name, value in tensors.items() if _OWN.match(name)}
    return {name: value for name, value in tensors.items() if name not in own}, own


def _broadcast(ctx: Context, tensors: State) -> State:
    """Rank 0's tensors on all ranks. Collective."""
    state: State = {}
    for name, dtype, shape in json.loads(ctx.broadcast_bytes(_header(tensors))):
        tensor = np.ascontiguousarray(tensors[name]) if ctx.is_root else np.empty(shape, dtype)
        flat = tensor.reshape(-1).view(np.uint8)
        ctx.native.broadcast(ctx.transport, flat, 0, timeout_s=ctx.timeout_s)
        state[name] = tensor.reshape(shape)
    return state


def _sent(ctx: Context, tensors: State, rank: int) -> State:
    """Rank 0's tensors on one rank, nothing on the others. Collective."""
    state: State = {}
    for name, dtype, shape in json.loads(ctx.broadcast_bytes(_header(tensors))):
        flat, lengths = np.empty(0, np.uint8), [0] * ctx.size
        if ctx.is_root:
            flat = np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8)
            lengths[rank] = flat.size
        parts = ctx.native.all_to_all(ctx.transport, flat, lengths, timeout_s=ctx.timeout_s)
        if ctx.rank == rank:
            state[name] = np.frombuffer(parts.data, dtype).reshape(shape)
    return state


def _header(tensors: State) -> bytes:
    rows = [(name, value.dtype.str, value.shape) for name, value in sorted(tensors.items())]
    return json.dumps(rows).encode()


def _check_same_features(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Rows of a sparse model belong to the features of the data that it was trained on."""
    for name in ("data.features", "data.category_counts", "data.categories"):
        if name in saved and not np.array_equal(saved[name], now[name]):
            raise ConfigError(
                "cannot resume: the data have other features than the checkpoint's, which its rows "
                "are of. Use the data it was written with."
            )


def _check_same_job(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in _FIXED:
        if saved.get(key) != now[key]:
            raise ConfigError(
                f"cannot resume: the checkpoint was written with {key} = {saved.get(key)!r}, the "
                f"job now has {now[key]!r}. Use the run's own job.toml, or train into another "
                "folder with --set job.out=... and without --resume."
            )
