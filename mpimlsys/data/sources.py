"""From what ``data.source`` names to data sets that were checked."""

from __future__ import annotations

import glob
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mpimlsys.data.check import check_inputs, class_labels, numbers
from mpimlsys.data.datasets import ArrayDataset, TextDataset, Vocabulary
from mpimlsys.data.description import Description
from mpimlsys.data.formats import Table, read_bytes, read_table
from mpimlsys.data.sparse import labelled_sparse, load_sparse, sparse_inputs
from mpimlsys.errors import ConfigError, nearest
from mpimlsys.types import Array, Dataset

BUILT_IN = ("mnist", "boston", "python:stdlib")
_BUNDLED = Path(__file__).parent / "bundled"
_TEXT = (".txt", ".py", ".md", ".text")
_IDX_STEMS = ("train", "t10k")


@dataclass(frozen=True)
class Splits:
    """Training and test data, and what a model must know of them.

    Attributes:
        train, test: data sets; ``test`` is None where there is none.
    """

    train: Dataset
    test: Dataset | None
    description: Description


def load(
    source: str,
    *,
    classes: bool = True,
    target: str = "",
    columns: Sequence[str] = (),
    test_fraction: float = 0.1,
    seed: int = 0,
    dtype: str = "float32",
    sequence_length: int = 64,
    max_bytes: int = 0,
    sparse: bool = False,
    description: Description | None = None,
) -> Splits:
    """Load and check the data of a job.

    Args:
        source: ``mnist``, ``boston``, ``python:stdlib``, or a path or glob of files; a folder
            holds IDX files of MNIST's names, or text files.
        classes: whether the targets are classes, or numbers to predict.
        target: target column of a CSV file.
        columns: its input columns; empty: all others.
        test_fraction: held back, by a permutation of ``seed``, where there is no test part.
        seed: of the run.
        dtype: of the inputs that batches have.
        sequence_length, max_bytes: of a text.
        sparse: as samples of a few of many features, see :mod:`mpimlsys.data.sparse`.
        description: of sparse samples, where a model knows their features already.

    Raises:
        ConfigError: unknown or unreadable source, no samples, values that are not finite, labels
            that are not classes.
        CorruptData: a damaged file.
    """
    if not 0 <= test_fraction < 1:
        raise ConfigError(f"data.test_fraction = {test_fraction} must be from 0 to below 1.")
    paths = _paths(source)
    if sparse:
        return Splits(
            *load_sparse(
                paths,
                classes=classes,
                target=target,
                columns=columns,
                test_fraction=test_fraction,
                seed=seed,
                description=description,
            )
        )
    if source == "python:stdlib" or all(path.suffix in _TEXT for path in paths):
        return _text(paths, source, test_fraction, dtype, sequence_length, max_bytes)
    train, test = _tables(paths, target, columns)
    return _arrays(train, test, classes, test_fraction, seed, dtype)


def labelled(
    source: str,
    description: Description,
    *,
    classes: bool,
    target: str,
    columns: Sequence[str] = (),
    dtype: str,
    sequence_length: int,
) -> Dataset:
    """All samples of a source, scaled as the training data were.

    Args:
        source: as for :func:`load`; its test part where it has one.
        description: of the training data.
        classes, target, columns, dtype, sequence_length: as for :func:`load`.

    Raises:
        ConfigError: as :func:`load`, or samples of another shape.
    """
    paths = _paths(source)
    if description.kind == "text":
        codes = description.vocabulary.encode(_read_text(paths, 0))
        dataset = TextDataset(codes, sequence_length)
        if len(dataset) == 0:
            raise ConfigError(
                f"{source} is shorter than a sequence of {sequence_length} characters."
            )
        return dataset
    if description.kind == "sparse":
        return labelled_sparse(paths, description, classes=classes, target=target, columns=columns)
    train, test = _tables(paths, target, columns)
    table = test or train
    inputs = fit_inputs(table, description)
    targets = _targets(table, classes)
    if classes and targets.size and targets.max() >= description.outputs > 1:
        raise ConfigError(
            f"{table.name}: a label of {targets.max()}, but the model knows {description.outputs} "
            "classes."
        )
    return _scaled(inputs, targets, description, dtype)


