"""The shares of a state: equal, complete, and put together again whatever their number."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train import checkpoint
from mpimlsys.train import shares as module
from mpimlsys.train.shares import shares

MIB = 1 << 20


def state(*sizes):
    """Tensors of so many bytes, in several dtypes, with all elements different."""
    dtypes = ["f4", "f8", "u1"]
    made = {}
    for index, size in enumerate(sizes):
        dtype = np.dtype(dtypes[index % 3])
        made[f"t{index}"] = (np.arange(size // dtype.itemsize) % 251).astype(dtype)
    return made


def joined(parts):
    """What the shares hold, by tensor; each part must follow the one before it."""
    found = {}
    for part in (part for share in parts for part in share):
        pieces = found.setdefault(part.name, [])
        assert part.first == sum(map(len, pieces))
        pieces.append(part.values)
    return {name: np.concatenate(pieces) for name, pieces in found.items()}


@given(st.lists(st.integers(0, 3000), max_size=6), st.integers(1, 9), st.integers(64, 2000))
def test_every_element_is_in_one_share(sizes, ranks, smallest):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_SMALLEST_BYTES", smallest)
        tensors = state(*sizes)
        found = shares(tensors, ranks)
        total = sum(value.nbytes for value in tensors.values())
        assert len(found) == max(1, min(ranks, total // smallest))
        for name, values in joined(found).items():
            np.testing.assert_array_equal(values, tensors[name])
        assert joined(found).keys() == tensors.keys()
        sizes = [sum(part.values.nbytes for part in share) for share in found]
        assert max(sizes) <= math.ceil(total / len(found)) + 64 * len(found)


def test_parts_are_aligned_views():
    tensors = state(40 * MIB, 24 * MIB + 8, 8)
    found = shares(tensors, 4)
    for part in (part for share in found for part in share):
        assert part.first * part.values.itemsize % 64 == 0
        assert part.values.size == 0 or np.shares_memory(part.values, tensors[part.name])


def test_a_small_state_is_one_file_and_a_large_one_is_not():
    assert len(shares(state(7 * MIB), 8)) == 1
    assert len(shares(state(8 * MIB), 8)) == 2
    assert len(shares(state(99 * MIB), 8)) == 8


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    """A checkpoint in three files, and its state."""
    monkeypatch.setattr(module, "_SMALLEST_BYTES", 1000)
    tensors = state(2000, 5000, 300) | {"empty": np.empty((0, 2)), "n": np.array(3)}
    tensors["square"] = np.arange(600.0).reshape(20, 30)
    parts = shares(tensors, 3)
    owner = checkpoint.owner()
    files = [checkpoint.write_share(tmp_path, 5, owner, parts[i], i, 3) for i in (2, 0, 1)]
    files = [files[1], files[2], files[0]]
    return checkpoint.commit(tmp_path, 5, files, manifest={}, keep=1), tensors


def test_shares_are_put_together(sharded):
    path, tensors = sharded
    names = [f"state-0000{index}-of-00003.safetensors" for index in (1, 2, 3)]
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", *names]
    found = checkpoint.load(path).tensors
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_damaged_share_is_not_loaded(sharded, index):
    file = sharded[0] / f"state-0000{index}-of-00003.safetensors"
    whole = file.read_bytes()
    for damage in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(damage)
        with pytest.raises(CorruptData, match=file.name):
            checkpoint.load(sharded[0])
    file.unlink()
    with pytest.raises(CorruptData, match=file.name):
        checkpoint.load(sharded[0])


def test_a_share_that_rank_0_cannot_see_is_not_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SMALLEST_BYTES", 1000)
    parts = shares(state(4000), 2)
    owner = checkpoint.owner()
    files = [checkpoint.write_share(tmp_path, 5, owner, parts[i], i, 2) for i in (0, 1)]
    (missing,) = tmp_path.glob("*/new/state-00002-of-00002.safetensors")
    missing.unlink()
    with pytest.raises(ConfigError, match=r"rank 1, .* a folder that all hosts share"):
        checkpoint.commit(tmp_path, 5, files, manifest={}, keep=1)
    assert list(tmp_path.iterdir()) == []
