"""SGD, Adam, AdamW and LAMB on flat arrays, in place.

All but LAMB work element by element, so that a step on a part of the arrays gives the same bits
as the same part of a step on the whole. They work in blocks that stay in the cache, on a
GPU in one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import fill, on_host
from mpimlsys.types import Array, Segment, State

_BLOCK = 1 << 15  # elements: a handful of such arrays fit a second-level cache


class Flat:
    """What the optimisers share: state arrays by name, decay per element, blocks."""

    state_names: tuple[str, ...] = ()

    def __init__(self, lr: float, weight_decay: float) -> None:
        if not lr >= 0:
            raise ConfigError(f"a learning rate of {lr} must be at least 0.")
        if not weight_decay >= 0:
            raise ConfigError(f"a weight decay of {weight_decay} must be at least 0.")
        self.lr = lr
        self.weight_decay = weight_decay
        self.steps = 0
        self.state: State = {}
        self.segments: Sequence[Segment] = ()

    def bind(self, parameters: Array, segments: Sequence[Segment]) -> None:
        """Make the state for flat arrays.

        Args:
            parameters: (n,) float32 or float64.
            segments: places of the parameters; those without ``decay`` are not decayed.
        """
        self.state = {name: np.zeros_like(parameters) for name in self.state_names}
        self.segments = segments
        self.steps = 0
        self._decay: Array | float = self.weight_decay
        if self.weight_decay and not all(segment.decay for segment in segments):
            self._decay = np.zeros_like(parameters)
            for segment in segments:
                if segment.decay:
                    self._decay[segment.start : segment.stop] = self.weight_decay

    def server_rule(self) -> tuple[str, dict[str, float]]:
        """The rule of a parameter server that does the same, and its numbers by name.

        Raises:
            ConfigError: there is none.
        """
        raise ConfigError(
            f"parameter servers do not know {type(self).__name__}; use sgd, momentum, nesterov, "
            "adam or adamw."
        )

    def state_dict(self) -> State:
        """The state arrays (views) and the step count."""
        return {**self.state, "steps": np.array(self.steps, np.int64)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy a state in.

        Raises:
            ConfigError: it belongs to another optimiser or model.
        """
        if state.keys() != {*self.state, "steps"}:
            raise ConfigError(
                f"the saved state belongs to another optimiser: it has {', '.join(sorted(state))}; "
                f"this one has {', '.join(sorted([*self.state, 'steps']))}."
            )
        for name, mine in self.state.items():
            if mine.shape != state[name].shape:
                raise ConfigError(
                    f"the saved {name} has {state[name].size} elements, not {mine.size}."
                )
            fill(mine, state[name])
        self.steps = int(state["steps"])

    def _blocks(self, parameters: Array) -> Iterator[slice]:
        count = len(parameters)
        size = _BLOCK if on_host(parameters) else max(1, count)  # each block is a launch on a GPU
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def _decay_of(self, block: slice) -> Array | float:
        return self._decay if isinstance(self._decay, float) else self._decay[block]