def inputs_from_file(
    path: Path,
    description: Description,
    *,
    target: str,
    columns: Sequence[str] = (),
    dtype: str,
) -> Array:
    """The samples of a file as a model sees them, for predictions.

    Args:
        path: CSV, NPY, NPZ or IDX, gzip or not; for a character model a text, which is cut into
            sequences of the model's length (a shorter one is taken whole, a rest left out).
        description: of the training data.
        target: the target column, which a table may still have; by default the last.
        columns: the input columns of a CSV file; empty: all others.
        dtype: of the result.

    Raises:
        ConfigError: unreadable, not finite, or samples of another shape.
    """
    if description.kind == "text":
        codes = description.vocabulary.encode(read_bytes(path)).astype(np.int64)
        if len(codes) == 0:
            raise ConfigError(f"{path} is empty.")
        length = min(description.input_shape[0], len(codes))
        return codes[: len(codes) // length * length].reshape(-1, length)
    if description.kind == "sparse":
        return sparse_inputs(path, description, target=target, columns=columns)
    table = read_table(path, target=target, columns=columns, labelled=False)
    if table.inputs.ndim == 2 and table.inputs.shape[1:] == (description.input_shape[0] + 1,):
        table = read_table(path, target=target)
    inputs = fit_inputs(table, description)
    nothing = np.zeros(len(inputs))
    return _scaled(inputs, nothing, description, dtype).prepare(inputs)


def fit_inputs(table: Table, description: Description) -> Array:
    """A table's inputs in the shape that the model was trained on.

    Raises:
        ConfigError: another number of values per sample.
    """
    inputs = check_inputs(table.name, table.inputs)
    wanted = description.input_shape
    if int(np.prod(inputs.shape[1:])) != int(np.prod(wanted)):
        if inputs.ndim == len(wanted) or inputs.shape == wanted[1:]:
            single = int(np.prod(inputs.shape)) == int(np.prod(wanted))
            if single:
                return inputs.reshape(1, *wanted)
        raise ConfigError(
            f"{table.name} has samples of shape {inputs.shape[1:]}, the model was trained on "
            f"{wanted}."
        )
    return inputs.reshape(len(inputs), *wanted)


def _paths(source: str) -> list[Path]:
    if source == "mnist":
        return [_BUNDLED]
    if source == "boston":
        return [_BUNDLED / "boston_house_prices.csv"]
    if source == "python:stdlib":
        folder = Path(sysconfig.get_path("stdlib"))
        return sorted(path for path in folder.glob("*.py") if path.is_file())
    if "://" in source:
        raise ConfigError(f"data.source = {source!r}: addresses are not supported; fetch the file.")
    path = Path(source).expanduser()
    if path.exists():
        return _folder(path) if path.is_dir() else [path]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    files = [name for name in found if name.is_file()]
    if not files:
        hint = nearest(source, BUILT_IN) if "/" not in source and "." not in source else ""
        raise ConfigError(f"data.source = {source!r}: no such file or folder.{hint}")
    return files


def _folder(folder: Path) -> list[Path]:
    if _idx_files(folder):
        return [folder]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        raise ConfigError(f"data.source = {str(folder)!r}: the folder is empty.")
    return files


def _idx_files(folder: Path) -> dict[str, Path]:
    found = {}
    for stem in _IDX_STEMS:
        for kind in ("images", "labels"):
            for pattern in (f"{stem}-{kind}*idx*ubyte*", f"{stem}-{kind}*"):
                if matches := sorted(folder.glob(pattern)):
                    found[f"{stem}-{kind}"] = matches[0]
                    break
    return found


def _tables(
    paths: Sequence[Path], target: str, columns: Sequence[str]
) -> tuple[Table, Table | None]:
    if len(paths) == 1 and paths[0].is_dir():
        return _idx_tables(paths[0])
    tables = [read_table(path, target=target, columns=columns) for path in paths]
    if len(tables) == 1:
        return tables[0], tables[0].test
    shapes = {table.inputs.shape[1:] for table in tables}
    if len(shapes) > 1:
        raise ConfigError(
            f"the files of data.source have samples of different shapes: {sorted(shapes)}."
        )
    for table in tables:
        if table.targets is None:
            raise ConfigError(f"{table.name} has no targets.")
    return (
        Table(
            f"{tables[0].name} and {len(tables) - 1} more",
            np.concatenate([table.inputs for table in tables]),
            np.concatenate([np.asarray(table.targets) for table in tables]),
        ),
        None,
    )


def _idx_tables(folder: Path) -> tuple[Table, Table | None]:
    files = _idx_files(folder)
    for kind in ("images", "labels"):
        if f"train-{kind}" not in files:
            raise ConfigError(f"{folder} has no train-{kind}-idx*-ubyte file (gzip or not).")

    def table(stem: str) -> Table:
        images, labels = (read_table(files[f"{stem}-{kind}"]) for kind in ("images", "labels"))
        if len(images.inputs) != len(labels.inputs):
            raise ConfigError(
                f"{images.name} has {len(images.inputs)} images, {labels.name} "
                f"{len(labels.inputs)} labels."
            )
        return Table(images.name, images.inputs, labels.inputs)

    has_test = {"t10k-images", "t10k-labels"} <= files.keys()
    return table("train"), table("t10k") if has_test else None


def _arrays(
    train: Table, test: Table | None, classes: bool, test_fraction: float, seed: int, dtype: str
) -> Splits:
    inputs, targets = check_inputs(train.name, train.inputs), _targets(train, classes)
    if inputs.ndim == 3:  # pictures without an axis for colours
        inputs = inputs[:, None]
    pictures = inputs.ndim == 4
    outputs = int(targets.max()) + 1 if classes else int(np.prod(targets.shape[1:]))
    scale = np.array(1 / 255 if inputs.dtype == np.uint8 else 1.0)
    description = Description(
        "images" if pictures else "table", inputs.shape[1:], outputs, scale=scale
    )
    held_out: tuple[Array, Array] | None = None
    if test is not None:
        held_out = fit_inputs(test, description), _targets(test, classes)
        if classes and held_out[1].size:
            outputs = max(outputs, int(held_out[1].max()) + 1)
            description = replace(description, outputs=outputs)
    elif count := int(len(inputs) * test_fraction):
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(inputs))
        held_out = inputs[order[:count]], targets[order[:count]]
        inputs, targets = inputs[order[count:]], targets[order[count:]]
    return Splits(
        _scaled(inputs, targets, description, dtype),
        _scaled(*held_out, description, dtype) if held_out else None,
        description,
    )


