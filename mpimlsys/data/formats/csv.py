"""Comma-separated numbers, with or without a line of names, and scikit-learn's line of counts."""

from __future__ import annotations

import csv
import io

import numpy as np

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.types import Array


def read_csv(content: bytes, name: str) -> tuple[list[str], Array]:
    """Column names and the (rows, columns) float64 matrix.

    A first line of which the leading cells are counts and the others empty (as scikit-learn's
    data sets have) is skipped; a line that does not consist of numbers gives the names, else they
    are ``"0"``, ``"1"``, ...

    Args:
        content: of the file, uncompressed, UTF-8.
        name: of the file, for messages.

    Raises:
        ConfigError: a cell is empty or not a number, a row has another length; names line and
            column.
        CorruptData: not text.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptData(f"{name} is not a text file in UTF-8: {error}.") from error
    lines = text.splitlines()
    first = 0
    while first < len(lines) and not lines[first].strip():
        first += 1
    if first < len(lines) and _is_counts(_cells(lines[first])):
        first += 1
    names: list[str] = []
    if first < len(lines) and not all(_is_number(cell) for cell in _cells(lines[first])):
        names = [cell.strip() for cell in _cells(lines[first])]
        first += 1
    body = "\n".join(lines[first:])
    if not body.strip():
        raise ConfigError(f"{name} has no rows.")
    try:
        matrix = np.loadtxt(io.StringIO(body), delimiter=",", ndmin=2, comments=None, quotechar='"')
    except ValueError as error:
        raise ConfigError(_explain(lines, first, names, name)) from error
    names = names or [str(index) for index in range(matrix.shape[1])]
    if len(names) != matrix.shape[1]:
        raise ConfigError(
            f"{name}: {len(names)} column names, but {matrix.shape[1]} columns of numbers."
        )
    return names, matrix


def _cells(line: str) -> list[str]:
    return next(csv.reader([line], skipinitialspace=True))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()  # an empty cell is a missing number, not a name
    return True


def _is_counts(cells: list[str]) -> bool:
    filled = [cell for cell in cells if cell.strip()]
    return (
        0 < len(filled) < len(cells)
        and all(cell.strip().isdigit() for cell in filled)
        and (cells[: len(filled)] == filled)
    )


def _explain(lines: list[str], first: int, names: list[str], name: str) -> str:
    """Where the first cell is that is not a number."""
    width = 0
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line.strip():
            continue
        cells = _cells(line)
        width = width or len(cells)
        if len(cells) != width:
            return f"{name}, line {number}: {len(cells)} cells, but the rows before have {width}."
        for index, cell in enumerate(cells):
            column = names[index] if index < len(names) else str(index)
            if not cell.strip():
                return (
                    f"{name}, line {number}, column {column!r}: the value is missing. Fill it in "
                    "or remove the row."
                )
            if not _is_number(cell):
                return (
                    f"{name}, line {number}, column {column!r}: {cell.strip()!r} is not a number."
                )
    return f"{name} cannot be read as numbers."
