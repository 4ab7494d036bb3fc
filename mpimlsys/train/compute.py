"""Where a model computes: on the processor, or on a GPU.

On a GPU the flat arrays, the optimiser's state and the activations are there. Samples are drawn
and batches made on the host; a step copies its batch once, and then runs ahead of the device. It
waits for it in one place, :meth:`Compute.read`, when its loss is read after the exchange.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpimlsys.context import Context
from mpimlsys.errors import ConfigError
from mpimlsys.exchange import AllReduce, ParameterServers
from mpimlsys.kernels.arrays import on_host, open_device, to_host
from mpimlsys.types import Array


class Compute:
    """The device of a rank.

    Args:
        ctx: of the workers.
        device: ``"cpu"``, or ``"cuda"``: the GPU of the rank's number on its node.

    Raises:
        ConfigError: there is no such device, on this rank.
    """

    def __init__(self, ctx: Context, device: str) -> None:
        self._ctx = ctx
        self._namespace = open_device(device, ctx.local_rank)

    @property
    def is_host(self) -> bool:
        """Whether the device is the processor."""
        return self._namespace is np

    def empty(self, count: int, dtype: Any) -> Array:
        """Memory for a flat array: what the ranks of a node share, or memory of the device."""
        if self.is_host:
            return self._ctx.empty(count, dtype)
        return self._namespace.empty(count, dtype)

    def put(self, array: Array) -> Array:
        """An array of the host on the device."""
        return array if self.is_host else self._namespace.asarray(array)

    def read(self, *numbers: float | Array) -> list[float]:
        """Numbers, or arrays without axes on the device, as numbers; waits for the device once."""
        if all(on_host(number) for number in numbers):
            return [float(number) for number in numbers]
        xp = self._namespace
        together = xp.stack([xp.asarray(number, np.float64) for number in numbers])
        return to_host(together).tolist()


def check_supported(device: str, exchange: AllReduce | ParameterServers) -> None:
    """Check that there is such a combination.

    Raises:
        ConfigError: there is not.
    """
    if device != "cpu" and isinstance(exchange, ParameterServers):
        raise ConfigError(
            f"device = {device!r} does not go with parameter servers, nor with models whose rows "
            "they hold: servers and rows are in the memory of the host. Set exchange.kind = "
            "'allreduce' and cluster.servers = 0, or cluster.device = 'cpu'."
        )
