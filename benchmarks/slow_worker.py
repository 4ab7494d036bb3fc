"""Training with parameter servers while one worker after the other is slow for a while.

    mpirun -n 4 python benchmarks/slow_worker.py

Three workers and one server. A step takes a worker at least STEP_S, and twice as long while it is
slow: at each moment one of them is, for BURST_S, then the next one. Every consistency trains the
same model for the same steps; rank 0 prints samples per second beside those of bsp, and the loss on
the training set at the end.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import mpimlsys as mls
from mpimlsys import data

STEP_S = 0.02
BURST_S = 3 * 2 * STEP_S
STEPS = 240
BATCH = 96
KINDS = ("bsp", "ssp:3", "asp")


class Slowed(mls.nn.Module):
    """A model that takes as long as a larger one would."""

    def __init__(self, body: mls.nn.Module, worker: int, workers: int) -> None:
        self.body, self.loss = body, body.loss
        self._worker, self._workers = worker, workers

    def forward(self, inputs: np.ndarray, phase: Any) -> np.ndarray:
        slow = int(time.time() / BURST_S) % self._workers == self._worker
        time.sleep(STEP_S * (2 if slow else 1))
        return self.body.forward(inputs, phase)

    def backward(self, grad: np.ndarray, ready: Any) -> np.ndarray:
        return self.body.backward(grad, ready)


def run(ctx: mls.Context, consistency: str) -> tuple[float, float]:
    """Samples per second of all workers together, and the loss at the end."""
    splits = data.load("mnist", classes=True)
    inputs, outputs = splits.train.batch(np.arange(len(splits.train)))
    model = mls.nn.models.build("mlp", inputs.shape[1:], 10, {"hidden": [32]})
    trainer = mls.Trainer(
        Slowed(model, ctx.group.rank, ctx.group.size),
        optimizer=mls.optim.sgd(0.1),
        exchange=mls.exchange.ParameterServers(consistency=consistency),
    )
    samples = data.ArrayDataset(inputs, outputs)
    started = time.perf_counter()
    for _ in trainer.steps(samples, total=STEPS, batch_size=BATCH):
        pass
    took = time.perf_counter() - started
    loss = trainer.evaluate(samples).loss
    trainer.close()
    return STEPS * BATCH / took, loss


def main() -> None:
    """Train once with each consistency."""
    ctx = mls.init(mls.ClusterSection(servers=1))
    found = {}
    for kind in KINDS:
        if ctx.role == "server":
            mls.ps.serve()
        else:
            found[kind] = run(ctx, kind)
    if ctx.rank == 0:
        base_speed, base_loss = found["bsp"]
        for kind, (speed, loss) in found.items():
            print(
                f"{kind:<6} {speed:7.0f} samples/s ({speed / base_speed:.2f} x bsp)  "
                f"loss {loss:.4f} ({100 * (loss / base_loss - 1):+.1f} %)"
            )


if __name__ == "__main__":
    main()
