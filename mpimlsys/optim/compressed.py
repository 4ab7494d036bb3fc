"""1-bit Adam and 0/1 Adam: Adam whose momentum travels instead of the gradient, as signs.

The variance hardly changes after a while. With it fixed, Adam is momentum descent with a scale for
each element, and so stands the error feedback that lets signs be enough. Both ways of the exchange
are compressed, both with error feedback (the codec ``sign``).

What the trainer does for them: :meth:`prepare` turns each bucket of gradients into this rank's
share of the next momentum before the exchange adds them up; :meth:`dense_at` says in which steps
gradients travel as they are, and the variance is updated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.optim.optimizers import Flat
from mpimlsys.types import Array, Bucket, State


class CompressedAdam(Flat):
    """See :func:`onebit_adam` and :func:`zero_one_adam`."""

    state_names = ("mean", "square")

    def __init__(
        self, lr: float, betas: tuple[float, float], eps: float, freeze_steps: int, interval: int
    ) -> None:
        super().__init__(lr, 0.0)
        if not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(f"betas = {betas} must be from 0 to below 1.")
        self.betas, self.eps = betas, eps
        self.freeze_steps, self.interval = freeze_steps, interval
        self.variance_steps = 0

    def dense_at(self, step: int) -> bool:
        """Whether step ``step``, counted from 0, updates the variance. The same on all ranks."""
        if step < self.freeze_steps:
            return True
        return self.interval > 0 and _is_sync(step - self.freeze_steps, self.interval)

    def prepare(self, bucket: Bucket, workers: int) -> None:
        """Before a compressed exchange: ``g = beta1 m / workers + (1 - beta1) g``."""
        if self.dense_at(self.steps):
            return
        kind = bucket.gradient.dtype.type
        mean = self.state["mean"][bucket.start : bucket.stop]
        gradient = bucket.gradient
        gradient *= kind(1 - self.betas[0])
        gradient += kind(self.betas[0] / workers) * mean

    def step(self, parameters: Array, gradients: Array, lr: float) -> None:
        """Update ``parameters``; ``gradients`` are the global gradient, or the momentum."""
        dense = self.dense_at(self.steps)
        self.steps += 1
        self.variance_steps += dense
        beta1, beta2 = self.betas
        kind = parameters.dtype.type
        # without a correction that grows for ever: the variance stands still, the momentum goes on
        of_mean = kind(lr / (1 - beta1**self.steps))
        of_square = kind(1 / math.sqrt(1 - beta2**self.variance_steps))
        for block in self._blocks(parameters):
            mean, square = self.state["mean"][block], self.state["square"][block]
            if dense:
                mean *= kind(beta1)
                mean += kind(1 - beta1) * gradients[block]
                square *= kind(beta2)
                square += kind(1 - beta2) * np.square(gradients[block])
            else:
                # signs know no zero: what never had a gradient would move by their scale over eps
                mean[...] = np.where(square == 0, kind(0), gradients[block])
            root = np.sqrt(square)
            root *= of_square
            root += kind(self.eps)
            direction = np.divide(mean, root, out=root)
            if not dense:
                # nor do they know how small a gradient is beside its neighbours': Adam's own
                # directions hardly exceed 1
                np.clip(direction, -1, 1, out=direction)
            parameters[block] -= of_mean * direction

    def state_dict(self) -> State:
        """The state arrays (views), the steps, and how many of them updated the variance."""
        return {**super().state_dict(), "variance_steps": np.array(self.variance_steps, np.int64)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy a state in.

        Raises:
            ConfigError: it belongs to another optimiser or model.
        """
        rest = {name: value for name, value in state.items() if name != "variance_steps"}
        super().load_state_dict(rest)
        if "variance_steps" not in state:
            raise ConfigError("the saved state belongs to another optimiser: no variance_steps.")
        self.variance_steps = int(state["variance_steps"])


def _is_sync(step: int, interval: int) -> bool:
    """Whether the variance is due: ``interval`` times at each distance 1, 2, 4, 8, ..."""
    distance = 1
    while step >= interval * distance:
        step -= interval * distance
        distance *= 2
    return step % distance == 0


def onebit_adam(
    lr: float = 0.001,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    freeze_steps: int = 100,
) -> CompressedAdam:
    """Adam for ``freeze_steps`` steps; then the variance is frozen, and momentum travels as signs.

    Source:
        Tang et al. 2021, "1-bit Adam: communication efficient large-scale training with Adam's
        convergence speed", algorithm 1.
    """
    if freeze_steps < 1:
        raise ConfigError("1-bit Adam needs at least one step for its variance: freeze_steps.")
    return CompressedAdam(lr, betas, eps, freeze_steps, 0)


def zero_one_adam(
    lr: float = 0.001,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    interval: int = 16,
) -> CompressedAdam:
    """The variance is updated ever more rarely, all other steps travel as signs.

    Ranks exchange at each step; the method's steps without any exchange are not taken, as all
    ranks hold the same parameters at all times.

    Args:
        interval: updates of the variance at each distance of 1, 2, 4, ... steps.

    Source:
        Lu et al. 2022, "Maximizing communication efficiency for large-scale training via 0/1
        Adam", algorithm 1, with the policy for the variance of section 6.
    """
    if interval < 1:
        raise ConfigError("0/1 Adam needs an interval of at least 1.")
    return CompressedAdam(lr, betas, eps, 0, interval)
