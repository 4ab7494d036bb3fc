"""What a model must know of its data: shapes, classes, scaling, vocabulary. Saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mpimlsys.data.datasets import Vocabulary
from mpimlsys.types import Array, State

Kind = Literal["images", "table", "text"]
_KINDS: tuple[Kind, ...] = ("images", "table", "text")


@dataclass(frozen=True)
class Description:
    """What a model must know of its data.

    Attributes:
        kind: of samples.
        input_shape: of one sample.
        outputs: classes, characters, or numbers to predict.
        shift, scale: ``(x - shift) * scale`` is what the model sees; 0-d or (features,).
        vocabulary: of a text, else empty.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    outputs: int
    shift: Array = field(default_factory=lambda: np.array(0.0))
    scale: Array = field(default_factory=lambda: np.array(1.0))
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary([]))

    @property
    def unit(self) -> str:
        """What samples are called in messages."""
        return {"images": "images", "table": "samples", "text": "sequences"}[self.kind]

    def scaled(self, shift: Array, scale: Array) -> Description:
        """With another scaling."""
        return replace(self, shift=shift, scale=scale)

    def tensors(self) -> State:
        """As arrays, for a checkpoint; names begin with ``data.``."""
        return {
            "data.kind": np.array(_KINDS.index(self.kind), np.int64),
            "data.input_shape": np.array(self.input_shape, np.int64),
            "data.outputs": np.array(self.outputs, np.int64),
            "data.shift": np.asarray(self.shift, np.float64),
            "data.scale": np.asarray(self.scale, np.float64),
            "data.vocabulary": self.vocabulary.symbols,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> Description:
        """What :meth:`tensors` gave."""
        return cls(
            _KINDS[int(tensors["data.kind"])],
            tuple(int(side) for side in tensors["data.input_shape"]),
            int(tensors["data.outputs"]),
            tensors["data.shift"],
            tensors["data.scale"],
            Vocabulary(tensors["data.vocabulary"].tolist()),
        )
