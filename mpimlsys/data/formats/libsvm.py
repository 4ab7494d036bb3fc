"""libsvm / SVMlight: ``label index:value index:value ...``, indices from 1, sparse."""

from __future__ import annotations

import numpy as np

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.types import Array

_MOST_BYTES = 8 << 30


def read_libsvm(content: bytes, name: str) -> tuple[Array, Array]:
    """Features (rows, columns) float32, dense, and labels (rows,) float64.

    Args:
        content: of the file, uncompressed.
        name: of the file, for messages.

    Raises:
        CorruptData: a line that is not in the format; names it.
        ConfigError: no rows, or too many columns to be stored dense.
    """
    labels: list[float] = []
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for number, line in enumerate(content.splitlines(), start=1):
        words = line.partition(b"#")[0].split()
        if not words:
            continue
        try:
            labels.append(float(words[0]))
            for word in words[1:]:
                index, _, value = word.partition(b":")
                if index == b"qid":
                    continue
                columns.append(_index(index))
                values.append(float(value))
                rows.append(len(labels) - 1)
        except ValueError as error:
            raise CorruptData(
                f"{name}, line {number}: not 'label index:value ...' ({error})."
            ) from error
    if not labels:
        raise ConfigError(f"{name} has no rows.")
    width = max(columns, default=0)
    if len(labels) * max(width, 1) * 4 > _MOST_BYTES:
        raise ConfigError(
            f"{name}: {len(labels):,} rows of {width:,} features do not fit as a dense array "
            f"({_MOST_BYTES >> 30} GiB at most)."
        )
    features = np.zeros((len(labels), width), np.float32)
    features[rows, np.array(columns, np.int64) - 1] = values
    return features, np.array(labels)


def _index(word: bytes) -> int:
    index = int(word)
    if index < 1:
        raise ValueError(f"index {index} is below 1")
    return index
