"""Linear and convolution layers, max pooling, flatten."""

from __future__ import annotations

import math

import numpy as np

from mpimlsys import kernels
from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import namespace
from mpimlsys.nn import init
from mpimlsys.nn.module import Buffer, Module, Parameter, product
from mpimlsys.types import Array, Phase, Ready

# PyTorch's default for the weights of linear and convolution layers
_WEIGHT = init.kaiming_uniform(math.sqrt(1 / 3))


class Linear(Module):
    """``y = x W^T + b`` over the last axis.

    Args:
        inputs, outputs: width of x and y.
        bias: whether there is a b.
        weight_init: by default uniform in ±1/sqrt(inputs), as PyTorch.

    Shapes:
        x (..., inputs), y (..., outputs), weight (outputs, inputs), bias (outputs,).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        weight_init: init.Initializer = _WEIGHT,
    ) -> None:
        self.weight = Parameter((outputs, inputs), weight_init)
        bound = 1 / math.sqrt(max(1, inputs))
        self.bias = Parameter((outputs,), init.uniform(bound), decay=False) if bias else None
        self._rows = np.empty((0, 0))

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        width = self.weight.shape[1]
        if inputs.shape[-1] != width:
            raise ConfigError(
                f"a linear layer of {width} inputs got {inputs.shape[-1]} (shape {inputs.shape})."
            )
        self._rows = inputs.reshape(-1, width)
        outputs = product(self._rows, self.weight.value.T)
        if self.bias is not None:
            outputs += self.bias.value
        return outputs.reshape(*inputs.shape[:-1], outputs.shape[1])

    def backward(self, grad: Array, ready: Ready) -> Array:
        rows = grad.reshape(-1, self.weight.shape[0])
        if self.bias is not None:
            self.bias.add(rows.sum(axis=0, dtype=self.bias.grad.dtype))
            ready(self.bias)
        self.weight.add(rows.T @ self._rows)
        ready(self.weight)
        inner = product(rows, self.weight.value)
        return inner.reshape(*grad.shape[:-1], self.weight.shape[1])


class Conv2d(Module):
    """Cross-correlation of images with square kernels, as one matrix product.

    The outputs are (samples, channels, height, width) to the outside and stored with the samples
    innermost, which is how the product writes them and how the next layer reads them.

    Args:
        inputs, outputs: channels.
        kernel, stride, padding: pixels.
        bias: whether a number is added per channel.
        input_gradient: False for the first layer of a network, whose input gradient nobody uses.

    Shapes:
        x (N, inputs, H, W), y (N, outputs, OH, OW), weight (outputs, inputs, kernel, kernel).

    Source:
        Chellapilla, Puri, Simard 2006 (convolution as a matrix product).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        input_gradient: bool = True,
        weight_init: init.Initializer = _WEIGHT,
    ) -> None:
        self.weight = Parameter((outputs, inputs, kernel, kernel), weight_init)
        bound = 1 / math.sqrt(max(1, inputs * kernel * kernel))
        self.bias = Parameter((outputs,), init.uniform(bound), decay=False) if bias else None
        self._kernel, self._stride, self._padding = kernel, stride, padding
        self._input_gradient = input_gradient
        self._columns = np.empty((0, 0))
        self._shape: tuple[int, ...] = ()
        self._buffers = [Buffer() for _ in range(4)]

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        outputs, channels, kernel, _ = self.weight.shape
        if inputs.ndim != 4 or inputs.shape[1] != channels:
            raise ConfigError(
                f"a convolution of {channels} channels got inputs of shape {inputs.shape}; it "
                "needs (samples, channels, height, width)."
            )
        samples, _, height, width = self._shape = inputs.shape
        out_height, out_width = (
            (size + 2 * self._padding - kernel) // self._stride + 1 for size in (height, width)
        )
        if out_height < 1 or out_width < 1:
            raise ConfigError(f"images of {height}x{width} are smaller than the kernel {kernel}.")
        count = samples * out_height * out_width
        columns, products, _, _ = self._buffers
        self._columns = columns.take((channels * kernel * kernel, count), inputs)
        images = namespace(inputs).ascontiguousarray(inputs.transpose(1, 2, 3, 0))
        kernels.of(images).im2col(images, kernel, self._stride, self._padding, self._columns)
        result = products.take((outputs, count), inputs)
        np.matmul(self.weight.value.reshape(outputs, -1), self._columns, out=result)
        if self.bias is not None:
            result += self.bias.value[:, None]
        return result.reshape(outputs, out_height, out_width, samples).transpose(3, 0, 1, 2)

    def backward(self, grad: Array, ready: Ready) -> Array:
        outputs, channels, kernel, _ = self.weight.shape
        rows = namespace(grad).ascontiguousarray(grad.transpose(1, 2, 3, 0)).reshape(outputs, -1)
        if self.bias is not None:
            self.bias.add(rows.sum(axis=1, dtype=self.bias.grad.dtype))
            ready(self.bias)
        # this way round the long matrix is read along its rows, which is a third faster
        change = self.weight.grad.reshape(outputs, -1)
        change += (self._columns @ rows.T).T
        ready(self.weight)
        if not self._input_gradient:
            return namespace(grad).zeros(self._shape, grad.dtype)
        _, _, spread, pixels = self._buffers
        columns = spread.take(self._columns.shape, grad)
        np.matmul(self.weight.value.reshape(outputs, -1).T, rows, out=columns)
        samples, _, height, width = self._shape
        images = pixels.take((channels, height, width, samples), grad)
        kernels.of(images).col2im(columns, kernel, self._stride, self._padding, images)
        return images.transpose(3, 0, 1, 2)


