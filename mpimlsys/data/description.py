"""What a model must know of its data: shapes, classes, scaling, vocabulary. Saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from mpimlsys.data.datasets import Vocabulary
from mpimlsys.types import Array, State

Kind = Literal["images", "table", "text", "sparse"]
_KINDS: tuple[Kind, ...] = ("images", "table", "text", "sparse")


@dataclass(frozen=True)
class Description:
    """What a model must know of its data.

    Attributes:
        kind: of samples.
        input_shape: of one sample; of sparse ones the number of categories, or 0 for any number.
        outputs: classes, characters, or numbers to predict.
        shift, scale: ``(x - shift) * scale`` is what the model sees; 0-d or (features,).
        vocabulary: of a text, else empty.
        features: that sparse samples may have.
        categories: of sparse samples the values of each column, ascending.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    outputs: int
    shift: Array = field(default_factory=lambda: np.array(0.0))
    scale: Array = field(default_factory=lambda: np.array(1.0))
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary([]))
    features: int = 0
    categories: tuple[Array, ...] = ()

    @property
    def unit(self) -> str:
        """What samples are called in messages."""
        return {"images": "images", "text": "sequences"}.get(self.kind, "samples")

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
            "data.features": np.array(self.features, np.int64),
            "data.category_counts": np.array([len(c) for c in self.categories], np.int64),
            "data.categories": np.concatenate([np.empty(0), *self.categories]),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> Description:
        """What :meth:`tensors` gave."""
        counts = tensors.get("data.category_counts", np.empty(0, np.int64))
        return cls(
            _KINDS[int(tensors["data.kind"])],
            tuple(int(side) for side in tensors["data.input_shape"]),
            int(tensors["data.outputs"]),
            tensors["data.shift"],
            tensors["data.scale"],
            Vocabulary(tensors["data.vocabulary"].tolist()),
            int(tensors.get("data.features", np.array(0))),
            tuple(np.split(tensors["data.categories"], np.cumsum(counts)[:-1]))
            if len(counts)
            else (),
        )
