"""Optimisers by the names that job files use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mpimlsys.errors import ConfigError, nearest
from mpimlsys.optim.compressed import onebit_adam, zero_one_adam
from mpimlsys.optim.optimizers import Flat, adam, adamw, lamb, sgd


def _momentum(lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> Flat:
    return sgd(lr, momentum=momentum, weight_decay=weight_decay)


def _nesterov(lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> Flat:
    return sgd(lr, momentum=momentum, nesterov=True, weight_decay=weight_decay)


_BY_NAME: Mapping[str, Callable[..., Flat]] = MappingProxyType(
    {
        "sgd": sgd,
        "momentum": _momentum,
        "nesterov": _nesterov,
        "adam": adam,
        "adamw": adamw,
        "lamb": lamb,
        "onebit_adam": onebit_adam,
        "zero_one_adam": zero_one_adam,
    }
)

# those that exchange compressed momentum instead of gradients
COMPRESSING = frozenset({"onebit_adam", "zero_one_adam"})


def from_name(name: str, lr: float, **options: Any) -> Flat:
    """The optimiser of a job file.

    Args:
        name: one of a job file's ``optimizer.name``.
        lr: learning rate.
        options: keyword arguments of its function.

    Raises:
        ConfigError: unknown name, or an option that it does not have.
    """
    if name not in _BY_NAME:
        raise ConfigError(f"optimizer.name = {name!r} is unknown.{nearest(name, _BY_NAME)}")
    known = inspect.signature(_BY_NAME[name]).parameters
    for option in options:
        if option not in known:
            raise ConfigError(
                f"optimizer.{option} does not apply to {name!r}.{nearest(option, known)}"
            )
    return _BY_NAME[name](lr, **options)
