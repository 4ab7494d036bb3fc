"""Where a loss stopped being finite: the first layer whose numbers are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpimlsys.context import Context
from mpimlsys.errors import Diverged
from mpimlsys.nn import FlatSpace, Module
from mpimlsys.types import Array, Phase


def first_nonfinite(model: Module, space: FlatSpace, inputs: Array, phase: Phase) -> str:
    """Name the place where NaN or infinity first appears in a forward pass; local.

    Args:
        model: the network; its forward runs once more.
        space: its parameters.
        inputs: the batch that led to the loss.
        phase: the phase of the step, so that dropout draws alike.

    Returns:
        Such as ``"the output of layer '2' (Conv2d)"``, or ``""`` when this rank's numbers are
        finite.
    """
    if place := nonfinite_parameter(space):
        return place
    # bfloat16 is no kind of NumPy's floats
    if inputs.dtype.names is None and inputs.dtype.kind in "fV" and not np.isfinite(inputs).all():
        return "the inputs"
    found: list[str] = []
    watched = [(name, layer) for name, layer in model.named_modules() if name]
    try:
        for name, layer in watched:
            layer.forward = _watch(name, layer, found)  # type: ignore[method-assign]
        with np.errstate(all="ignore"):
            model.forward(inputs, phase)
    finally:
        for _, layer in watched:
            del layer.forward
    return found[0] if found else ""


def nonfinite_parameter(space: FlatSpace) -> str:
    """Such as ``"parameter '0.weight'"``, or ``""`` when all are finite."""
    if np.isfinite(space.parameters).all():
        return ""
    for segment in space.segments:
        if not np.isfinite(space.parameters[segment.start : segment.stop]).all():
            return f"parameter '{segment.name}'"
    return ""


def diverged(ctx: Context, loss: float, step: int, lr: float, place: str) -> Diverged:
    """The same error on all ranks, with the first rank that found a place. Collective.

    Args:
        ctx: of the workers.
        loss: what it became.
        step: in which.
        lr: the learning rate of the optimiser.
        place: from :func:`first_nonfinite` on this rank; may be empty.
    """
    told = np.zeros(256, np.uint8)
    text = place.encode()[: len(told)]
    told[: len(text)] = np.frombuffer(text, np.uint8)
    for rank, line in enumerate(ctx.gather(told)):
        if line[0]:
            where = bytes(line).rstrip(b"\0").decode(errors="ignore")
            return Diverged(
                f"the loss became {loss} at step {step}: rank {rank}: not finite first in {where}. "
                f"Try a lower learning rate (optimizer.lr is {lr:g}) or a limit on the gradient "
                "(optimizer.clip_norm)."
            )
    return Diverged(
        f"the loss became {loss} at step {step} though every layer's output is finite: the loss "
        "function overflowed. Try a lower learning rate."
    )


def _watch(name: str, layer: Module, found: list[str]) -> Any:
    forward = layer.forward

    def watched(inputs: Array, phase: Phase) -> Array:
        outputs = forward(inputs, phase)
        if not np.isfinite(outputs).all():
            found.append(f"the output of layer '{name}' ({type(layer).__name__})")
        return outputs

    return watched
