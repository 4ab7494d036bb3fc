"""Samples of a few of many features: libsvm files and tables of categories."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from mpimlsys import data
from mpimlsys.data.sparse import FEATURE, SparseDataset
from mpimlsys.errors import ConfigError, CorruptData

LIBSVM = "1 3:0.5 7:2\n-1 1:1\n1 # nothing\n-1 2:1 3:1 7:-1\n"
TABLE = "user,item,when,rating\n5,40,1,3.5\n5,10,2,4\n9,40,3,1\n2,10,4,5\n"


@pytest.fixture
def written(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def triples(inputs):
    return [[(int(f), float(v)) for f, v in sample] for sample in inputs]


def test_a_libsvm_file_keeps_its_features_and_batches_are_as_wide_as_their_longest(written):
    found = data.load(written("x.libsvm", LIBSVM), test_fraction=0, sparse=True)
    assert found.test is None
    assert found.description.features == 7
    assert (found.description.kind, found.description.input_shape) == ("sparse", (0,))
    inputs, labels = found.train.batch(np.arange(4))
    by_label = sorted(zip(labels.tolist(), triples(inputs), strict=True))
    nothing = (0, 0.0)
    assert by_label == [
        (0, [(0, 1.0), nothing, nothing]),
        (0, [(1, 1.0), (2, 1.0), (6, -1.0)]),
        (1, [nothing, nothing, nothing]),
        (1, [(2, 0.5), (6, 2.0), nothing]),
    ]
    assert found.train.batch(np.empty(0, np.int64))[0].shape == (0, 0)


def test_each_value_of_a_column_is_a_feature(written):
    source = written("x.csv", TABLE)
    options = {"classes": False, "target": "rating", "columns": ["user", "item"]}
    found = data.load(source, test_fraction=0, sparse=True, **options)
    description = data.Description.from_tensors(found.description.tensors())
    assert description.features == 5
    assert [list(values) for values in description.categories] == [[2, 5, 9], [10, 40]]
    whole = data.labelled(source, description, dtype="float32", sequence_length=1, **options).batch(
        np.arange(4)
    )
    assert triples(whole[0]) == [
        [(1, 1.0), (4, 1.0)],
        [(1, 1.0), (3, 1.0)],
        [(2, 1.0), (4, 1.0)],
        [(0, 1.0), (3, 1.0)],
    ]
    assert whole[1].tolist() == [[3.5], [4.0], [1.0], [5.0]]
    unseen = written("y.csv", "user,item\n7,40\n99,0\n")
    for columns in (["user", "item"], []):
        inputs = data.inputs_from_file(
            Path(unseen),
            description,
            target="rating",
            columns=columns,
            dtype="float32",
        )
        assert triples(inputs) == [[(0, 0.0), (4, 1.0)], [(0, 0.0), (0, 0.0)]]


def test_the_test_part_has_the_features_of_the_training_part(written):
    lines = "".join(f"{user},{user % 3},{user % 2}\n" for user in range(40))
    source = written("x.csv", "user,group,label\n" + lines)
    found = data.load(source, test_fraction=0.25, sparse=True, seed=3)
    assert (len(found.train), len(found.test)) == (30, 10)
    assert found.description.features == 30 + 3
    inputs, _ = found.test.batch(np.arange(10))
    assert not inputs["value"][:, 0].any()
    assert inputs["value"][:, 1].all()
    more = written("y.csv", "user,group,label\n-1,0,0\n" + lines)
    again = data.load(
        more, test_fraction=0, sparse=True, seed=3, description=found.description
    ).train.batch(np.arange(41))[0]
    assert again["feature"].max() < 33
    assert np.count_nonzero(again["value"][:, 0]) == 30


def test_libsvm_files_may_be_gzipped(tmp_path):
    path = tmp_path / "x.libsvm.gz"
    path.write_bytes(gzip.compress(LIBSVM.encode()))
    found = data.load(str(path), test_fraction=0, sparse=True)
    assert len(found.train) == 4
    inputs = data.inputs_from_file(path, found.description, target="", dtype="float32")
    assert inputs.shape == (4, 3)


def test_features_that_training_did_not_have_are_left_out(written):
    description = data.load(written("x.libsvm", LIBSVM), test_fraction=0, sparse=True).description
    again = written("y.svm", "1 9:5 2:1\n")
    dataset = data.labelled(
        again,
        description,
        classes=True,
        target="",
        columns=(),
        dtype="float32",
        sequence_length=1,
    )
    assert triples(dataset.batch(np.arange(1))[0]) == [[(0, 0.0), (1, 1.0)]]


def test_part_has_the_samples_in_its_order():
    features = np.array([(0, 1), (1, 2), (2, 3), (3, 4)], FEATURE)
    dataset = SparseDataset(np.array([0, 1, 1, 4]), features, np.array([7, 8, 9]))
    part = dataset.part(np.array([2, 0]))
    inputs, targets = part.batch(np.array([1, 0]))
    assert targets.tolist() == [7, 9]
    assert inputs["value"].tolist() == [[1, 0, 0], [2, 3, 4]]


@pytest.mark.parametrize(
    ("name", "text", "options", "told"),
    [
        ("x.libsvm", "1 a:2\n", {}, "line 1"),
        ("x.libsvm", "1 0:2\n", {}, "index 0 is below 1"),
        ("x.libsvm", "1 1:nan\n", {}, "not finite"),
        ("x.libsvm", "2.5 1:1\n", {}, "is not a class"),
        ("x.libsvm", LIBSVM, {"columns": ["1"]}, "libsvm files have none"),
        ("x.csv", "a,b\n1e17,0\n", {}, "above 2^53"),
        ("x.csv", TABLE, {"columns": ["who"]}, "no column 'who' (data.columns)"),
        ("x.csv", TABLE, {"columns": ["rating"]}, "names the target 'rating'"),
    ],
)
def test_what_cannot_be_used_is_said(written, name, text, options, told):
    with pytest.raises((ConfigError, CorruptData)) as raised:
        data.load(written(name, text), sparse=True, **options)
    assert told in str(raised.value)


def test_a_folder_or_several_files_are_an_error():
    with pytest.raises(ConfigError, match="takes one file"):
        data.load("mnist", sparse=True)