class SGD(Flat):
    """Stochastic gradient descent; see :func:`sgd`."""

    def __init__(self, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
        super().__init__(lr, weight_decay)
        if not 0 <= momentum < 1:
            raise ConfigError(f"a momentum of {momentum} must be from 0 to below 1.")
        if nesterov and not momentum:
            raise ConfigError("Nesterov's method needs a momentum above 0, such as 0.9.")
        self.momentum, self.nesterov = momentum, nesterov
        self.state_names = ("momentum",) if momentum else ()

    def server_rule(self) -> tuple[str, dict[str, float]]:
        """See the base class."""
        decay = {"weight_decay": self.weight_decay}
        if not self.momentum:
            return "sgd", decay
        return "momentum", {"momentum": self.momentum, "nesterov": float(self.nesterov), **decay}

    def step(self, parameters: Array, gradients: Array, lr: float) -> None:
        """Update ``parameters``; ``gradients`` are left as they are."""
        kind = parameters.dtype.type
        for block in self._blocks(parameters):
            value, gradient = parameters[block], gradients[block]
            if self.weight_decay:
                gradient = gradient + self._decay_of(block) * value
            if self.momentum:
                velocity = self.state["momentum"][block]
                velocity *= kind(self.momentum)
                velocity += gradient
                look_ahead = kind(self.momentum) if self.nesterov else None
                gradient = velocity if look_ahead is None else gradient + look_ahead * velocity
            value -= kind(lr) * gradient
        self.steps += 1


class Adam(Flat):
    """Adam, AdamW and LAMB; see :func:`adam`, :func:`adamw`, :func:`lamb`."""

    state_names = ("mean", "square")

    def __init__(
        self, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, kind: str
    ) -> None:
        super().__init__(lr, weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ConfigError(f"betas = {betas} must be from 0 to below 1.")
        self.betas, self.eps, self.kind = betas, eps, kind

    def server_rule(self) -> tuple[str, dict[str, float]]:
        """See the base class."""
        if self.kind == "lamb":
            raise ConfigError(
                "parameter servers do not know lamb, which needs the norms of whole parameters; "
                "use sgd, momentum, nesterov, adam or adamw."
            )
        return "adam", {
            "beta1": self.betas[0],
            "beta2": self.betas[1],
            "eps": self.eps,
            "weight_decay": self.weight_decay,
            "decoupled": float(self.kind == "adamw"),
        }

    def step(self, parameters: Array, gradients: Array, lr: float) -> None:
        """Update ``parameters``; ``gradients`` are left as they are."""
        self.steps += 1
        if self.kind == "lamb":
            for segment in self.segments:
                self._lamb(parameters, gradients, slice(segment.start, segment.stop), lr)
            return
        kind = parameters.dtype.type
        for block in self._blocks(parameters):
            value, gradient = parameters[block], gradients[block]
            if self.weight_decay and self.kind == "adamw":
                value *= 1 - kind(lr) * self._decay_of(block)
            elif self.weight_decay:
                gradient = gradient + self._decay_of(block) * value
            value -= kind(lr) * self._direction(gradient, block)

    def _direction(self, gradient: Array, block: slice) -> Array:
        """``m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)`` after updating m and v."""
        kind = gradient.dtype.type
        beta1, beta2 = self.betas
        mean, square = self.state["mean"][block], self.state["square"][block]
        mean *= kind(beta1)
        mean += kind(1 - beta1) * gradient
        square *= kind(beta2)
        square += kind(1 - beta2) * np.square(gradient)
        root = np.sqrt(square)
        root *= kind(1 / math.sqrt(1 - beta2**self.steps))
        root += kind(self.eps)
        return np.divide(mean * kind(1 / (1 - beta1**self.steps)), root, out=root)

    def _lamb(self, parameters: Array, gradients: Array, part: slice, lr: float) -> None:
        value = parameters[part]
        update = self._direction(gradients[part], part)
        if self.weight_decay:
            update += self._decay_of(part) * value
        # numbers of 0 axes, so that nobody waits for a device
        norm, length = (np.linalg.norm(x.astype(np.float64)) for x in (value, update))
        moves = (norm > 0) & (length > 0)
        trust = np.where(moves, norm / np.where(moves, length, 1.0), 1.0)
        value -= (lr * trust).astype(parameters.dtype) * update


def sgd(
    lr: float, *, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
) -> SGD:
    """Stochastic gradient descent: ``v = momentum v + g``, ``w -= lr v``.

    Args:
        lr: learning rate.
        momentum: in [0, 1).
        nesterov: ``w -= lr (g + momentum v)`` instead.
        weight_decay: ``weight_decay * w`` is added to the gradient.

    Source:
        Sutskever, Martens, Dahl, Hinton 2013, in PyTorch's formulation.
    """
    return SGD(lr, momentum, nesterov, weight_decay)


def adam(
    lr: float = 0.001,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Adam:
    """Adam; weight decay is added to the gradient. Source: Kingma, Ba 2015, algorithm 1."""
    return Adam(lr, betas, eps, weight_decay, "adam")


def adamw(
    lr: float = 0.001,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Adam:
    """Adam with weight decay apart from the gradient. Source: Loshchilov, Hutter 2019, alg. 2."""
    return Adam(lr, betas, eps, weight_decay, "adamw")


def lamb(
    lr: float = 0.001,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.01,
) -> Adam:
    """Adam's direction, scaled per parameter to its norm. Source: You et al. 2020, algorithm 2."""
    return Adam(lr, betas, eps, weight_decay, "lamb")
