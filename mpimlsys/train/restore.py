"""Go on from a checkpoint: rank 0 reads and checks it, all ranks take it over."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys.context import Context
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train import checkpoint
from mpimlsys.train.build import Workbench
from mpimlsys.types import State

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
                say(f"going on after step {found.step} from {found.path}")
    header = _header(found.tensors) if found else []
    header = json.loads(ctx.broadcast_bytes(json.dumps(header).encode()))
    if not header:
        return 0
    tensors: State = {}
    for name, dtype, shape in header:
        tensor = np.ascontiguousarray(found.tensors[name]) if found else np.empty(shape, dtype)
        flat = tensor.reshape(-1).view(np.uint8)
        ctx.native.broadcast(ctx.transport, flat, 0, timeout_s=ctx.timeout_s)
        tensors[name] = tensor.reshape(shape)
    with ctx.together():
        bench.trainer.load_state_dict(
            {name: value for name, value in tensors.items() if not name.startswith("data.")}
        )
    return bench.trainer.steps_done


def _header(tensors: State) -> list[tuple[str, str, list[int]]]:
    return [(name, value.dtype.str, list(value.shape)) for name, value in sorted(tensors.items())]


def _check_same_job(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in _FIXED:
        if saved.get(key) != now[key]:
            raise ConfigError(
                f"cannot resume: the checkpoint was written with {key} = {saved.get(key)!r}, the "
                f"job now has {now[key]!r}. Use the run's own job.toml, or train into another "
                "folder with --set job.out=... and without --resume."
            )
