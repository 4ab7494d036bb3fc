"""Checkpoints: what is saved comes back, and nothing damaged is ever taken for whole."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train import checkpoint, checkpoint_files, durable
from mpimlsys.train.shares import shares

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def tensors():
    rng = np.random.default_rng(0)
    made = {f"t.{dtype}": (rng.random((3, 5)) * 9).astype(dtype) for dtype in DTYPES}
    return made | {
        "steps": np.array(7, np.int64),
        "nothing": np.empty((0, 4), np.float32),
        "größe": np.arange(3.0),
        "special": np.array([np.nan, -0.0, np.inf, 5e-324]),
    }


def save_state(folder, step, state, *, manifest=None, keep=3, ranks=1):
    """What the ranks of a run do, one after the other."""
    checkpoint.remove_stale(folder)
    try:
        parts = shares(state, ranks)
        files = [
            checkpoint.write_share(folder, step, checkpoint.owner(), share, index, len(parts))
            for index, share in enumerate(parts)
        ]
        return checkpoint.commit(folder, step, files, manifest=manifest or {}, keep=keep)
    finally:
        checkpoint.remove_stale(folder)


def save(folder, step, keep=3, **changes):
    state = {"w": np.full(4, float(step)), "n": np.array(step)} | changes
    return save_state(folder, step, state, manifest={"seed": 1}, keep=keep)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(left, right):
    return (
        left.keys() == right.keys()
        and all(left[name].dtype == right[name].dtype for name in left)
        and all(left[name].shape == right[name].shape for name in left)
        and all(left[name].tobytes() == right[name].tobytes() for name in left)
    )


def test_what_is_saved_comes_back(tmp_path):
    manifest = {"job": {"seed": 7}, "position": [1, 2], "name": "Zürich"}
    path = save_state(tmp_path, 123, tensors(), manifest=manifest)
    assert path == tmp_path / "step-0000000123"
    assert names(path) == ["manifest.json", "state.safetensors"]
    found = checkpoint.load(path)
    assert (found.step, found.manifest, found.path) == (123, manifest, path)
    assert same(found.tensors, tensors())
    found.tensors["steps"][...] = 8  # the caller's own: it may train on them


def test_the_state_is_a_safetensors_file(tmp_path):
    path = save_state(tmp_path, 1, tensors())
    assert same(safetensors.numpy.load_file(path / "state.safetensors"), tensors())


def test_the_exact_bytes_of_a_small_state(tmp_path):
    state = {"b": np.array([1, 2], "<i2"), "a": np.array([1.0], "<f4")}
    path = save_state(tmp_path, 1, state)
    head = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"I16","shape":[2],"data_offsets":[4,8]}}'
    )
    head += b" " * (-len(head) % 8)
    expected = len(head).to_bytes(8, "little") + head + b"\0\0\x80\x3f\x01\0\x02\0"
    assert (path / "state.safetensors").read_bytes() == expected


def test_views_and_foreign_byte_order_are_saved_by_value(tmp_path):
    square = np.arange(12.0).reshape(3, 4)
    state = {"turned": square.T, "strided": square[:, ::2], "big": np.arange(3, dtype=">i4")}
    path = save_state(tmp_path, 1, state)
    loaded = checkpoint.load(path).tensors
    for name, value in state.items():
        np.testing.assert_array_equal(loaded[name], value)


def test_arrays_are_streamed(tmp_path):
    state = {"w": np.ones(1 << 20), "v": np.ones(1 << 20, np.float32)}
    size = sum(value.nbytes for value in state.values())
    tracemalloc.start()
    try:
        path = save_state(tmp_path, 1, state)
        saving = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        loaded = checkpoint.load(path)
        loading = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert same(loaded.tensors, state)
    assert saving < 0.1 * size
    assert loading < 1.1 * size


def test_a_dtype_that_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"'w' has dtype complex128"):
        save(tmp_path, 1, w=np.zeros(2, complex))
    assert names(tmp_path) == []


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10, 9_999_999_999, 10_000_000_000):
        save(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step-10000000000", "step-9999999999"]
    assert checkpoint.newest(tmp_path, pytest.fail).step == 10_000_000_000


def test_damaged_ones_do_not_count_as_kept(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / "step-0000000002" / "manifest.json").write_text("{}")
    (tmp_path / "step-0000000003" / "state.safetensors").unlink()
    save(tmp_path, 4, keep=2)
    assert checkpoint.load(tmp_path / "step-0000000001").step == 1
    save(tmp_path, 5, keep=2)
    assert names(tmp_path) == ["step-0000000004", "step-0000000005"]


def test_a_later_checkpoint_of_an_earlier_attempt_is_left(tmp_path):
    save(tmp_path, 300)
    save(tmp_path, 100, keep=1)
    save(tmp_path, 200, keep=1)
    assert names(tmp_path) == ["step-0000000200", "step-0000000300"]


def test_the_same_step_again_is_replaced(tmp_path):
    save(tmp_path, 5, w=np.zeros(2))
    save(tmp_path, 5, w=np.ones(3))
    assert names(tmp_path) == ["step-0000000005"]
    np.testing.assert_array_equal(
        checkpoint.load(tmp_path / "step-0000000005").tensors["w"], np.ones(3)
    )


def test_the_same_step_with_the_same_content_is_not_touched(tmp_path):
    inode = save(tmp_path, 5).stat().st_ino
    assert save(tmp_path, 5).stat().st_ino == inode


def test_the_same_step_is_written_anew_where_it_was_damaged(tmp_path):
    path = save(tmp_path, 5)
    flip(path / "state.safetensors", -1)
    save(tmp_path, 5)
    assert checkpoint.load(path).step == 5


def test_what_dead_writers_left_is_removed(tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid(), os.uname().nodename)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    pid, host = child.stdout.split()
    dead = tmp_path / f".step-0000000004.{host}.{pid}" / "new"
    alive = tmp_path / f".step-0000000004.{host}.{os.getppid()}" / "new"
    elsewhere = tmp_path / ".step-0000000004.node7.1" / "new"
    long_ago = tmp_path / ".step-0000000003.node7.1" / "new"
    for folder in (dead, alive, elsewhere, long_ago):
        folder.mkdir(parents=True)
    os.utime(long_ago.parent, (0, 0))
    other = tmp_path / ".nfs-something"
    other.touch()
    save(tmp_path, 5)
    assert names(tmp_path) == sorted(
        [other.name, alive.parent.name, elsewhere.parent.name, "step-0000000005"]
    )


def flip(path, at, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def test_newest_passes_over_damaged_ones_and_says_so(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    flip(tmp_path / "step-0000000003" / "state.safetensors", -40)
    (tmp_path / "step-0000000002" / "manifest.json").write_text("not JSON")
    said = []
    assert checkpoint.newest(tmp_path, said.append).step == 1
    assert said == [
        "checkpoint step-0000000003 is damaged (state.safetensors: tensor 'n' fails its "
        "checksum); using the one before",
        "checkpoint step-0000000002 is damaged (manifest.json: is not a manifest); using the one "
        "before",
    ]


def test_newest_without_any(tmp_path):
    assert checkpoint.newest(tmp_path / "none", pytest.fail) is None
    flip(save(tmp_path, 1) / "manifest.json", 20)
    said = []
    assert checkpoint.newest(tmp_path, said.append) is None
    assert said[0].endswith("; there is none before it")


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot read the checkpoints in .*Not a directory"):
        checkpoint.newest(tmp_path / "file", pytest.fail)


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
def test_a_missing_file_is_named(tmp_path, name):
    path = save(tmp_path, 1)
    (path / name).unlink()
    with pytest.raises(CorruptData, match=rf"{name}: No such file"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"3",
        b"null",
        b"\xff\xfe",
        b'{"checksum": 1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"checksum": 1, "a": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"step": ' + b"9" * 5000 + b"}",
        b'{"step": NaN, "checksum": ""}',
    ],
)
def test_a_hostile_manifest_is_corrupt_data(tmp_path, manifest):
    path = save(tmp_path, 1)
    (path / "manifest.json").write_bytes(manifest)
    with pytest.raises(CorruptData, match=r"manifest\.json"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1 << 62]},
        {"shape": [1 << 62, 0]},
        {"shape": [-1]},
        {"shape": [1.5]},
        {"shape": [True]},
        {"shape": "ab"},
        {"shape": [1] * 99},
        {"shape": [3]},
        {"shape": [5]},
        {"dtype": "F99"},
        {"dtype": []},
        {"name": 3},
        {"first": 1},
        {"first": -1},
        {"first": 0.0},
        {"count": 3},
        {"count": -4},
        {"count": True},
    ],
)
def test_a_forged_entry_is_corrupt_data(tmp_path, change):
    good = {"name": "w", "dtype": "F64", "shape": [4], "first": 0, "count": 4, "sha256": ""}
    forge(save(tmp_path, 1), files=[[good | change]])
    with pytest.raises(CorruptData):
        checkpoint.load(tmp_path / "step-0000000001")


def forge(path, **change):
    manifest = path / "manifest.json"
    body = json.loads(manifest.read_bytes()) | change
    del body["checksum"]
    manifest.write_bytes(checkpoint_files.seal(body))


@pytest.mark.parametrize(
    "change",
    [
        {"files": [[{"name": "w"}]]},
        {"files": [[7]]},
        {"files": [7]},
        {"files": 7},
        {"files": []},
        {"files": [[]]},
        {"step": "x"},
        {"step": None},
        {"run": 3},
    ],
)
def test_a_forged_manifest_is_corrupt_data(tmp_path, change):
    path = save(tmp_path, 1)
    forge(path, **change)
    with pytest.raises(CorruptData):
        checkpoint.load(path)


def test_another_versions_format_is_said_as_such(tmp_path):
    path = save(tmp_path, 1)
    forge(path, format=9, mpimlsys="9.1")
    with pytest.raises(ConfigError, match=r"written by mpimlsys 9\.1 in format 9"):
        checkpoint.newest(tmp_path, pytest.fail)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    state = {"w": np.arange(6.0).reshape(2, 3), "ä": np.array(3), "e": np.empty(0, np.int8)}
    return save_state(folder, 1, state, manifest={"name": "größe \\ \n", "x": 0.1})


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_flipped_bit_is_accepted(whole, data):
    file = data.draw(st.sampled_from(["state.safetensors", "manifest.json"]))
    size = (whole / file).stat().st_size
    at, bit = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(whole, Path(folder) / "copy"))
        flip(copy / file, at, bit)
        with pytest.raises(CorruptData):
            checkpoint.load(copy)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_no_file_of_another_length_is_accepted(whole, data):
    file = data.draw(st.sampled_from(["state.safetensors", "manifest.json"]))
    content = (whole / file).read_bytes()
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    changed = data.draw(st.sampled_from([cut, content + b"\0", content + b"\n", content * 2]))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(whole, Path(folder) / "copy"))
        (copy / file).write_bytes(changed)
        with pytest.raises(CorruptData):
            checkpoint.load(copy)


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "rename")])
def test_a_full_disk_leaves_what_was_saved(tmp_path, monkeypatch, owner, call):
    save(tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(owner, call, full)
        with pytest.raises(ConfigError) as caught:
            save(tmp_path, 2)
    text = str(caught.value)
    assert text.startswith(f"cannot write {tmp_path}/step-0000000002: No space left on device.")
    assert "Make room" in text
    assert "checkpoint.dir" in text
    assert names(tmp_path) == ["step-0000000001"]
    assert checkpoint.newest(tmp_path, pytest.fail).step == 1


def test_a_real_full_disk(tmp_path):
    mount = tmp_path / "tiny"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() or subprocess.run(command, capture_output=True, timeout=30).returncode:
        pytest.skip("needs the right to mount")
    try:
        save(mount, 1)
        with pytest.raises(ConfigError, match="No space left on device"):
            save(mount, 2, big=np.zeros(100_000))
        assert names(mount) == ["step-0000000001"]
        save(mount, 3)
        assert checkpoint.newest(mount, pytest.fail).step == 3
    finally:
        subprocess.run(["umount", str(mount)], check=True, timeout=30)


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Move the file that is in"):
        save(tmp_path / "file", 1)
    with pytest.raises(ConfigError, match="Move the file that is in"):
        save(tmp_path / "file" / "checkpoints", 1)


def test_a_killed_writer_leaves_the_one_before(tmp_path):
    """Killed before each of the calls by which a save reaches the disk, in turn."""
    save(tmp_path, 1)
    code = """
import os, pathlib, signal, sys
import numpy as np
from mpimlsys.train import checkpoint, shares
left = [int(sys.argv[2])]
def deadly(call):
    def wrapped(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
os.fsync = deadly(os.fsync)
pathlib.Path.rename = deadly(pathlib.Path.rename)
state = {"w": np.full(4, 2.0), "n": np.array(2)}
folder, owner = pathlib.Path(sys.argv[1]), checkpoint.owner()
(share,) = shares.shares(state, 1)
entries = checkpoint.write_share(folder, 2, owner, share, 0, 1)
checkpoint.commit(folder, 2, [entries], manifest={}, keep=1)
"""
    seen = []
    for calls in range(8):
        folder = tmp_path / str(calls)
        save(folder, 1)
        child = subprocess.run([sys.executable, "-c", code, folder, str(calls)], timeout=60)
        found = checkpoint.newest(folder, pytest.fail)
        assert found.step == found.tensors["n"]
        seen.append((child.returncode, found.step))
        save(folder, 3, keep=1)
        assert names(folder) == ["step-0000000003"]
    assert seen == [(-9, 1)] * 4 + [(-9, 2)] * 3 + [(0, 2)]


def test_replacing_a_file_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    durable.replace_file(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["result.json"]
