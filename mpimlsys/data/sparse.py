"""Samples that have a few of very many features: libsvm files, and tables of categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpimlsys.data.check import check_inputs, class_labels, numbers
from mpimlsys.data.description import Description
from mpimlsys.data.formats import SparseRows, is_libsvm, read_bytes, read_sparse, read_table
from mpimlsys.errors import ConfigError
from mpimlsys.types import Array, IntArray

FEATURE = np.dtype([("feature", np.int64), ("value", np.float32)])
_MOST_EXACT = 2**53  # whole numbers that float64 tells apart


class SparseDataset:
    """Samples with any number of features each.

    Args:
        starts: (n + 1,) where each sample's features begin.
        features: of :data:`FEATURE`, of all samples.
        targets: (n, ...).
    """

    def __init__(self, starts: Array, features: Array, targets: Array) -> None:
        self._starts, self._features, self._targets = starts, features, targets

    def __len__(self) -> int:
        return len(self._targets)

    def batch(self, indices: IntArray) -> tuple[Array, Array]:
        """Features (b, most) of :data:`FEATURE` and targets.

        A sample with fewer features than the batch's most has the feature 0 with the value 0.
        """
        return self.inputs(indices), self._targets[indices]

    def inputs(self, indices: IntArray) -> Array:
        """The features of some samples."""
        lengths = self._starts[1:][indices] - self._starts[:-1][indices]
        most = int(lengths.max(initial=0))
        inputs = np.zeros((len(indices), most), FEATURE)
        inside = np.arange(most) < lengths[:, None]
        places = self._starts[:-1][indices][:, None] + np.arange(most)
        inputs[inside] = self._features[places[inside]]
        return inputs

    def part(self, indices: IntArray) -> SparseDataset:
        """Some samples, in this order."""
        lengths = np.diff(self._starts)[indices]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self._starts[:-1][indices] - starts[:-1], lengths)
        return SparseDataset(
            starts, self._features[places + np.arange(len(places))], self._targets[indices]
        )


@dataclass(frozen=True)
class _Samples:
    """Of a file: rows of features, or values of categories (n, fields)."""

    name: str
    targets: Array
    content: SparseRows | Array


def load_sparse(
    paths: Sequence[Path],
    *,
    classes: bool,
    target: str,
    columns: Sequence[str],
    test_fraction: float,
    seed: int,
    description: Description | None = None,
) -> tuple[SparseDataset, SparseDataset | None, Description]:
    """Training and test samples, and what a model must know of them.

    A libsvm file has a feature for each index. In other tables every column but the target is a
    category: each of its values is a feature.

    Args:
        paths: one file.
        classes, target, columns, test_fraction, seed, description: as for
            :func:`mpimlsys.data.load`.

    Raises:
        ConfigError, CorruptData: as :func:`mpimlsys.data.load`.
    """
    found = _read(paths, classes, target, columns)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(found.targets))
    kept = int(len(order) * test_fraction)
    description = description or _described(found, order[kept:], classes)
    dataset = _dataset(found, description)
    test = dataset.part(order[:kept]) if kept else None
    return dataset.part(order[kept:]), test, description


def _described(found: _Samples, training: Array, classes: bool) -> Description:
    """What is known of the training samples."""
    outputs = _outputs(found.targets, classes)
    if isinstance(found.content, SparseRows):
        count = int(found.content.columns.max(initial=0)) + 1
        return Description("sparse", (0,), outputs, features=count)
    if np.abs(found.content).max(initial=0) > _MOST_EXACT:
        raise ConfigError(
            f"{found.name} has categories above 2^53, which cannot be told apart; number them."
        )
    known = tuple(np.unique(column) for column in found.content[training].T)
    features = sum(len(values) for values in known)
    return Description("sparse", (len(known),), outputs, features=features, categories=known)


def labelled_sparse(
    paths: Sequence[Path],
    description: Description,
    *,
    classes: bool,
    target: str,
    columns: Sequence[str],
) -> SparseDataset:
    """All samples of a file, with the features of the training data; others are left out."""
    found = _read(paths, classes, target, columns)
    if classes and found.targets.max() >= max(2, description.outputs):
        raise ConfigError(
            f"{found.name}: a label of {found.targets.max()}, but the model knows "
            f"{description.outputs} classes."
        )
    return _dataset(found, description)


def sparse_inputs(
    path: Path, description: Description, *, target: str, columns: Sequence[str]
) -> Array:
    """The samples of a file for predictions, (n, most) of :data:`FEATURE`."""
    if is_libsvm(path):
        dataset = _dataset(_read([path], False, target, columns), description)
    else:
        table = read_table(path, target=target, columns=columns, labelled=False)
        fields = description.input_shape[0]
        if table.inputs.ndim == 2 and table.inputs.shape[1] == fields + 1:
            table = read_table(path, target=target)
        inputs = check_inputs(table.name, table.inputs)
        dataset = _dataset(_Samples(table.name, np.zeros(len(inputs)), inputs), description)
    return dataset.inputs(np.arange(len(dataset)))


def _read(paths: Sequence[Path], classes: bool, target: str, columns: Sequence[str]) -> _Samples:
    if len(paths) != 1 or paths[0].is_dir():
        raise ConfigError("a sparse model takes one file: set data.source to its name.")
    path = paths[0]
    check = class_labels if classes else numbers
    if is_libsvm(path):
        if columns:
            raise ConfigError(f"data.columns does not apply to {path}; libsvm files have none.")
        rows = read_sparse(read_bytes(path), str(path))
        labels = rows.labels
        if classes and set(np.unique(labels)) <= {-1.0, 1.0}:
            labels = (labels > 0).astype(np.float64)
        if not np.isfinite(rows.values).all():
            raise ConfigError(f"{path} has values that are not finite.")
        return _Samples(str(path), check(str(path), labels), rows)
    table = read_table(path, target=target, columns=columns)
    inputs = check_inputs(table.name, table.inputs)
    if inputs.ndim != 2 or table.targets is None:
        raise ConfigError(f"{table.name} is no table of categories with a target.")
    return _Samples(table.name, check(table.name, table.targets), inputs)


def _outputs(targets: Array, classes: bool) -> int:
    return max(2, int(targets.max()) + 1) if classes else 1


def _dataset(found: _Samples, description: Description) -> SparseDataset:
    targets = found.targets
    targets = targets if targets.dtype.kind == "i" else targets.astype(np.float32)
    content = found.content
    if isinstance(content, SparseRows):
        if description.categories:
            raise ConfigError(f"{found.name} is a libsvm file, the model was trained on a table.")
        features = np.zeros(len(content.columns), FEATURE)
        known = content.columns < description.features
        features["feature"] = np.where(known, content.columns, 0)
        features["value"] = np.where(known, content.values, 0)
        return SparseDataset(content.starts, features, targets)
    fields = len(description.categories)
    if content.shape[1:] != (fields,):
        raise ConfigError(
            f"{found.name} has samples of {content.shape[1]} columns beside the target, "
            f"the model was trained on {fields or 'a libsvm file'}."
        )
    cells = np.zeros(content.shape, FEATURE)
    first = 0
    for field, values in enumerate(description.categories):
        column = content[:, field]
        places = np.minimum(np.searchsorted(values, column), len(values) - 1)
        known = values[places] == column
        cells["feature"][:, field] = np.where(known, first + places, 0)
        cells["value"][:, field] = known
        first += len(values)
    return SparseDataset(np.arange(len(cells) + 1) * fields, cells.reshape(-1), targets)
