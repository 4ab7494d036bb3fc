"""Losses: the sum over this rank's samples divided by the global number of samples.

So the sum over ranks is the mean over the global batch. A sample's own loss is the mean over its
outputs or positions, as PyTorch's ``reduction="mean"``.

Every loss has ``loss(outputs, targets, samples) -> (value, gradient of the outputs)``,
``measure(outputs, targets) -> number``, a sum over targets, and ``measure_name``. Numbers of
arrays on a device are arrays there without axes, for which nobody has waited yet.

For the same reason labels on a device are not checked: one that cannot be makes the value NaN, and
:meth:`Loss.check` on copies in the host's memory says what is wrong.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import namespace, on_host
from mpimlsys.nn.activation import sigmoid
from mpimlsys.types import Array

Number = float | Array


class Loss(Protocol):
    """What the trainer needs of a loss."""

    measure_name: str

    def __call__(self, outputs: Array, targets: Array, samples: int) -> tuple[Number, Array]: ...

    def measure(self, outputs: Array, targets: Array) -> Number: ...

    def check(self, outputs: Array, targets: Array) -> None: ...


class MSELoss:
    """Mean squared error ``(y - t)**2``.

    Shapes:
        outputs (N, ...) or (N, 1); targets of the same shape, or (N,).
    """

    measure_name = "mse"

    def __call__(self, outputs: Array, targets: Array, samples: int) -> tuple[Number, Array]:
        difference = outputs - _shaped(targets, outputs)
        count = samples * max(1, difference[:1].size)
        value = np.sum(np.square(difference), dtype=np.float64) / count
        difference *= outputs.dtype.type(2 / count)
        return value, difference

    def measure(self, outputs: Array, targets: Array) -> Number:
        """Sum of squared errors."""
        difference = outputs - _shaped(targets, outputs)
        return np.sum(np.square(difference), dtype=np.float64)

    @staticmethod
    def check(outputs: Array, targets: Array) -> None:
        """See :class:`Loss`."""
        _shaped(targets, outputs)


class CrossEntropyLoss:
    """Softmax and the negative logarithm of the target's probability.

    Shapes:
        outputs (N, classes) or (N, T, classes); targets (N,) or (N, T) integers.
    """

    measure_name = "accuracy"

    def __call__(self, outputs: Array, targets: Array, samples: int) -> tuple[Number, Array]:
        classes = outputs.shape[-1]
        labels = _labels(targets, outputs.shape[:-1], classes)
        count = samples * max(1, int(np.prod(outputs.shape[1:-1])))
        scores = outputs.reshape(-1, classes)
        shifted = scores - scores.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        sums = exponentials.sum(axis=1, keepdims=True)
        rows = namespace(labels).arange(len(labels))
        logs = np.log(sums[:, 0]) - shifted[rows, labels]
        if not on_host(labels):
            logs = _or_nan(logs, (labels >= 0) & (labels < classes))
        value = np.sum(logs, dtype=np.float64) / count
        exponentials /= sums
        exponentials[rows, labels] -= 1
        exponentials *= outputs.dtype.type(1 / count)
        return value, exponentials.reshape(outputs.shape)

    def measure(self, outputs: Array, targets: Array) -> Number:
        """Number of targets whose class has the largest output."""
        labels = _labels(targets, outputs.shape[:-1], outputs.shape[-1])
        return np.sum(outputs.argmax(axis=-1).reshape(-1) == labels, dtype=np.float64)

    @staticmethod
    def check(outputs: Array, targets: Array) -> None:
        """See :class:`Loss`."""
        _labels(targets, outputs.shape[:-1], outputs.shape[-1])


class BCEWithLogitsLoss:
    """Logistic function and binary cross-entropy.

    ``max(y, 0) - y t + log(1 + exp(-|y|))``, which does not overflow.

    Shapes:
        outputs (N, ...) or (N, 1); targets of the same shape, or (N,), in [0, 1].
    """

    measure_name = "accuracy"

    def __call__(self, outputs: Array, targets: Array, samples: int) -> tuple[Number, Array]:
        wanted = self._wanted(outputs, targets)
        count = samples * max(1, outputs[:1].size)
        losses = np.maximum(outputs, 0) - outputs * wanted + np.log1p(np.exp(-np.abs(outputs)))
        if not on_host(wanted):
            losses = _or_nan(losses, (wanted >= 0) & (wanted <= 1))
        value = np.sum(losses, dtype=np.float64) / count
        gradient = (sigmoid(outputs) - wanted) * outputs.dtype.type(1 / count)
        return value, gradient

    def measure(self, outputs: Array, targets: Array) -> Number:
        """Number of targets on the side of 0 that the output is on."""
        wanted = self._wanted(outputs, targets)
        return np.sum((outputs > 0) == (wanted > 0.5), dtype=np.float64)

    def check(self, outputs: Array, targets: Array) -> None:
        """See :class:`Loss`."""
        self._wanted(outputs, targets)

    @staticmethod
    def _wanted(outputs: Array, targets: Array) -> Array:
        wanted = _shaped(targets, outputs)
        if on_host(wanted) and wanted.size and (wanted.min() < 0 or wanted.max() > 1):
            worst = wanted.max() if wanted.max() > 1 else wanted.min()
            raise ConfigError(f"a label of {worst:g} in a two-class problem; labels are 0 and 1.")
        return wanted


def _or_nan(losses: Array, possible: Array) -> Array:
    """NaN where a label is not possible."""
    return np.where(possible, losses, losses.dtype.type(np.nan))


def _shaped(targets: Array, outputs: Array) -> Array:
    """Targets in the shape and dtype of the outputs; (N,) stands for (N, 1)."""
    if targets.shape != outputs.shape and targets.size != outputs.size:
        raise ConfigError(
            f"the model's outputs have shape {outputs.shape}, the targets {targets.shape}; use a "
            f"model of {targets[:1].size} outputs."
        )
    return targets.reshape(outputs.shape).astype(outputs.dtype, copy=False)


def _labels(targets: Array, shape: tuple[int, ...], classes: int) -> Array:
    if targets.shape != shape:
        raise ConfigError(f"labels of shape {targets.shape}, but outputs for shape {shape}.")
    if not np.issubdtype(targets.dtype, np.integer):
        raise ConfigError(
            f"labels are {targets.dtype}; cross-entropy needs integers (for numbers to predict, "
            "use a model with a squared error, such as 'linear')."
        )
    labels = targets.reshape(-1)
    if on_host(labels) and labels.size and (labels.min() < 0 or labels.max() >= classes):
        worst = int(labels.max() if labels.max() >= classes else labels.min())
        raise ConfigError(
            f"a label of {worst}, but the model has {classes} outputs: labels go from 0 to "
            f"{classes - 1}."
        )
    return labels