class MaxPool2d(Module):
    """The largest value under each square window; the first one of equals.

    Args:
        size: of the window, in pixels.
        stride: between windows; by default ``size``.

    Shapes:
        x (N, C, H, W), y (N, C, (H - size) // stride + 1, ...).
    """

    def __init__(self, size: int, stride: int | None = None) -> None:
        self._size, self._stride = size, stride or size
        self._winners = np.empty(0, np.uint8)
        self._shape: tuple[int, ...] = ()
        self._buffers = [Buffer() for _ in range(3)]
        if size > 16:
            raise ConfigError(f"a pooling window of {size} pixels is too large; at most 16.")

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        samples, channels, height, width = self._shape = inputs.shape
        out_height, out_width = (
            (side - self._size) // self._stride + 1 for side in (height, width)
        )
        if out_height < 1 or out_width < 1:
            raise ConfigError(
                f"images of {height}x{width} are smaller than the window {self._size}."
            )
        images = namespace(inputs).ascontiguousarray(inputs.transpose(1, 2, 3, 0))
        shape = (channels, out_height, out_width, samples)
        pooled = self._buffers[0].take(shape, inputs)
        self._winners = self._buffers[1].take(shape, inputs, np.uint8)
        layout = self._size, self._stride
        kernels.of(images).max_pool(images, *layout, pooled, self._winners)
        return pooled.transpose(3, 0, 1, 2)

    def backward(self, grad: Array, ready: Ready) -> Array:
        del ready
        samples, channels, height, width = self._shape
        change = namespace(grad).ascontiguousarray(grad.transpose(1, 2, 3, 0))
        images = self._buffers[2].take((channels, height, width, samples), grad)
        layout = self._size, self._stride
        kernels.of(images).max_pool_backward(change, self._winners, *layout, images)
        return images.transpose(3, 0, 1, 2)


class Flatten(Module):
    """All axes but the first as one: (N, ...) to (N, width)."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()

    def forward(self, inputs: Array, phase: Phase) -> Array:
        del phase
        self._shape = inputs.shape
        return inputs.reshape(len(inputs), int(np.prod(inputs.shape[1:])))

    def backward(self, grad: Array, ready: Ready) -> Array:
        del ready
        return grad.reshape(self._shape)