def _targets(table: Table, classes: bool) -> Array:
    if table.targets is None:
        raise ConfigError(
            f"{table.name} has no targets; use a CSV file, an NPZ file with x and y, or a folder "
            "of IDX files."
        )
    if len(table.targets) != len(table.inputs):
        raise ConfigError(
            f"{table.name} has {len(table.inputs)} inputs but {len(table.targets)} targets."
        )
    check = class_labels if classes else numbers
    return check(table.name, table.targets)


def _scaled(inputs: Array, targets: Array, description: Description, dtype: str) -> ArrayDataset:
    return ArrayDataset(
        inputs,
        targets if targets.dtype.kind == "i" else targets.astype(dtype),
        dtype=dtype,
        shift=description.shift,
        scale=description.scale,
    )


def rescaled(dataset: Dataset, description: Description, dtype: str) -> Dataset:
    """An array data set under another scaling."""
    if not isinstance(dataset, ArrayDataset):
        raise ConfigError("data.standardise applies to tables and images.")
    every = dataset.batch(np.arange(len(dataset)))[1]
    return _scaled(dataset.inputs, every, description, dtype)


def _text(
    paths: Sequence[Path], source: str, test_fraction: float, dtype: str, length: int, limit: int
) -> Splits:
    del dtype
    text = _read_text(paths, limit)
    vocabulary = Vocabulary.of(text)
    codes = vocabulary.encode(text)
    cut = len(codes) - int(len(codes) * test_fraction)
    train, test = TextDataset(codes[:cut], length), TextDataset(codes[cut:], length)
    if len(train) == 0:
        raise ConfigError(
            f"data.source = {source!r}: {len(text):,} characters are too few for sequences of "
            f"{length}; set data.sequence_length."
        )
    description = Description("text", (length,), len(vocabulary), vocabulary=vocabulary)
    return Splits(train, test if len(test) else None, description)


def _read_text(paths: Sequence[Path], limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit
    for path in paths:
        part = read_bytes(path, left if limit else 0)
        parts.append(part)
        left -= len(part)
        if limit and left <= 0:
            break
    return b"".join(parts)
