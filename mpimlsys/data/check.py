"""Checks of data before anything is trained on them; each error says where the fault is."""

from __future__ import annotations

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.types import Array

_BLOCK = 4096  # rows looked at together
_MOST_CLASSES = 1_000_000


def check_inputs(name: str, inputs: Array) -> Array:
    """Inputs that are numbers, at least one sample, all finite.

    Raises:
        ConfigError: names the first row and column that is not.
    """
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ConfigError(f"{name} has no samples.")
    if inputs.dtype.kind not in "buif":
        raise ConfigError(f"{name} holds {inputs.dtype}, not numbers.")
    if inputs.dtype.kind == "f":
        _all_finite(name, inputs, "input")
    return inputs if inputs.ndim > 1 else inputs[:, None]


def class_labels(name: str, targets: Array) -> Array:
    """Targets as (n,) or (n, ...) int64 classes from 0.

    Raises:
        ConfigError: not whole numbers, or negative; names the row.
    """
    if targets.dtype.kind not in "buif":
        raise ConfigError(f"the labels of {name} are {targets.dtype}; classes are numbers from 0.")
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.dtype.kind == "f":
        _all_finite(name, targets, "label")
        broken = np.argwhere(targets != np.floor(targets))
        if len(broken):
            row = int(broken[0][0])
            raise ConfigError(
                f"{name}, row {row + 1}: {targets[row]} is not a class; classes are whole numbers "
                "from 0. To predict numbers use model.name = 'linear', or a model of your own."
            )
    labels = targets.astype(np.int64)
    if labels.min() < 0 or labels.max() >= _MOST_CLASSES:
        row = int(np.argmax((labels < 0) | (labels >= _MOST_CLASSES)))
        raise ConfigError(
            f"{name}, row {row + 1}: a label of {labels[row]}; classes are whole numbers from 0."
        )
    return labels


def numbers(name: str, targets: Array) -> Array:
    """Targets as (n, outputs) float64.

    Raises:
        ConfigError: not finite; names the row.
    """
    if targets.dtype.kind not in "buif":
        raise ConfigError(f"the targets of {name} are {targets.dtype}, not numbers.")
    _all_finite(name, targets.astype(np.float64), "target")
    return targets.reshape(len(targets), -1).astype(np.float64)


def _all_finite(name: str, array: Array, what: str) -> None:
    for start in range(0, len(array), _BLOCK):
        block = array[start : start + _BLOCK]
        if np.isfinite(block).all():
            continue
        place = np.argwhere(~np.isfinite(block))[0]
        value = block[tuple(place)]
        column = f", column {', '.join(str(i + 1) for i in place[1:])}" if len(place) > 1 else ""
        raise ConfigError(
            f"{name}, row {start + place[0] + 1}{column}: the {what} is {value}. Fill it in or "
            "remove the row."
        )
