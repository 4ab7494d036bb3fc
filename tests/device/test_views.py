"""Where an array of a GPU is, whoever made it."""

import sys
import types

import numpy as np
import pytest

from mpimlsys.device import arrays
from mpimlsys.errors import ConfigError


class Shown:
    """What another library's array shows of itself."""

    def __init__(self, **about):
        self.__cuda_array_interface__ = {
            "shape": (3, 4),
            "typestr": "<f4",
            "data": (4096, False),
            "strides": None,
            "version": 3,
            **about,
        }


def test_a_view_says_where_and_what():
    found = arrays.view(Shown(stream=7))
    assert (found.address, found.shape, found.dtype) == (4096, (3, 4), "float32")
    assert (found.size, found.nbytes, found.stream, found.gpu) == (12, 48, 7, None)


@pytest.mark.parametrize(
    ("about", "stream"), [({}, 1), ({"stream": None}, 1), ({"stream": 1}, 1), ({"stream": 99}, 99)]
)
def test_without_a_stream_it_is_the_one_that_every_program_has(about, stream):
    assert arrays.view(Shown(**about)).stream == stream


@pytest.mark.parametrize("strides", [None, (16, 4), [16, 4]])
def test_contiguous_arrays_are_taken(strides):
    assert arrays.view(Shown(strides=strides)).nbytes == 48


def test_an_axis_of_one_may_have_any_stride():
    assert arrays.view(Shown(shape=(1, 4), strides=(999, 4))).size == 4
    assert arrays.view(Shown(shape=(0, 4), strides=(4, 999), data=(0, False))).size == 0


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"strides": (32, 4)}, "not C-contiguous"),
        ({"strides": (4, 12)}, "not C-contiguous"),
        ({"data": (4096, True)}, "read-only"),
        ({"mask": object()}, "masked"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(about, told):
    with pytest.raises(ConfigError, match=told):
        arrays.view(Shown(**about))


def test_what_is_on_a_gpu():
    assert arrays.is_on_gpu(Shown())
    assert not arrays.is_on_gpu(np.ones(3))
    assert not arrays.is_on_gpu([1, 2])
    for device, answer in (((2, 0), True), ((13, 0), True), ((1, 0), False)):
        capsule = types.SimpleNamespace(__dlpack_device__=lambda device=device: device)
        assert arrays.is_on_gpu(capsule) is answer


def test_dlpack_alone_is_read_by_cupy(monkeypatch):
    other = types.SimpleNamespace(__dlpack_device__=lambda: (2, 0))
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigError, match=r"pip install 'mpimlsys\[gpu\]'"):
        arrays.view(other)
    cupy = types.SimpleNamespace(from_dlpack=lambda _: Shown(data=(8192, False)))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert arrays.view(other).address == 8192


def tensor(monkeypatch, dtype):
    """A tensor of PyTorch, as far as it is looked at."""
    stream = types.SimpleNamespace(cuda_stream=55)
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(current_stream=lambda _: stream)
    torch.int16 = "int16"
    monkeypatch.setitem(sys.modules, "torch", torch)

    class Tensor(Shown):
        is_cuda = True
        device = types.SimpleNamespace(index=2)

        def detach(self):
            return self

        def view(self, dtype):
            assert dtype == "int16"
            return tensor_of("<i2")

    Tensor.__module__ = "torch"

    def tensor_of(typestr):
        made = Tensor(typestr=typestr)
        made.dtype = f"torch.{dtype}"
        return made

    return tensor_of("<f4")


def test_tensors_have_their_stream_gpu_and_bfloat16(monkeypatch):
    found = arrays.view(tensor(monkeypatch, "float32"))
    assert (found.stream, found.gpu, found.dtype) == (55, 2, "float32")
    half = arrays.view(tensor(monkeypatch, "bfloat16"))
    assert (half.dtype, half.itemsize) == ("bfloat16", 2)


def test_the_current_stream_of_cupy_is_respected(monkeypatch):
    stream = types.SimpleNamespace(ptr=123)
    cupy = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(get_current_stream=lambda: stream)
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    class Array(Shown):
        device = types.SimpleNamespace(id=1)

    Array.__module__ = "cupy"
    found = arrays.view(Array(stream=None))
    assert (found.stream, found.gpu) == (123, 1)
