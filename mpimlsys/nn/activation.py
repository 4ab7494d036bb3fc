"""Elementwise layers: ReLU, tanh, sigmoid, dropout."""

from __future__ import annotations

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import namespace, wide
from mpimlsys.nn.module import Module
from mpimlsys.types import Array, Phase, Ready


class ReLU(Module):
    """``max(x, 0)``; the gradient at 0 is 0."""

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        self._outputs = np.maximum(inputs, 0)
        return self._outputs

    def backward(self, grad: Array, ready: Ready) -> Array:
        del ready
        return np.multiply(grad, self._outputs > 0)


class Tanh(Module):
    """``tanh(x)``."""

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        self._outputs = np.tanh(inputs)
        return self._outputs

    def backward(self, grad: Array, ready: Ready) -> Array:
        del ready
        return grad * (1 - self._outputs * self._outputs)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        self._outputs = sigmoid(inputs)
        return self._outputs

    def backward(self, grad: Array, ready: Ready) -> Array:
        del ready
        return grad * self._outputs * (1 - self._outputs)


class Dropout(Module):
    """Sets a share of the units to 0 in training and scales up the others.

    Args:
        p: probability of a unit to be dropped, in [0, 1).

    Source:
        Srivastava et al. 2014, "Dropout", in its inverted form.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ConfigError(f"dropout = {p}; give a probability from 0 to below 1.")
        self._p = p
        self._mask: Array | None = None

    def forward(self, inputs: Array, phase: Phase) -> Array:
        if not phase.training or self._p == 0:
            self._mask = None
            return inputs
        # drawn on the host, so that the draw does not depend on the device
        kept = phase.rng.random(inputs.shape, np.float32) >= self._p
        self._mask = namespace(inputs).asarray(kept) * inputs.dtype.type(1 / (1 - self._p))
        return inputs * self._mask

    def backward(self, grad: Array, ready: Ready) -> Array:
        del ready
        return grad if self._mask is None else grad * self._mask


def sigmoid(x: Array) -> Array:
    """The logistic function, without overflow: ``(tanh(x / 2) + 1) / 2``."""
    numbers = wide(x)  # near 0 the sum of two numbers near 1 has few bits
    half = np.tanh(numbers * numbers.dtype.type(0.5))
    half += 1
    half *= numbers.dtype.type(0.5)
    return half.astype(x.dtype, copy=False)
