"""Embedding, layer norm and recurrent layers over (samples, time, features)."""

from __future__ import annotations

import math

import numpy as np

from mpimlsys import kernels
from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import namespace, on_host, wide
from mpimlsys.nn import init
from mpimlsys.nn.activation import sigmoid
from mpimlsys.nn.module import Module, Parameter, product
from mpimlsys.types import Array, Phase, Ready


class Embedding(Module):
    """A row of a table per index.

    Args:
        count: rows of the table.
        width: of a row.

    Shapes:
        x (...) integers in [0, count), y (..., width), weight (count, width).

    On a device an index out of range gives a row of NaN, as a check would wait for the device; a
    phase that is ``checked`` finds it.
    """

    def __init__(self, count: int, width: int) -> None:
        self.weight = Parameter((count, width), init.normal(1.0))

    def forward(self, inputs: Array, phase: Phase) -> Array:
        must_be_indices(inputs, "an embedding")
        self._indices = inputs
        if phase.checked or on_host(inputs):
            self._check(inputs)
            return self.weight.value[inputs]
        known = (inputs >= 0) & (inputs < self.weight.shape[0])
        rows = self.weight.value[inputs]
        rows = np.where(known[..., None], rows, rows.dtype.type(np.nan))
        return rows.astype(self.weight.value.dtype, copy=False)  # CuPy's "where" widens bfloat16

    def backward(self, grad: Array, ready: Ready) -> Array:
        xp, width = namespace(grad), self.weight.shape[1]
        rows = xp.ascontiguousarray(self._indices.reshape(-1).astype(np.int64, copy=False))
        updates = xp.ascontiguousarray(grad).reshape(-1, width)
        kernels.of(updates).scatter_add(rows, updates, self.weight.grad)
        ready(self.weight)
        return xp.zeros(self._indices.shape, grad.dtype)

    def _check(self, indices: Array) -> None:
        count = self.weight.shape[0]
        if indices.size and (indices.min() < 0 or indices.max() >= count):
            raise ConfigError(
                f"an index of {indices.max() if indices.max() >= count else indices.min()} is "
                f"outside the embedding's {count} rows."
            )


def must_be_indices(inputs: Array, whose: str) -> None:
    """Refuse what are not integers.

    Raises:
        ConfigError: says what to give the trainer.
    """
    if inputs.dtype.kind not in "iu":
        raise ConfigError(
            f"rows of {whose} are named by integers, not {inputs.dtype}: give the trainer "
            "mls.data.ArrayDataset(inputs, targets, dtype='int64')."
        )


class LayerNorm(Module):
    """Brings the last axis to mean 0 and variance 1, then scales and shifts it.

    Args:
        width: of the last axis.
        eps: added to the variance.

    Source:
        Ba, Kiros, Hinton 2016, "Layer normalization", eq. 4.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.weight = Parameter((width,), init.ones(), decay=False)
        self.bias = Parameter((width,), init.zeros(), decay=False)
        self._eps = eps

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        numbers = wide(inputs)
        centred = numbers - numbers.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        self._scale = 1 / np.sqrt(variance + numbers.dtype.type(self._eps))
        self._normal = centred * self._scale
        outputs = self._normal * self.weight.value + self.bias.value
        return outputs.astype(inputs.dtype, copy=False)

    def backward(self, grad: Array, ready: Ready) -> Array:
        axes = tuple(range(grad.ndim - 1))
        numbers = wide(grad)
        self.bias.add(numbers.sum(axis=axes))
        ready(self.bias)
        self.weight.add((numbers * self._normal).sum(axis=axes))
        ready(self.weight)
        inner = numbers * self.weight.value
        mean = inner.mean(axis=-1, keepdims=True)
        along = (inner * self._normal).mean(axis=-1, keepdims=True)
        outer = (inner - mean - self._normal * along) * self._scale
        return outer.astype(grad.dtype, copy=False)


class _Recurrent(Module):
    """What RNN and LSTM share: weights named and ordered as PyTorch's, inputs of all times at once.

    The weight's columns hold ``gates`` blocks of ``hidden``; both biases are kept, as PyTorch does.
    """

    def __init__(self, inputs: int, hidden: int, gates: int) -> None:
        weight = init.uniform(1 / math.sqrt(hidden))
        self.weight_ih = Parameter((gates * hidden, inputs), weight)
        self.weight_hh = Parameter((gates * hidden, hidden), weight)
        self.bias_ih = Parameter((gates * hidden,), weight, decay=False)
        self.bias_hh = Parameter((gates * hidden,), weight, decay=False)
        self.hidden = hidden

    def _project(self, inputs: Array) -> Array:
        """The inputs' part of the gates, (T, N, gates * hidden)."""
        if inputs.ndim != 3 or inputs.shape[2] != self.weight_ih.shape[1]:
            raise ConfigError(
                f"a recurrent layer got inputs of shape {inputs.shape}; it needs (samples, time, "
                f"{self.weight_ih.shape[1]})."
            )
        self._inputs = namespace(inputs).ascontiguousarray(inputs.transpose(1, 0, 2))
        projected = product(self._inputs, self.weight_ih.value.T)
        projected += self.bias_ih.value + self.bias_hh.value
        return projected

    def _finish(self, gates: Array, states: Array, ready: Ready) -> Array:
        """Weight gradients from the gates' gradients (T, N, ...) and the states (T + 1, N, H)."""
        flat = gates.reshape(-1, gates.shape[2])
        bias = flat.sum(axis=0, dtype=self.bias_hh.grad.dtype)
        for parameter in (self.bias_hh, self.bias_ih):
            parameter.add(bias)
            ready(parameter)
        self.weight_hh.add(flat.T @ states[:-1].reshape(-1, self.hidden))
        ready(self.weight_hh)
        self.weight_ih.add(flat.T @ self._inputs.reshape(len(flat), self._inputs.shape[2]))
        ready(self.weight_ih)
        return product(gates, self.weight_ih.value).transpose(1, 0, 2)


