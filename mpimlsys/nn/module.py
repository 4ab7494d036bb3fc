"""Parameters, modules and sequences of modules.

A module computes ``forward`` and, for the same input, ``backward``. To write your own, compose
other modules::

    class Residual(nn.Module):
        def __init__(self, width):
            self.body = nn.Sequential(nn.Linear(width, width), nn.ReLU())

        def forward(self, x, phase):
            return x + self.body.forward(x, phase)

        def backward(self, grad, ready):
            return grad + self.body.backward(grad, ready)

A layer with parameters of its own has them as :class:`Parameter` attributes, adds into their
``grad`` in ``backward``, and calls ``ready(parameter)`` when that is done, so that the gradient
can travel while backward goes on.

What ``forward`` and ``backward`` return may be overwritten by the module's next call.

Arrays are NumPy's or, on a GPU, CuPy's, on which NumPy's functions work too. Make new ones with
``np.zeros_like`` and its like, or with the functions of ``mpimlsys.kernels.arrays.namespace(x)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import namespace, on_host
from mpimlsys.nn.init import Initializer
from mpimlsys.types import Array, Phase, Ready


class Parameter:
    """One named array of a model.

    Args:
        shape: of the array.
        init: how it is filled, see :mod:`mpimlsys.nn.init`.
        decay: whether weight decay applies; biases and norms are usually left out.

    Attributes:
        name: dotted path in the model, set by :class:`~mpimlsys.nn.FlatSpace`.
        value, grad: arrays of ``shape``, views of the flat arrays.
    """

    def __init__(self, shape: Sequence[int], init: Initializer, *, decay: bool = True) -> None:
        self.shape = tuple(shape)
        self.init = init
        self.decay = decay
        self.name = ""
        self._value: Array | None = None
        self._grad: Array | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    @property
    def value(self) -> Array:
        """The array; changed by the optimiser."""
        if self._value is None:
            raise ConfigError(_UNATTACHED)
        return self._value

    @property
    def grad(self) -> Array:
        """The gradient; a layer's backward adds to it."""
        if self._grad is None:
            raise ConfigError(_UNATTACHED)
        return self._grad

    def add(self, gradient: Array) -> None:
        """Add to ``grad``, which may be of wider numbers."""
        grad = self.grad
        grad += gradient

    def attach(self, name: str, value: Array, grad: Array) -> None:
        """Take a place in the flat arrays."""
        self.name, self._value, self._grad = (
            name,
            value.reshape(self.shape),
            grad.reshape(self.shape),
        )


class Module:
    """A differentiable function with parameters; see the head of this file.

    Attributes:
        loss: what the trainer minimises, such as ``nn.CrossEntropyLoss()``; the outermost
            module's counts.
    """

    loss: Any = None

    def forward(self, inputs: Array, phase: Phase) -> Array:
        """The outputs for ``inputs``; keeps what ``backward`` needs.

        Args:
            inputs: (samples, ...), also with no sample.
            phase: training or not, and its random generator.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def backward(self, grad: Array, ready: Ready) -> Array:
        """The gradient of the last forward's inputs; adds into the parameters' ``grad``.

        Args:
            grad: gradient of the outputs, of their shape.
            ready: called with each parameter once its ``grad`` is complete.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define backward")

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, with dotted paths, in the order of their definition."""
        yield prefix, self
        for name, child in self._children():
            if isinstance(child, Module):
                yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted paths, in the order of their definition."""
        for path, module in self.named_modules():
            for name, child in module._children():
                if isinstance(child, Parameter):
                    yield (f"{path}.{name}" if path else name), child

    def _children(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if isinstance(value, (Module, Parameter)):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for index, item in enumerate(value):
                    if isinstance(item, (Module, Parameter)):
                        yield f"{name}.{index}", item


class Sequential(Module):
    """Modules one after the other; their names are their positions.

    Args:
        modules: applied in order.
    """

    def __init__(self, *modules: Module) -> None:
        self._modules = modules

    def forward(self, inputs: Array, phase: Phase) -> Array:
        """Every module on the outputs of the one before."""
        for module in self._modules:
            inputs = module.forward(inputs, phase)
        return inputs

    def backward(self, grad: Array, ready: Ready) -> Array:
        """Every module's backward, in reverse."""
        for module in reversed(self._modules):
            grad = module.backward(grad, ready)
        return grad

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self._children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _children(self) -> Iterator[tuple[str, Module]]:
        return ((str(index), module) for index, module in enumerate(self._modules))


class Buffer:
    """Memory that a layer uses again at every step, so that its pages stay warm."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def take(self, shape: Sequence[int], like: Array, dtype: Any = None) -> Array:
        """An uninitialised array where ``like`` is; the one taken before is given up.

        Args:
            shape: of the array.
            like: whose device and, by default, dtype it has.
            dtype: another one.
        """
        dtype = np.dtype(dtype or like.dtype)
        if not on_host(like):  # CuPy itself keeps memory for the next time
            return namespace(like).empty(shape, dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        if self._memory.nbytes < nbytes + 64:
            self._memory = np.empty(nbytes + 64, np.uint8)
        start = -self._memory.ctypes.data % 64
        return self._memory[start : start + nbytes].view(dtype).reshape(shape)


def product(left: Array, right: Array) -> Array:
    """The product with a matrix in the dtype of ``left``; NumPy's is wider for bfloat16."""
    rows = left
    if left.ndim > 2 and not on_host(left):
        # one product; CuPy makes one for each matrix, and fails at it in bfloat16 (its #10317)
        rows = left.reshape(-1, left.shape[-1])
    products = (rows @ right).astype(left.dtype, copy=False)
    return products.reshape(*left.shape[:-1], right.shape[1])


_UNATTACHED = (
    "this parameter has no memory yet: give the model to a Trainer, or to nn.FlatSpace(model)."
)
