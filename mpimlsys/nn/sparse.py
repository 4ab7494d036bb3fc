"""Models whose rows are at parameter servers; a sample has a few of very many features.

Inputs are (samples, fields) arrays of ``mpimlsys.data.sparse.FEATURE``: a feature's number, and
its value, which is 0 for one that the training data did not have. Rows get the *sum* of gradients
over the samples of a step, as FTRL and Adagrad have it in their papers; dense parameters get the
mean, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpimlsys.nn import init
from mpimlsys.nn.activation import ReLU
from mpimlsys.nn.linear import Linear
from mpimlsys.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, Loss, MSELoss, Number
from mpimlsys.nn.module import Module, Parameter, Sequential
from mpimlsys.nn.served import ServedEmbedding
from mpimlsys.types import Array, Phase, Ready


class _Counted:
    """A loss that remembers over how many samples it took the mean."""

    def __init__(self, loss: Loss) -> None:
        self._loss, self.samples = loss, 1
        self.measure_name = loss.measure_name

    def __call__(self, outputs: Array, targets: Array, samples: int) -> tuple[Number, Array]:
        self.samples = samples
        return self._loss(outputs, targets, samples)

    def measure(self, outputs: Array, targets: Array) -> Number:
        """As the loss."""
        return self._loss.measure(outputs, targets)


class SparseLogistic(Module):
    """Logistic regression: the sum of the features' weights times their values, and a bias.

    Args:
        rows: of one number.

    Source:
        McMahan et al. 2013, "Ad click prediction: a view from the trenches".
    """

    def __init__(self, rows: ServedEmbedding) -> None:
        self.loss = _Counted(BCEWithLogitsLoss())
        self.rows = rows
        self.bias = Parameter((1,), init.zeros(), decay=False)

    def forward(self, inputs: Array, phase: Phase) -> Array:
        self._values = inputs["value"][..., None]
        weights = self.rows.forward(inputs["feature"], phase)
        return (weights * self._values).sum(axis=1) + self.bias.value

    def backward(self, grad: Array, ready: Ready) -> Array:
        self.bias.grad[...] += grad.sum(axis=0)
        ready(self.bias)
        self.rows.backward(grad[:, None] * self._values * np.float32(self.loss.samples), ready)
        return grad


class MatrixFactorization(Module):
    """A bias for all, for each user and item, and the product of the factors of the two.

    Args:
        rows: factors, and a bias as the last number.
        l2: weight of ``|row|^2`` for each sample that a row is in.

    Source:
        Koren, Bell, Volinsky 2009, "Matrix factorization techniques for recommender systems",
        eq. 4 and 5.
    """

    def __init__(self, rows: ServedEmbedding, l2: float) -> None:
        self.loss = _Counted(MSELoss())
        self.rows, self._l2 = rows, np.float32(2 * l2)
        self.bias = Parameter((1,), init.zeros(), decay=False)

    def forward(self, inputs: Array, phase: Phase) -> Array:
        self._known = inputs["value"][..., None]
        self._pairs = self.rows.forward(inputs["feature"], phase) * self._known
        users, items = self._pairs[:, 0], self._pairs[:, 1]
        products = (users[:, :-1] * items[:, :-1]).sum(axis=1, keepdims=True)
        return products + users[:, -1:] + items[:, -1:] + self.bias.value

    def backward(self, grad: Array, ready: Ready) -> Array:
        self.bias.grad[...] += grad.sum(axis=0)
        ready(self.bias)
        errors = grad[:, None] * np.float32(self.loss.samples)
        each = np.empty_like(self._pairs)
        each[:, :, :-1] = errors * self._pairs[:, ::-1, :-1]
        each[:, :, -1:] = errors
        each += self._l2 * self._pairs
        self.rows.backward(each * self._known, ready)
        return grad


class WideAndDeep(Module):
    """A weight of each feature and class, and layers on top of an embedding of each.

    Args:
        wide: rows of a number for each class.
        deep: rows that are the embeddings.
        fields: features of a sample.
        width: of the embeddings.
        outputs: classes.
        hidden: widths of the layers.

    Source:
        Cheng et al. 2016, "Wide & deep learning for recommender systems".
    """

    def __init__(
        self,
        wide: ServedEmbedding,
        deep: ServedEmbedding,
        fields: int,
        width: int,
        outputs: int,
        hidden: Sequence[int],
    ) -> None:
        self.loss = _Counted(CrossEntropyLoss())
        self.wide, self.deep = wide, deep
        layers: list[Module] = []
        inputs = fields * width
        for units in hidden:
            layers += [Linear(inputs, units), ReLU()]
            inputs = units
        self.body = Sequential(*layers, Linear(inputs, outputs))

    def forward(self, inputs: Array, phase: Phase) -> Array:
        self._known = inputs["value"][..., None]
        wide = (self.wide.forward(inputs["feature"], phase) * self._known).sum(axis=1)
        deep = self.deep.forward(inputs["feature"], phase) * self._known
        self._shape = deep.shape
        return wide + self.body.forward(
            deep.reshape(len(inputs), deep.shape[1] * deep.shape[2]), phase
        )

    def backward(self, grad: Array, ready: Ready) -> Array:
        scale = self._known * np.float32(self.loss.samples)
        self.wide.backward(grad[:, None] * scale, ready)
        self.deep.backward(self.body.backward(grad, ready).reshape(self._shape) * scale, ready)
        return grad
