"""Sources: built-in, files, folders; splits, scaling, description; what does not fit."""

import numpy as np
import pytest

from mpimlsys import data
from mpimlsys.errors import ConfigError


def everything(dataset):
    return dataset.batch(np.arange(len(dataset)))


def test_the_bundled_digits():
    splits = data.load("mnist")
    assert (len(splits.train), len(splits.test)) == (10_000, 2_000)
    assert splits.description.kind == "images"
    assert (splits.description.input_shape, splits.description.outputs) == ((1, 28, 28), 10)
    images, labels = everything(splits.test)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert sorted(set(labels.tolist())) == list(range(10))


def test_boston():
    splits = data.load("boston", classes=False, test_fraction=0.2, dtype="float64")
    assert (len(splits.train), len(splits.test)) == (405, 101)
    x, y = everything(splits.train)
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((405, 13), (405, 1), "float64", "float64")


def test_the_split_is_a_partition_that_depends_on_the_seed():
    whole = everything(data.load("boston", classes=False, test_fraction=0.0).train)[0]
    parts = [data.load("boston", classes=False, seed=seed) for seed in (1, 1, 2)]
    rows = [np.concatenate([everything(p.train)[0], everything(p.test)[0]]) for p in parts]
    assert data.load("boston", classes=False, test_fraction=0.0).test is None
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(np.sort(rows[2], axis=0), np.sort(whole, axis=0))


def test_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hello world, " * 50)
    splits = data.load(str(path), sequence_length=10, test_fraction=0.2)
    vocabulary = splits.description.vocabulary
    inputs, targets = everything(splits.train)
    assert inputs.shape == targets.shape == (51, 10)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert vocabulary.decode(inputs[0]) == b"hello worl"
    assert vocabulary.decode(targets[0]) == b"ello world"
    assert splits.description.outputs == len(vocabulary) == len(set("hello world, "))


def test_the_standard_library_as_text():
    splits = data.load("python:stdlib", max_bytes=100_000, sequence_length=50)
    assert len(splits.train) == (90_000 - 1) // 50
    with pytest.raises(ConfigError, match="too few for sequences"):
        data.load("python:stdlib", max_bytes=10)


def test_several_files_are_put_together(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.csv").write_text(f"a,y\n{index},0\n{index + 10},1\n")
    splits = data.load(str(tmp_path / "*.csv"), test_fraction=0)
    assert everything(splits.train)[0][:, 0].tolist() == [0, 10, 1, 11, 2, 12]
    (tmp_path / "3.csv").write_text("a,b,y\n1,2,0\n")
    with pytest.raises(ConfigError, match="different shapes"):
        data.load(str(tmp_path / "*.csv"))


def test_whole_data_sets_from_a_folder(shared_data):
    for name in ("mnist", "fashion-mnist"):
        splits = data.load(str(shared_data / name))
        assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
    sample = everything(data.load("mnist").train)
    first = data.load(str(shared_data / "mnist")).train.batch(np.arange(10_000))
    np.testing.assert_array_equal(sample[0], first[0])
    np.testing.assert_array_equal(sample[1], first[1])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bostn", "Did you mean 'boston'?"),
        ("/nowhere/x.csv", "no such file or folder"),
        ("https://example.org/x.csv", "addresses are not supported"),
    ],
)
def test_sources_that_are_not(source, message):
    with pytest.raises(ConfigError) as error:
        data.load(source)
    assert message in str(error.value)


def test_description_goes_through_a_checkpoint():
    description = data.load("python:stdlib", max_bytes=50_000).description
    again = data.Description.from_tensors(description.tensors())
    assert (again.kind, again.input_shape, again.outputs) == (
        description.kind,
        description.input_shape,
        description.outputs,
    )
    assert again.vocabulary.symbols.tolist() == description.vocabulary.symbols.tolist()


def test_moments_merge_to_those_of_the_whole():
    rows = np.random.default_rng(0).normal(5, 3, (101, 4))
    rows[:, 2] = 7  # constant
    merged = data.Moments(0, np.zeros(4), np.zeros(4))
    for part in (rows[:30], rows[30:30], rows[30:]):
        merged = merged.merge(data.Moments.from_array(data.Moments.of(part).as_array()))
    shift, scale = merged.scaling()
    np.testing.assert_allclose(shift, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        1 / scale, [*rows[:, :2].std(axis=0), 1, rows[:, 3].std()], rtol=1e-12
    )


def test_inputs_for_prediction_are_scaled_as_the_training_data(tmp_path):
    description = data.Description("table", (2,), 1).scaled(np.array([1.0, 2]), np.array([2.0, 4]))
    (tmp_path / "a.csv").write_text("x1,x2\n2,3\n1,2\n")
    found = data.inputs_from_file(tmp_path / "a.csv", description, target="", dtype="float64")
    assert found.tolist() == [[2, 4], [0, 0]]
    (tmp_path / "c.csv").write_text("x1,x2,x3,x4\n2,3,4,5\n")
    with pytest.raises(ConfigError, match=r"shape \(4,\), the model was trained on \(2,\)"):
        data.inputs_from_file(tmp_path / "c.csv", description, target="", dtype="float64")
    (tmp_path / "b.csv").write_text("x1,x2,x3\n2,3,4\n")
    found = data.inputs_from_file(tmp_path / "b.csv", description, target="x2", dtype="float64")
    assert found.tolist() == [[2, 8]]
    found = data.inputs_from_file(tmp_path / "b.csv", description, target="", dtype="float64")
    assert found.tolist() == [[2, 4]], "the last column is the target that training left out"


def test_a_single_picture_is_a_batch_of_one(tmp_path):
    description = data.load("mnist").description
    np.save(tmp_path / "one.npy", np.zeros((28, 28), np.uint8))
    found = data.inputs_from_file(tmp_path / "one.npy", description, target="", dtype="float32")
    assert found.shape == (1, 1, 28, 28)
