"""The time that a checkpoint takes from training: steps beside one being written, and steps alone.

Windows of equally many steps alternate; in every second one a checkpoint begins at the first step
and is committed before the last. What such a window takes longer than its neighbour is stolen.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

import mpimlsys as mls
from mpimlsys import config
from mpimlsys.context import Context
from mpimlsys.data import ArrayDataset
from mpimlsys.errors import ConfigError
from mpimlsys.train.report import Intentions, StepReport
from mpimlsys.train.saver import Saver
from mpimlsys.train.trainer import Trainer

_BATCH = 128
_INPUTS, _OUTPUTS = 784, 10
_WARMUP = 5


def run(*, megabytes: int, seconds: float, repeats: int, as_json: bool) -> int:
    """Measure on all ranks and print on rank 0; returns the exit status. Collective."""
    result = measure(megabytes=megabytes, seconds=seconds, repeats=repeats)
    if not mls.init().is_root:
        return 0
    if as_json:
        print(json.dumps(result))
        return 0
    low, high = result["stolen_quartiles_s"]
    print(
        f"{result['parameter_bytes'] / 1e6:.0f} MB of parameters, "
        f"{result['state_bytes'] / 1e6:.0f} MB of state, {result['ranks']} ranks, "
        f"{result['machine']}\n"
        f"  stolen by one checkpoint    {result['stolen_s']:.3f} s "
        f"(middle half {low:.3f} to {high:.3f})\n"
        f"  at one checkpoint a minute  {100 * result['stolen_per_minute']:.2f} %\n"
        f"  of that standing still      {result['stall_s']:.3f} s\n"
        f"  from begin to commit        {result['written_s']:.2f} s\n"
        f"  training stopped meanwhile  {result['blocking_s']:.2f} s would be stolen"
    )
    return 0


def measure(*, megabytes: int = 100, seconds: float = 5.0, repeats: int = 10) -> dict[str, Any]:
    """Train an ``mlp`` with Adam in windows with and without a checkpoint. Collective.

    Args:
        megabytes: of float32 parameters; the state is three times that.
        seconds: of a window, about; it must be longer than the writing takes.
        repeats: of windows of each kind.

    Returns:
        Seconds stolen by one checkpoint (median, quartiles), also as a part of a minute; standing
        still; from begin to commit; and for a checkpoint that training waits for.

    Raises:
        ConfigError: a checkpoint took longer than a window.
    """
    ctx = mls.init()
    trainer = _trainer(megabytes)
    rng = np.random.default_rng(0)
    data = ArrayDataset(
        rng.normal(size=(1 << 12, _INPUTS)).astype(np.float32), rng.integers(0, _OUTPUTS, 1 << 12)
    )
    folder = Path(f"checkpoint-bench.{os.getpid()}")
    folder = Path(ctx.broadcast_bytes(str(folder.absolute()).encode()).decode())
    saver = Saver(ctx, folder, keep=1, step=0)
    steps = trainer.steps(
        data,
        total=1 << 40,
        batch_size=_BATCH,
        intentions=lambda: Intentions(written=saver.written),
    )
    try:
        result = _alternate(ctx, trainer, saver, steps, seconds, repeats)
    finally:
        steps.close()
        saver.close()
        trainer.close()
        if ctx.is_root:
            shutil.rmtree(folder, ignore_errors=True)
    return result


def _alternate(
    ctx: Context, trainer: Trainer, saver: Saver, steps: Any, seconds: float, repeats: int
) -> dict[str, Any]:
    for _ in range(_WARMUP):
        next(steps)
    step_s = np.array([_window(trainer, saver, steps, 3, save=False)[0] / 3])
    ctx.native.broadcast(ctx.transport, step_s, 0, timeout_s=ctx.timeout_s)
    count = max(10, int(seconds / step_s[0]))
    _window(trainer, saver, steps, count, save=True)  # takes memory for the copy
    stall_before = saver.stall_s
    stolen, written, blocking = [], [], []
    for _ in range(repeats):
        plain = _window(trainer, saver, steps, count, save=False)[0]
        with_one, took = _window(trainer, saver, steps, count, save=True)
        stolen.append(with_one - plain)
        written.append(took)
    stall = (saver.stall_s - stall_before) / repeats
    for _ in range(repeats):
        started = perf_counter()
        _begin(trainer, saver)
        saver.finish()
        blocking.append(perf_counter() - started)
        next(steps)
    state_bytes = sum(value.nbytes for value in trainer.state_dict().values())
    low, _, high = quantiles(stolen, n=4)
    return {
        "benchmark": "checkpoint",
        "machine": config.processor(),
        "ranks": ctx.size,
        "parameter_bytes": trainer.space.parameters.nbytes,
        "state_bytes": state_bytes,
        "steps": count,
        "repeats": repeats,
        "stolen_s": median(stolen),
        "stolen_quartiles_s": [low, high],
        "stolen_per_minute": median(stolen) / 60,
        "stall_s": stall,
        "written_s": median(written),
        "blocking_s": median(blocking),
    }


def _trainer(megabytes: int) -> Trainer:
    # two hidden layers of equal width: width² + (inputs + outputs) · width parameters
    wanted = megabytes * 1e6 / 4
    inputs = _INPUTS + _OUTPUTS
    width = int((-inputs + (inputs**2 + 4 * wanted) ** 0.5) / 2)
    options = {"hidden": [width, width]}
    model = mls.nn.models.build("mlp", (_INPUTS,), _OUTPUTS, options)
    return Trainer(model, optimizer=mls.optim.adam(1e-4))


def _window(
    trainer: Trainer, saver: Saver, steps: Any, count: int, *, save: bool
) -> tuple[float, float]:
    """Seconds of ``count`` steps, and of the checkpoint that began at the first."""
    started = perf_counter()
    took = 0.0
    for number in range(count):
        report: StepReport = next(steps)
        if save and number == 0:
            _begin(trainer, saver)
        if report.written:
            saver.commit()
            took = perf_counter() - started
    elapsed = perf_counter() - started
    if save and not took:
        raise ConfigError(
            f"a checkpoint takes longer than a window of {elapsed:.1f} s; lengthen it: --seconds"
        )
    saver.finish()
    return elapsed, took


def _begin(trainer: Trainer, saver: Saver) -> None:
    saver.begin(trainer.steps_done, trainer.state_dict(), {}, trainer.own_state_dict())
