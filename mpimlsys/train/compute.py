"""Where a model computes, and in which numbers: on the processor or a GPU, in 32 or 16 bits.

On a GPU the flat arrays, the optimiser's state and the activations are there. Samples are drawn
and batches made on the host; a step copies its batch once, and then runs ahead of the device. It
waits for it in one place, :meth:`Compute.read`, when its loss is read after the exchange.

In mixed precision parameters, gradients and losses are float32. Layers compute in bfloat16 or
float16, from a copy of the parameters that is made anew for every pass.

Source:
    Micikevicius et al. 2018, "Mixed precision training".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpimlsys.context import Context
from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import open_device, to_host
from mpimlsys.train.lossscale import LossScale
from mpimlsys.types import Array, Bucket


class Compute:
    """The device and the numbers of a rank.

    Args:
        ctx: of the workers.
        device: ``"cpu"``, or ``"cuda"``: the GPU of the rank's number on its node.
        precision: ``"float32"``, ``"bf16"`` or ``"fp16"``, of what layers compute.

    Attributes:
        half: the dtype of layers in mixed precision; None where they have the parameters' own.
        scale: of the loss, in float16.

    Raises:
        ConfigError: there is no such device or precision, on this rank.
    """

    def __init__(self, ctx: Context, device: str, precision: str) -> None:
        self._ctx = ctx
        self._namespace = open_device(device, ctx.local_rank)
        self.half = _half_of(precision)
        self.scale = LossScale() if precision == "fp16" else None
        if not self.is_host:
            self._try_out(precision)

    @property
    def is_host(self) -> bool:
        """Whether the device is the processor."""
        return self._namespace is np

    def empty(self, count: int, dtype: Any) -> Array:
        """Memory for a flat array: what the ranks of a node share, or memory of the device."""
        if self.is_host:
            return self._ctx.empty(count, dtype)
        try:
            return self._namespace.empty(count, dtype)
        except MemoryError as error:
            raise out_of_memory(error) from error

    def _try_out(self, precision: str) -> None:
        """A product and a sum in the numbers of the layers: compilers and libraries are there."""
        xp = self._namespace
        try:
            probe = xp.zeros((2, 2), np.float32).astype(self.half or np.float32)
            to_host((probe @ probe + probe).astype(np.float32))
        except Exception as error:  # CuPy's own, of many kinds: told as one
            raise ConfigError(
                f"precision = {precision!r} cannot be computed on this GPU: {error}. bf16 needs "
                "CUDA 12.2 and a GPU of compute capability 8; see 'mpimlsys doctor', or set "
                "job.precision = 'float32' or cluster.device = 'cpu'."
            ) from error

    def put(self, array: Array) -> Array:
        """An array of the host on the device."""
        return array if self.is_host else self._namespace.asarray(array)

    def inputs(self, array: Array) -> Array:
        """Samples on the device, in the numbers of the layers."""
        array = self.put(array)
        if self.half is None or array.dtype.kind != "f":
            return array
        return array.astype(self.half)

    def scaled(self, gradient: Array) -> Array:
        """The gradient of the outputs times the factor of the loss, in the numbers of layers."""
        if self.scale is not None:
            gradient = gradient * gradient.dtype.type(self.scale.factor)
        return gradient if self.half is None else gradient.astype(self.half)

    def unscale(self, bucket: Bucket) -> None:
        """Take the factor of the loss out of what is to be exchanged."""
        if self.scale is not None:
            gradient = bucket.gradient
            gradient *= gradient.dtype.type(1 / self.scale.factor)

    def read(self, *numbers: float | Array) -> list[float]:
        """Numbers, or arrays without axes on the device, as numbers; waits for the device once."""
        if self.is_host:
            return [float(number) for number in numbers]
        xp = self._namespace
        together = xp.stack([xp.asarray(number, np.float64) for number in numbers])
        return to_host(together).tolist()


def out_of_memory(error: MemoryError) -> ConfigError:
    """What to do about it."""
    return ConfigError(
        f"there is not enough memory: {error}. Set data.accumulate = 4, a smaller "
        "data.batch_size, or run fewer ranks on a GPU."
    )


def _half_of(precision: str) -> np.dtype[Any] | None:
    if precision == "float32":
        return None
    if precision == "fp16":
        return np.dtype(np.float16)
    if precision != "bf16":
        raise ConfigError(f"precision = {precision!r}; use 'float32', 'bf16' or 'fp16'.")
    try:
        import ml_dtypes
    except ImportError as error:
        raise ConfigError(
            "precision = 'bf16' needs the package ml_dtypes: pip install ml_dtypes; or set "
            "job.precision = 'fp16' or 'float32'."
        ) from error
    return np.dtype(ml_dtypes.bfloat16)
