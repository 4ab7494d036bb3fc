"""Forward passes of a model on its device, outside of training: measuring and predicting. Local."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpimlsys.kernels.arrays import to_host, wide
from mpimlsys.nn import FlatSpace, Module
from mpimlsys.nn.losses import Number
from mpimlsys.train.compute import Compute
from mpimlsys.types import Array, Dataset, IntArray, Phase

_BATCH = 256


class Passes:
    """What a trainer's passes have in common.

    Args:
        model: whose parameters are in ``space``.
        loss: of its outputs.
        space: its parameters.
        compute: where it computes.
    """

    def __init__(self, model: Module, loss: Any, space: FlatSpace, compute: Compute) -> None:
        self._model, self._loss, self._space, self._compute = model, loss, space, compute

    def outputs(self, inputs: Array, phase: Phase) -> Array:
        """The outputs for inputs on the device, in float32 or wider."""
        return wide(self._model.forward(inputs, phase))

    def check(self, inputs: Array, targets: Array, phase: Phase) -> None:
        """Look for what a device only marks by NaN.

        Args:
            inputs, targets: a batch in the memory of the host.
            phase: of the pass that gave NaN.

        Raises:
            ConfigError: an index or a label that cannot be.
        """
        outputs = self.outputs(self._compute.inputs(inputs), replace(phase, checked=True))
        check = getattr(self._loss, "check", None)  # a loss of the user's own may have none
        if check is not None:
            check(outputs, targets)

    def measured(self, data: Dataset, share: IntArray, phase: Phase) -> Array:
        """Sums over this rank's ``share`` of the samples: loss, measure, targets.

        Raises:
            ConfigError: an index or a label that cannot be.
        """
        loss: Number = 0.0
        measure: Number = 0.0
        count = 0
        batches = parts(share, _BATCH)
        self._space.refresh()
        for part in batches:
            inputs, targets = data.batch(part)
            outputs = self.outputs(self._compute.inputs(inputs), phase)
            wanted = self._compute.put(targets)
            loss = loss + self._loss(outputs, wanted, len(data))[0]
            measure = measure + self._loss.measure(outputs, wanted)
            count += targets.size
        sums = np.array([*self._compute.read(loss, measure), count])
        if not self._compute.is_host and not np.isfinite(sums[0]):
            for part in batches:
                self.check(*data.batch(part), phase)
        return sums

    def predicted(self, inputs: Array, phase: Phase) -> Array:
        """The outputs for inputs in the memory of the host, in that memory."""
        phase = replace(phase, checked=True)
        self._space.refresh()
        batches = (inputs[at : at + _BATCH] for at in range(0, max(1, len(inputs)), _BATCH))
        # copies, as the next pass may write into the same memory
        return np.concatenate(
            [
                np.array(to_host(self.outputs(self._compute.inputs(batch), phase)))
                for batch in batches
            ]
        )


def parts(indices: IntArray, size: int) -> Sequence[IntArray]:
    """``indices`` in pieces of ``size``, the last may be smaller."""
    return [indices[start : start + size] for start in range(0, len(indices), max(1, size))]
