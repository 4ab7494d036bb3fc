"""libsvm / SVMlight: ``label index:value index:value ...``, indices from 1, sparse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.types import Array

_MOST_BYTES = 8 << 30


@dataclass(frozen=True)
class SparseRows:
    """The rows of a file, one after the other.

    Attributes:
        labels: (rows,) float64.
        starts: (rows + 1,) int64, where each row's features begin.
        columns: int64 from 0, of all features.
        values: float32, of all features.
    """

    labels: Array
    starts: Array
    columns: Array
    values: Array


def read_sparse(content: bytes, name: str) -> SparseRows:
    """A file's rows as they are.

    Args:
        content: of the file, uncompressed.
        name: of the file, for messages.

    Raises:
        CorruptData: a line that is not in the format; names it.
        ConfigError: no rows.
    """
    labels: list[float] = []
    starts: list[int] = [0]
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
                columns.append(_index(index) - 1)
                values.append(float(value))
        except ValueError as error:
            raise CorruptData(
                f"{name}, line {number}: not 'label index:value ...' ({error})."
            ) from error
        starts.append(len(columns))
    if not labels:
        raise ConfigError(f"{name} has no rows.")
    return SparseRows(
        np.array(labels),
        np.array(starts, np.int64),
        np.array(columns, np.int64),
        np.array(values, np.float32),
    )


def read_libsvm(content: bytes, name: str) -> tuple[Array, Array]:
    """Features (rows, columns) float32, dense, and labels (rows,) float64.

    Raises:
        CorruptData, ConfigError: as :func:`read_sparse`, and too many columns to be stored dense.
    """
    found = read_sparse(content, name)
    count, width = len(found.labels), int(found.columns.max(initial=-1)) + 1
    if count * max(width, 1) * 4 > _MOST_BYTES:
        raise ConfigError(
            f"{name}: {count:,} rows of {width:,} features do not fit as a dense array "
            f"({_MOST_BYTES >> 30} GiB at most); the model 'sparse_logistic' takes them as they "
            "are."
        )
    features = np.zeros((count, width), np.float32)
    features[np.repeat(np.arange(count), np.diff(found.starts)), found.columns] = found.values
    return features, found.labels


def _index(word: bytes) -> int:
    index = int(word)
    if index < 1:
        raise ValueError(f"index {index} is below 1")
    return index
