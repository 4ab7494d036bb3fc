"""The protocols that the layers meet at; nothing here computes.

One word for one thing:

* *parameter*: one named array of a model, a view into the flat parameter array.
* *bucket*: one contiguous slice of the flat gradient array, exchanged as a whole.
* *exchange*: what turns local gradients into global ones (all-reduce, parameter server, ...).
* *phase*: what a forward pass is for (training or not) and its random generator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
State = dict[str, Array]


@dataclass(frozen=True)
class Bucket:
    """A contiguous slice of the flat gradient array.

    Attributes:
        index: position in the order of exchange, equal on all ranks.
        start, stop: element range in the flat arrays.
        gradient: the view ``gradients[start:stop]``; the exchange reduces it in place.
    """

    index: int
    start: int
    stop: int
    gradient: Array


@dataclass(frozen=True)
class Phase:
    """What a forward pass is for.

    Attributes:
        training: whether dropout is active and activations are kept for backward.
        rng: the random generator of this step and rank, a pure function of
            (seed, step, rank), so that nothing needs to be saved.
        checked: whether indices are checked although they are on a device, which one then waits
            for.
    """

    training: bool
    rng: np.random.Generator
    checked: bool = False


class ParameterLike(Protocol):
    """A named array of a model together with its gradient; both are views of flat arrays."""

    name: str
    value: Array
    grad: Array


class Ready(Protocol):
    """Called by a layer's backward once a parameter's gradient is final for this pass."""

    def __call__(self, parameter: Any, /) -> object: ...


class Exchange(Protocol):
    """What the training step sees of communication (decision D4).

    ``begin`` may be called while backward still runs, once per bucket and step, in any order;
    ``finish`` returns when every gradient holds its global value, or, where the exchange
    ``updates_parameters``, when the parameters are new. ``gather`` makes parameters and the
    optimiser's state the same on all ranks, which may be ``lag`` steps apart, or have parameters
    that are ``approximate``.
    """

    updates_parameters: bool
    lag: int
    approximate: bool

    def begin_step(self, lr: float) -> None: ...

    def gather(self) -> None: ...

    def begin(self, bucket: Bucket) -> None: ...

    def finish(self) -> None: ...

    def note_loss(self, loss: float) -> None: ...

    def news(self) -> list[str]: ...

    def sent_bytes(self) -> int | None: ...

    def staleness(self) -> list[int] | None: ...

    def state_dict(self) -> State: ...

    def own_state_dict(self) -> State | None: ...

    def handed_out(
        self, own: Mapping[str, Array], state: Mapping[str, Array], rank: int
    ) -> State: ...

    def load_state_dict(self, state: Mapping[str, Array], own: Mapping[str, Array]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Segment:
    """The place of one parameter in the flat arrays.

    Attributes:
        name: dotted path in the model, such as ``"0.weight"``.
        start, stop: element range.
        decay: whether weight decay applies (false for biases and norms where the user says so).
        shape: of the parameter.
    """

    name: str
    start: int
    stop: int
    decay: bool = True
    shape: tuple[int, ...] = ()


class Optimizer(Protocol):
    """Updates flat parameters in place from flat gradients.

    ``step`` is elementwise or per segment, so that a parameter server can run it on its range.
    """

    def bind(self, parameters: Array, segments: Sequence[Segment]) -> None: ...

    def step(self, parameters: Array, gradients: Array, lr: float) -> None: ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: Mapping[str, Array]) -> None: ...


@runtime_checkable
class Dataset(Protocol):
    """Samples that can be fetched by index.

    ``batch(indices)`` returns ``(inputs, targets)`` with ``len(indices)`` rows each, freshly
    allocated or views that the caller must not change. ``indices`` may be empty.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: IntArray) -> tuple[Array, Array]: ...
