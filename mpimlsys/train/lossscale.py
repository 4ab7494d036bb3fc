"""The factor that keeps small gradients from vanishing in float16.

The loss is multiplied by it, and gradients, in float32, are divided by it before they are
exchanged, both exactly, as it is a power of two. Gradients that overflowed are not finite, and
neither is their sum over the ranks: all ranks see it in what they exchanged, leave out the step and
halve the factor.

Source:
    Micikevicius et al. 2018, "Mixed precision training", section 3.2; the numbers are those of
    PyTorch's ``GradScaler``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpimlsys.errors import Diverged
from mpimlsys.types import Array, State

_GOOD_STEPS = 2000  # before it is doubled
_HOPELESS_STEPS = 50  # that were left out one after the other: no factor helps


class LossScale:
    """The factor of a run; the same on all ranks.

    Attributes:
        factor: of the loss.
    """

    def __init__(self) -> None:
        self.factor = 2.0**16
        self._good_steps = 0
        self._left_out = 0

    def may_update(self, finite: bool, step: int, lr: float) -> bool:
        """Learn whether the global gradient of a step is finite, and so may be used.

        Args:
            finite: whether it is.
            step: counted from 1.
            lr: its learning rate.

        Returns:
            ``finite``.

        Raises:
            Diverged: no factor helps.
        """
        if not finite:
            self.factor /= 2
            self._good_steps = 0
            self._left_out += 1
            if self._left_out == _HOPELESS_STEPS:
                raise Diverged(
                    f"the gradient was not finite in {_HOPELESS_STEPS} steps up to {step}, however "
                    "little the loss was scaled. Try job.precision = 'bf16', or a lower learning "
                    f"rate (it is {lr:g})."
                )
            return False
        self._left_out = 0
        self._good_steps += 1
        if self._good_steps == _GOOD_STEPS:
            self.factor *= 2
            self._good_steps = 0
        return True

    def state_dict(self) -> State:
        """The factor, and the steps since it last changed."""
        return {
            "loss_scale": np.array(self.factor),
            "good_steps": np.array(self._good_steps, np.int64),
            "left_out": np.array(self._left_out, np.int64),
        }

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take it over; a run of another precision had none."""
        if "loss_scale" in state:
            self.factor = float(state["loss_scale"])
            self._good_steps = int(state["good_steps"])
            self._left_out = int(state["left_out"])
