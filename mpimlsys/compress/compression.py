"""How gradients are compressed over a training: codec, error feedback, and when. Pure.

Built by hand, or by composition, which reads from the inside out::

    after_warmup(masked(chain("top_k:0.01", "int8"), min_elements=1024), steps=100)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from mpimlsys.compress.codec import CASTS, DENSE, RATIOS, Codec, parse
from mpimlsys.errors import ConfigError

Feedback = Literal["classic", "ef21", "none"]
FEEDBACKS: tuple[Feedback, ...] = get_args(Feedback)
Pattern = Literal["auto", "ring", "owners", "gather", "balanced"]

_FIRST_RATIO = 0.25  # of DGC's schedule


@dataclass(frozen=True)
class Compression:
    """What a training does about the size of its gradients.

    Attributes:
        codec: how a bucket is encoded.
        error_feedback: what happens to what a frame leaves out: ``"classic"`` adds it to the next
            gradient, ``"ef21"`` sends differences to what was sent so far, ``"none"`` forgets it.
        min_elements: parameters with fewer elements, and vectors, travel as they are; 0 compresses
            everything.
        warmup_steps: steps in which nothing is compressed.
        ramp_steps: steps after these in which the ratio of ``top_k`` or ``random_k`` falls from
            0.25 to its own, by the same factor each step (DGC).
        momentum: with ``classic``, momentum correction (DGC): momentum is applied before
            compression, so that the optimiser has none of its own. With ``ef21``, the weight of
            the past in the average of gradients that is sent (EF21-SGDM).
        clip_norm: largest norm of the gradients of one rank over the square root of the number of
            ranks, shared out among the buckets; 0 for no limit (DGC's local clipping).
        pattern: how frames travel; ``"auto"`` picks by codec, size and number of ranks.
        dense_at: further steps in which nothing is compressed, for optimisers that need them.

    Raises:
        ConfigError: options that do not go together.
    """

    codec: Codec
    error_feedback: Feedback = "classic"
    min_elements: int = 0
    warmup_steps: int = 0
    ramp_steps: int = 0
    momentum: float = 0.0
    clip_norm: float = 0.0
    pattern: Pattern = "auto"
    dense_at: Callable[[int], bool] | None = None

    def __post_init__(self) -> None:
        if self.error_feedback not in FEEDBACKS:
            raise ConfigError(
                f"error_feedback = {self.error_feedback!r}; use 'classic', 'ef21' or 'none'."
            )
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum = {self.momentum:g} of a compression must be below 1.")
        if self.momentum and self.error_feedback == "none":
            raise ConfigError(
                "the momentum of a compression needs error_feedback = 'classic' or 'ef21'."
            )
        if self.codec.option == "unbiased" and self.error_feedback != "none":
            raise ConfigError(
                "random_k:...:unbiased multiplies what it sends, which no error feedback can make "
                "up for; leave out 'unbiased', or set error_feedback = 'none'."
            )
        if self.ramp_steps and self.codec.name not in RATIOS:
            raise ConfigError(
                f"a ratio that falls over {self.ramp_steps} steps needs top_k or random_k, not "
                f"{self.codec.name}."
            )
        if self.clip_norm and self.error_feedback == "none":
            raise ConfigError(
                "the clip_norm of a compression needs error_feedback = 'classic' or 'ef21'; "
                "without, clip the sum (optimizer.clip_norm)."
            )
        self._check_pattern()
        for name in ("min_elements", "warmup_steps", "ramp_steps", "clip_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} of a compression must not be negative.")

    def _check_pattern(self) -> None:
        if self.pattern not in ("auto", "ring", "owners", "gather", "balanced"):
            raise ConfigError(
                f"pattern = {self.pattern!r}; use 'auto', 'ring', 'owners', 'gather' or 'balanced'."
            )
        if self.pattern == "ring" and self.codec.name not in CASTS:
            raise ConfigError(
                f"pattern = 'ring' adds up {', '.join(CASTS)} on the way, not {self.codec.name}; "
                "use 'auto'."
            )
        if self.pattern == "ring" and self.error_feedback == "ef21":
            raise ConfigError("pattern = 'ring' does not go with ef21; use 'auto' or 'owners'.")
        if self.pattern == "balanced" and self.codec.name != "top_k":
            raise ConfigError(
                f"pattern = 'balanced' is for top_k, not {self.codec.name}; use 'auto'."
            )

    def at(self, step: int) -> Codec:
        """The codec of a step, counted from 0; ``none`` during the warm-up."""
        into = step - self.warmup_steps
        if into < 0 or (self.dense_at is not None and self.dense_at(step)):
            return DENSE
        ratio = self.codec.amount
        if into >= self.ramp_steps or ratio >= _FIRST_RATIO:
            return self.codec
        share = into / self.ramp_steps
        return replace(self.codec, amount=_FIRST_RATIO * (ratio / _FIRST_RATIO) ** share)


def of(compression: str | Codec | Compression) -> Compression:
    """A compression from its shorter forms."""
    if isinstance(compression, Compression):
        return compression
    return Compression(parse(compression) if isinstance(compression, str) else compression)


def chain(selection: str | Codec, values: str) -> Compression:
    """A sparse codec whose values are encoded again: ``chain("top_k:0.01", "int8")``.

    Raises:
        ConfigError: the first one is not sparse, or the second not dense.
    """
    return Compression(parse(f"{selection}+{values}"))


def masked(compression: str | Codec | Compression, min_elements: int = 1024) -> Compression:
    """Leave small parameters and vectors, such as biases, as they are."""
    return replace(of(compression), min_elements=min_elements)


def after_warmup(compression: str | Codec | Compression, steps: int) -> Compression:
    """Compress only after the first ``steps`` steps."""
    return replace(of(compression), warmup_steps=steps)


def falling_ratio(compression: str | Codec | Compression, steps: int) -> Compression:
    """Let the ratio fall from 0.25 to its own over ``steps`` steps.

    Source:
        Lin, Han, Mao, Wang, Dally 2018, "Deep gradient compression", section 3.3.
    """
    return replace(of(compression), ramp_steps=steps)


def error_feedback(
    compression: str | Codec | Compression, kind: Feedback = "classic", momentum: float = 0.0
) -> Compression:
    """What becomes of what is left out, see :class:`Compression`."""
    return replace(of(compression), error_feedback=kind, momentum=momentum)
