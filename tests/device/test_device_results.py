"""Results are arrays of the kind that went in."""

import contextlib
import sys
import types

import numpy as np
import pytest
import standin

from mpimlsys.device import Gpu, arrays, results


@pytest.fixture
def device(standin_path, monkeypatch):
    monkeypatch.setitem(sys.modules, f"mpimlsys.{standin.NAME}", None)  # to be restored
    return Gpu(standin.use(standin_path).Device(0), 0)


@pytest.fixture
def streams(monkeypatch):
    """CuPy and PyTorch as far as they are looked at: their arrays, made on a named stream."""
    entered = []

    def on(*names):
        stack = contextlib.ExitStack()
        stack.enter_context(contextlib.nullcontext(entered.extend(names)))
        return stack

    def kind(module, **more):
        class Made(standin.Array):
            def __init__(self, values):
                super().__init__(values, stream=1)
                vars(self).update(more)

            def __getitem__(self, rows):
                return ("rows", rows)

            def detach(self):
                return self

            def new_empty(self, shape):
                return Made(np.empty(shape, self.dtype))

        Made.__module__ = module
        return Made

    torch, cupy = types.ModuleType("torch"), types.ModuleType("cupy")
    current = types.SimpleNamespace(cuda_stream=1)
    torch.cuda = types.SimpleNamespace(current_stream=lambda _: current, stream=on)
    torch.Tensor = kind("torch", is_cuda=True, device=types.SimpleNamespace(index=0))
    cupy.ndarray = kind("cupy._core.core", device=types.SimpleNamespace(id=0))
    cupy.empty = lambda shape, dtype: cupy.ndarray(np.empty(shape, dtype))
    stream = contextlib.nullcontext()
    stream.ptr = 1
    cupy.cuda = types.SimpleNamespace(get_current_stream=lambda: stream, Device=on)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return types.SimpleNamespace(torch=torch, cupy=cupy, entered=entered, current=current)


def made_like(array, device, shape):
    result = results.Result(device)
    result.be_like(array, arrays.view(array))
    made = result.make(shape, device.native.make_stream())
    return made, arrays.view(made)


def test_tensors_are_made_on_the_stream_that_was_current(device, streams):
    tensor = streams.torch.Tensor(np.ones(3, np.float32))
    made, place = made_like(tensor, device, (2, 5))
    assert type(made) is streams.torch.Tensor
    assert place.keeper is streams.current  # so that it is there when the operation ends
    assert (place.shape, place.dtype) == ((2, 5), "float32")
    assert streams.entered == [streams.current]
    assert results.rows_of(tensor, slice(1, 2)) == ("rows", slice(1, 2))


def test_arrays_of_cupy_are_made_on_their_gpu(device, streams):
    array = streams.cupy.ndarray(np.ones(3, np.int16))
    made, place = made_like(array, device, (0, 5))
    assert type(made) is streams.cupy.ndarray
    assert place.keeper is streams.cupy.cuda.get_current_stream()
    assert (place.shape, place.dtype) == ((0, 5), "int16")
    assert streams.entered == [0]
    assert results.rows_of(array, slice(0, 3)) == ("rows", slice(0, 3))


def test_others_get_an_array_with_the_interface(device):
    array = standin.Array(np.arange(12, dtype=np.uint16).reshape(4, 3), stream=1)
    made, place = made_like(array, device, (2, 3))
    assert standin.host(made).tolist() == np.zeros((2, 3)).tolist()
    assert place.shape == (2, 3)
    rows = results.rows_of(array, slice(1, 3))
    assert standin.host(rows).tolist() == [[3, 4, 5], [6, 7, 8]]
    assert arrays.is_on_gpu(rows)
    assert standin.host(results.rows_of(array, slice(4, 4))).shape == (0, 3)
