"""A data file of any format as inputs and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpimlsys.data.formats.content import read_bytes
from mpimlsys.data.formats.csv import read_csv
from mpimlsys.data.formats.idx import is_idx, read_idx
from mpimlsys.data.formats.libsvm import read_libsvm
from mpimlsys.data.formats.numpy import read_npy, read_npz
from mpimlsys.errors import ConfigError, nearest
from mpimlsys.types import Array

__all__ = ["Table", "read_bytes", "read_table"]

_INPUTS, _TARGETS = ("x", "inputs", "images", "data"), ("y", "targets", "labels", "target")


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
        name: of the file, for messages.
        inputs: (n, ...).
        targets: (n, ...), None where the file has none.
        test: the test part, where the file has one.
    """

    name: str
    inputs: Array
    targets: Array | None
    test: Table | None = None


def read_table(
    path: Path, *, target: str = "", columns: Sequence[str] = (), labelled: bool = True
) -> Table:
    """Read a CSV, NPY, NPZ, IDX or libsvm file; the format is told by content, then by ending.

    Args:
        path: the file; gzip or not.
        target: name or number of the target column of a CSV file; by default the last.
        columns: names or numbers of a CSV file's input columns; empty: all but the target.
        labelled: whether targets are wanted. If not, a CSV file's target column is dropped where
            ``target`` names it, an NPZ file's targets are ignored.

    Raises:
        ConfigError: the file cannot be read, has no target or an unknown format.
        CorruptData: the file is damaged.
    """
    content = read_bytes(path)
    name = str(path)
    if columns and not _is_csv(path):
        raise ConfigError(f"data.columns names columns of CSV files, and {name} is none.")
    if not content:
        raise ConfigError(f"{name} is empty.")
    if is_idx(content):
        return Table(name, read_idx(content, name), None)
    if content[:6] == b"\x93NUMPY":
        return _columns(name, read_npy(content, name), labelled)
    if content[:4] == b"PK\x03\x04":
        return _arrays(name, read_npz(content, name), labelled)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if is_libsvm(path):
        inputs, targets = read_libsvm(content, name)
        return Table(name, inputs, targets)
    if _is_csv(path):
        return _from_csv(name, *read_csv(content, name), target, columns, labelled)
    endings = {".npy": "NPY", ".npz": "NPZ", ".idx": "IDX"}
    for suffix, kind in endings.items():
        if suffix in suffixes:
            raise ConfigError(f"{name} is not a {kind} file, whatever its name says.")
    raise ConfigError(
        f"cannot tell the format of {name}; CSV files end in .csv, libsvm files in .libsvm or "
        ".svm, and IDX, NPY and NPZ files are known by their first bytes."
    )


def is_libsvm(path: Path) -> bool:
    """Whether the file's name says so."""
    return any(suffix.lower() in (".libsvm", ".svm", ".svmlight") for suffix in path.suffixes)


def _is_csv(path: Path) -> bool:
    return any(suffix.lower() in (".csv", ".data") for suffix in path.suffixes)


def _columns(name: str, array: Array, labelled: bool) -> Table:
    if not labelled:
        return Table(name, array, None)
    if array.ndim != 2 or array.shape[1] < 2:
        raise ConfigError(
            f"{name} has shape {array.shape}: without targets. Use a table whose last column is "
            "the target, or an NPZ file with x and y."
        )
    return Table(name, array[:, :-1], array[:, -1])


def _arrays(name: str, arrays: dict[str, Array], labelled: bool) -> Table:
    if labelled and "x_train" in arrays and "y_train" in arrays:
        test = None
        if "x_test" in arrays and "y_test" in arrays:
            test = Table(f"{name} (test)", arrays["x_test"], arrays["y_test"])
        return Table(name, arrays["x_train"], arrays["y_train"], test)
    inputs = next((arrays[key] for key in (*_INPUTS, "x_test") if key in arrays), None)
    targets = next((arrays[key] for key in (*_TARGETS, "y_test") if key in arrays), None)
    if inputs is None and not labelled and len(arrays) == 1:
        inputs = next(iter(arrays.values()))
    if inputs is None or (labelled and targets is None):
        raise ConfigError(
            f"{name} holds {', '.join(arrays) or 'nothing'}; name its arrays x and y (or x_train, "
            "y_train, x_test, y_test)."
        )
    return Table(name, inputs, targets if labelled else None)


def _from_csv(
    name: str,
    columns: list[str],
    matrix: Array,
    target: str,
    chosen: Sequence[str],
    labelled: bool,
) -> Table:
    if chosen:
        places = [_column(name, columns, column, "data.columns") for column in chosen]
        if not labelled:
            return Table(name, matrix[:, places], None)
        index = _column(name, columns, target, "data.target")
        if index in places:
            raise ConfigError(f"data.columns names the target {columns[index]!r}; leave it out.")
        return Table(name, matrix[:, places], matrix[:, index])
    if not labelled and (not target or target not in columns):
        return Table(name, matrix, None)
    index = _column(name, columns, target, "data.target")
    if len(columns) < 2:
        raise ConfigError(f"{name} has one column; a target and at least one feature are needed.")
    targets = matrix[:, index] if labelled else None
    return Table(name, np.delete(matrix, index, axis=1), targets)


def _column(name: str, columns: list[str], wanted: str, key: str) -> int:
    if not wanted:
        return len(columns) - 1
    if wanted in columns:
        return columns.index(wanted)
    if wanted.lstrip("-").isdigit() and -len(columns) <= int(wanted) < len(columns):
        return int(wanted) % len(columns)
    raise ConfigError(f"{name} has no column {wanted!r} ({key}).{nearest(wanted, columns)}")
