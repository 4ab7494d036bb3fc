"""Every format: read as written, gzip or not; damaged files are errors, never crashes."""

import contextlib
import gzip
import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpimlsys.data.formats import read_bytes, read_csv, read_idx, read_libsvm, read_npz, read_table
from mpimlsys.errors import ConfigError, CorruptData, MpimlsysError

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array, code):
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("kind", IDX_CODES)
def test_idx_of_every_type(kind):
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    found = read_idx(idx(array, IDX_CODES[kind]), "x")
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\1\0\x08\1\0\0\0\0",
        b"\0\0\x08\3\0\0",
        b"\0\0\x08\1\0\0\0\5abcd",
        b"\0\0\x08\1\0\0\0\3abcd",
        b"\0\0\x08\4" + b"\xff" * 16,  # 2**128 elements: nothing may be allocated
    ],
)
def test_idx_that_is_not(content):
    with pytest.raises(CorruptData):
        read_idx(content, "x")


@given(st.binary(max_size=60), st.integers(0, 5))
def test_hostile_bytes_are_errors_and_not_crashes(tail, which):
    heads = [b"\0\0\x08\2", b"\x93NUMPY\1\0", b"PK\3\4", b"1 2:3\n", b"a,b\n1,", b"\x1f\x8b"]
    content = heads[which] + tail
    readers = [
        lambda: read_idx(content, "x"),
        lambda: read_npz(content, "x"),
        lambda: read_libsvm(content, "x"),
        lambda: read_csv(content, "x"),
    ]
    for reader in readers:
        with contextlib.suppress(MpimlsysError):
            reader()


def test_gzip_is_told_by_its_content(tmp_path):
    path = tmp_path / "plain-name"
    path.write_bytes(gzip.compress(b"hello"))
    assert read_bytes(path) == b"hello"
    assert read_bytes(path, 2) == b"he"
    path.write_bytes(gzip.compress(b"hello" * 1000)[:-9])
    with pytest.raises(CorruptData, match="damaged"):
        read_bytes(path)
    path.write_bytes(gzip.compress(b"hello")[:5] + b"\xff\xff\xff\xff" * 8)
    with pytest.raises(CorruptData, match="damaged"):
        read_bytes(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_bytes(tmp_path / "none")


CSV = {
    "plain": ("1,2\n3,4\n", ["0", "1"]),
    "names": ("a,b\n1,2\n3,4\n", ["a", "b"]),
    "quoted names, spaces, blank lines": ('\n"a", "b"\n1, 2\n\n3,4\n', ["a", "b"]),
    "counts as scikit-learn has them": ("2,1,\na,b,y\n1,2,5\n3,4,6\n", ["a", "b", "y"]),
    "windows": ("\ufeffa,b\r\n1,2\r\n3,4\r\n", ["a", "b"]),
}


@pytest.mark.parametrize("name", CSV)
def test_csv(name):
    text, names = CSV[name]
    found, matrix = read_csv(text.encode(), "x")
    assert found == names
    np.testing.assert_array_equal(matrix[:, :2], [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, but the rows before have 2"),
        ("a,b\n1,\n", "line 2, column 'b': the value is missing"),
        ("a,b\n1,2\nx,2\n", "line 3, column 'a': 'x' is not a number"),
        ("a,b,c\n1,2\n", "3 column names, but 2 columns"),
    ],
)
def test_csv_that_cannot_be_used(text, message):
    with pytest.raises(ConfigError) as error:
        read_csv(text.encode(), "x")
    assert message in str(error.value)


def test_libsvm():
    features, labels = read_libsvm(b"1 1:0.5 3:2 # note\n\n-1 qid:3 2:1\n", "x")
    assert features.tolist() == [[0.5, 0, 2], [0, 1, 0]]
    assert labels.tolist() == [1, -1]
    for bad in (b"1 x:1\n", b"1 0:1\n", b"a 1:1\n", b"1 1\n"):
        with pytest.raises(CorruptData, match="line 1"):
            read_libsvm(bad, "x")
    with pytest.raises(ConfigError, match="do not fit as a dense array"):
        read_libsvm(b"1 99999999999:1\n", "x")


def saved(save, *arrays, **named):
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


def test_tables_of_every_format(tmp_path):
    x, y = np.arange(6.0).reshape(3, 2), np.array([0.0, 1, 0])
    files = {
        "a.csv": "\n".join(f"{a},{b},{t}" for (a, b), t in zip(x, y, strict=True)).encode(),
        "a.npz": saved(np.savez, x=x, y=y),
        "a.npy": saved(np.save, np.column_stack([x, y])),
        "a.svm": b"0 1:0 2:1\n1 1:2 2:3\n0 1:4 2:5\n",
    }
    for name, content in files.items():
        for path, data in (
            (tmp_path / name, content),
            (tmp_path / f"{name}.gz", gzip.compress(content)),
        ):
            path.write_bytes(data)
            table = read_table(path)
            np.testing.assert_array_equal(table.inputs, x)
            np.testing.assert_array_equal(table.targets, y)


def test_no_pickle(tmp_path):
    for name, content in (
        ("a.npy", saved(np.save, np.array([{}], object))),
        ("a.npz", saved(np.savez, x=np.array([{}], object), y=np.zeros(1))),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptData):
            read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"nothing", "is not a NPY file, whatever its name says"),
        ("a.xyz", b"nothing", "cannot tell the format"),
        ("a.csv", b"", "is empty"),
        ("a.npz", saved(np.savez, q=np.zeros(2), r=np.zeros(2)), "name its arrays x and y"),
        ("a.npy", saved(np.save, np.zeros(4)), "without targets"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_table(tmp_path / name)
    assert message in str(error.value)


def test_the_target_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,2,3\n4,5,6\n")
    assert read_table(path, target="b").targets.tolist() == [2, 5]
    assert read_table(path, target="0").targets.tolist() == [1, 4]
    assert read_table(path, target="b", labelled=False).inputs.tolist() == [[1, 3], [4, 6]]
    with pytest.raises(ConfigError, match="no column 'd'"):
        read_table(path, target="d")