class RNN(_Recurrent):
    """``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`` from ``h_0 = 0``.

    Args:
        inputs: features per time.
        hidden: units.

    Shapes:
        x (N, T, inputs), y (N, T, hidden).

    Source:
        Elman 1990, "Finding structure in time".
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, gates=1)

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        gates = self._project(inputs)
        steps, samples = gates.shape[:2]
        self._states = namespace(gates).zeros((steps + 1, samples, self.hidden), gates.dtype)
        recurrent = self.weight_hh.value.T
        for t in range(steps):
            gate = gates[t]
            gate += product(self._states[t], recurrent)
            np.tanh(gate, out=self._states[t + 1])
        return self._states[1:].transpose(1, 0, 2)

    def backward(self, grad: Array, ready: Ready) -> Array:
        states = self._states
        outer = grad.transpose(1, 0, 2)
        gates = np.empty_like(states[1:])
        state = np.zeros_like(states[0])
        for t in reversed(range(len(outer))):
            state += outer[t]
            np.multiply(state, 1 - np.square(states[t + 1]), out=gates[t])
            state = product(gates[t], self.weight_hh.value)
        return self._finish(gates, states, ready)


class LSTM(_Recurrent):
    """Long short-term memory, gates in PyTorch's order (input, forget, cell, output), from 0.

    ``c_t = f c_{t-1} + i g`` and ``h_t = o tanh(c_t)`` with ``i, f, o`` logistic and ``g`` tanh of
    ``W_ih x_t + b_ih + W_hh h_{t-1} + b_hh``.

    Args:
        inputs: features per time.
        hidden: units.

    Shapes:
        x (N, T, inputs), y (N, T, hidden).

    Source:
        Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000 (forget gate).
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, gates=4)

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        self._gates = gates = self._project(inputs)
        steps, samples = gates.shape[:2]
        xp, h = namespace(gates), self.hidden
        self._states = xp.zeros((steps + 1, samples, h), gates.dtype)
        self._cells = xp.zeros((steps + 1, samples, h), gates.dtype)
        self._squashed = xp.empty((steps, samples, h), gates.dtype)
        recurrent = self.weight_hh.value.T
        for t in range(steps):
            gate = gates[t]
            gate += product(self._states[t], recurrent)
            gate[:, : 2 * h] = sigmoid(gate[:, : 2 * h])
            gate[:, 2 * h : 3 * h] = np.tanh(gate[:, 2 * h : 3 * h])
            gate[:, 3 * h :] = sigmoid(gate[:, 3 * h :])
            enter, forget, cell, leave = (gate[:, k * h : (k + 1) * h] for k in range(4))
            np.multiply(forget, self._cells[t], out=self._cells[t + 1])
            memory = self._cells[t + 1]
            memory += enter * cell
            np.tanh(self._cells[t + 1], out=self._squashed[t])
            np.multiply(leave, self._squashed[t], out=self._states[t + 1])
        return self._states[1:].transpose(1, 0, 2)

    def backward(self, grad: Array, ready: Ready) -> Array:
        h = self.hidden
        outer = grad.transpose(1, 0, 2)
        gates = np.empty_like(self._gates)
        state = np.zeros_like(self._states[0])
        memory = np.zeros_like(state)
        for t in reversed(range(len(outer))):
            gate, squashed = self._gates[t], self._squashed[t]
            enter, forget, cell, leave = (gate[:, k * h : (k + 1) * h] for k in range(4))
            state += outer[t]
            memory += state * leave * (1 - np.square(squashed))
            gates[t, :, :h] = memory * cell * enter * (1 - enter)
            gates[t, :, h : 2 * h] = memory * self._cells[t] * forget * (1 - forget)
            gates[t, :, 2 * h : 3 * h] = memory * enter * (1 - np.square(cell))
            gates[t, :, 3 * h :] = state * squashed * leave * (1 - leave)
            state = product(gates[t], self.weight_hh.value)
            memory *= forget
        return self._finish(gates, self._states, ready)
