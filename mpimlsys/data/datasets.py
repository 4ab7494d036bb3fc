"""Data sets in memory: arrays, and windows of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpimlsys.errors import ConfigError
from mpimlsys.types import Array, IntArray


class ArrayDataset:
    """Rows of arrays; inputs are brought to ``(x - shift) * scale`` when a batch is made.

    Args:
        inputs: (n, ...) of any number type; kept as it is, such as uint8 for images.
        targets: (n, ...).
        dtype: of the batches' inputs.
        shift, scale: numbers, or (features,) arrays over the flattened inputs.

    Raises:
        ConfigError: as many inputs as targets are needed.
    """

    def __init__(
        self,
        inputs: Array,
        targets: Array,
        *,
        dtype: str = "float32",
        shift: Array | float = 0.0,
        scale: Array | float = 1.0,
    ) -> None:
        if len(inputs) != len(targets):
            raise ConfigError(f"{len(inputs)} inputs but {len(targets)} targets.")
        self._inputs, self._targets = inputs, targets
        self._dtype = np.dtype(dtype)
        self._shift, self._scale = self._shaped(shift), self._scaled(scale)

    def __len__(self) -> int:
        return len(self._inputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self._inputs.shape[1:]

    @property
    def inputs(self) -> Array:
        """The inputs as they were given."""
        return self._inputs

    def batch(self, indices: IntArray) -> tuple[Array, Array]:
        """Inputs of the training dtype and targets of some rows.

        Args:
            indices: (b,), may be empty.
        """
        return self.prepare(self._inputs[indices]), self._targets[indices]

    def prepare(self, inputs: Array) -> Array:
        """Inputs as a model sees them."""
        prepared = inputs.astype(self._dtype)
        if self._shift is not None:
            prepared -= self._shift
        if self._scale is not None:
            prepared *= self._scale
        return prepared

    def _shaped(self, value: Array | float) -> Any:
        return None if np.all(np.asarray(value) == 0) else self._broadcast(value)

    def _scaled(self, value: Array | float) -> Any:
        return None if np.all(np.asarray(value) == 1) else self._broadcast(value)

    def _broadcast(self, value: Array | float) -> Any:
        array = np.asarray(value)
        if array.ndim:
            return array.reshape(self.input_shape).astype(self._dtype)
        return self._dtype.type(value)


class TextDataset:
    """Windows of a text, character by character; the target is the next character.

    Args:
        codes: (characters,) uint8 positions in the vocabulary.
        sequence_length: characters per sample; windows do not overlap.
    """

    def __init__(self, codes: Array, sequence_length: int) -> None:
        self._codes, self._length = codes, sequence_length

    def __len__(self) -> int:
        return max(0, (len(self._codes) - 1) // self._length)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return (self._length,)

    def batch(self, indices: IntArray) -> tuple[Array, Array]:
        """Codes (b, T) and the codes that follow (b, T), int64."""
        places = np.asarray(indices)[:, None] * self._length + np.arange(self._length + 1)
        windows = self._codes[places].astype(np.int64)
        return windows[:, :-1], windows[:, 1:]


class Vocabulary:
    """The bytes that occur in a text, in order; others become the first of them.

    Args:
        symbols: sorted byte values.
    """

    def __init__(self, symbols: Sequence[int]) -> None:
        self.symbols = np.array(symbols, np.uint8)
        self._codes = np.zeros(256, np.uint8)
        self._codes[self.symbols] = np.arange(len(self.symbols))

    @classmethod
    def of(cls, text: bytes) -> Vocabulary:
        """The vocabulary of a text."""
        return cls(np.unique(np.frombuffer(text, np.uint8)).tolist())

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: bytes) -> Array:
        """(characters,) uint8 codes."""
        return self._codes[np.frombuffer(text, np.uint8)]

    def decode(self, codes: Array) -> bytes:
        """The text of codes."""
        return self.symbols[codes].tobytes()
