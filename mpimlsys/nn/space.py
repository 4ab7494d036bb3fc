"""One flat array for all parameters of a model, one for all gradients (decision D1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.kernels.arrays import fill, namespace, to_host
from mpimlsys.nn.module import Module, Parameter
from mpimlsys.types import Array, Bucket, Segment, State

Allocate = Callable[[int, "np.dtype[Any]"], Array]


class FlatSpace:
    """Lays the parameters of a model out in two flat arrays and cuts the gradients into buckets.

    Parameters stand in the order in which backward finishes them, the reverse of their
    definition, so that a bucket is one contiguous slice that is ready early.

    Args:
        model: its parameters get their memory here.
        dtype: ``"float32"`` or ``"float64"``.
        allocate: ``(count, dtype) -> array``, such as ``Context.empty`` or ``cupy.empty``; where
            the arrays are, the model computes.
        bucket_bytes: a bucket is closed when it has grown to this size.
        half: the model computes from a copy of the parameters in this dtype, see :meth:`refresh`.

    Attributes:
        parameters, gradients: (n,) arrays of ``dtype``.
        segments: place of every parameter, in the order of the arrays.
        buckets: contiguous, covering everything; each parameter lies in one bucket.

    Raises:
        ConfigError: the model has no parameters.
    """

    def __init__(
        self,
        model: Module,
        dtype: str = "float32",
        *,
        allocate: Allocate = np.empty,
        bucket_bytes: int = 1 << 20,
        half: np.dtype[Any] | None = None,
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"dtype = {dtype!r}; use 'float32' or 'float64'.")
        self._named = list(model.named_parameters())
        if not self._named:
            raise ConfigError(f"{type(model).__name__} has no parameters to train.")
        if len({id(parameter) for _, parameter in self._named}) != len(self._named):
            raise ConfigError(f"{type(model).__name__} holds the same parameter under two names.")
        kind = np.dtype(dtype)
        total = sum(parameter.size for _, parameter in self._named)
        self.parameters = allocate(total, kind)
        self.gradients = allocate(total, kind)
        self.gradients[...] = 0
        self._used = self.parameters
        if half is not None:
            self._used = namespace(self.parameters).empty(total, half)
        segments = []
        start = 0
        for name, parameter in reversed(self._named):
            stop = start + parameter.size
            parameter.attach(name, self._used[start:stop], self.gradients[start:stop])
            segments.append(Segment(name, start, stop, parameter.decay, parameter.shape))
            start = stop
        self.segments = tuple(segments)
        self.buckets = _cut(self.segments, self.gradients, bucket_bytes)
        self._bucket_of = {
            segment.name: bucket
            for bucket in self.buckets
            for segment in self.segments
            if bucket.start <= segment.start < bucket.stop or segment.start == segment.stop
        }
        self._waiting: dict[int, set[str]] = {}
        self.reset()

    def initialise(self, seed: int) -> None:
        """Fill the parameters in the order of their definition; the same for any rank count.

        Args:
            seed: each parameter draws from a generator of (seed, its position).
        """
        values = self.state_dict()
        for position, (name, parameter) in enumerate(self._named):
            key = np.array([seed, position], np.uint64)
            counter = np.array([0, 0, 2, 0], np.uint64)  # apart from dropout and shuffling
            rng = np.random.Generator(np.random.Philox(key=key, counter=counter))
            fill(values[name], parameter.init(rng, parameter.shape))
        self.refresh()

    def refresh(self) -> None:
        """Have the model compute from what the parameters now are, if it has a copy of them."""
        if self._used is not self.parameters:
            with np.errstate(over="ignore"):  # infinity, as float16 has it
                self._used[...] = self.parameters

    def zero_gradients(self) -> None:
        """Set all gradients to 0."""
        self.gradients[...] = 0

    def reset(self) -> None:
        """Begin a pass: no gradient is ready."""
        self._waiting = {bucket.index: set() for bucket in self.buckets}
        for name, bucket in self._bucket_of.items():
            self._waiting[bucket.index].add(name)

    def ready(self, parameter: Parameter) -> Bucket | None:
        """Note that a gradient is complete.

        Returns:
            The parameter's bucket when this was its last one.

        Raises:
            ConfigError: reported twice in a pass, or no parameter of this model.
        """
        bucket = self._bucket_of.get(parameter.name)
        if bucket is None:
            raise ConfigError(f"{parameter.name or 'a parameter'!r} is not part of this model.")
        waiting = self._waiting[bucket.index]
        if parameter.name not in waiting:
            raise ConfigError(
                f"backward reported the gradient of {parameter.name!r} twice; a layer may be "
                "used once in a forward pass."
            )
        waiting.remove(parameter.name)
        return None if waiting else bucket

    def missing(self) -> list[str]:
        """Parameters whose gradient was not reported in this pass."""
        return sorted(name for names in self._waiting.values() for name in names)

    def digest(self) -> str:
        """A fingerprint of all parameters, as hexadecimal digits."""
        return hashlib.blake2b(to_host(self.parameters).tobytes(), digest_size=16).hexdigest()

    def state_dict(self) -> State:
        """Name to array, as views."""
        places = {segment.name: segment for segment in self.segments}
        return {
            name: self.parameters[places[name].start : places[name].stop].reshape(parameter.shape)
            for name, parameter in self._named
        }

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy values in.

        Raises:
            ConfigError: names or shapes differ from this model's.
        """
        mine = self.state_dict()
        for problem, names in (
            ("lacks", mine.keys() - state),
            ("has unknown", state.keys() - mine),
        ):
            if names:
                raise ConfigError(
                    f"the saved state belongs to another model: it {problem} "
                    f"{', '.join(sorted(names))}."
                )
        for name, value in mine.items():
            if value.shape != state[name].shape:
                raise ConfigError(
                    f"the saved state belongs to another model: {name} has shape "
                    f"{state[name].shape}, here {value.shape}."
                )
            fill(value, state[name])
        self.refresh()


def _cut(segments: tuple[Segment, ...], gradients: Array, bucket_bytes: int) -> tuple[Bucket, ...]:
    limit = max(1, bucket_bytes // gradients.itemsize)
    edges = [0]
    for segment in segments:
        if segment.stop - edges[-1] >= limit and segment.stop < len(gradients):
            edges.append(segment.stop)
    edges.append(len(gradients))
    return tuple(
        Bucket(index, start, stop, gradients[start:stop])
        for index, (start, stop) in enumerate(pairwise(edges))
    )
