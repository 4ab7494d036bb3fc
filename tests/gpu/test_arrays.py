"""Where arrays are, the choice of a GPU, and whether the stand-in for CuPy is like CuPy."""

import functools
import sys

import numpy as np
import pytest
import strict

from mpimlsys import kernels
from mpimlsys.errors import ConfigError
from mpimlsys.kernels import arrays


def test_the_namespace_follows_the_array(cupy):
    assert arrays.namespace(np.zeros(3)) is np
    assert arrays.namespace(2.0) is np
    assert arrays.namespace(cupy.zeros(3)) is cupy


def test_cupy_is_not_imported_to_tell_where_an_array_is(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    assert arrays.namespace(object()) is np
    assert "cupy" not in sys.modules


def test_only_filling_and_getting_cross_over(cupy):
    there = cupy.zeros(3, np.float32)
    arrays.fill(there, np.arange(3.0))
    here = arrays.to_host(there)
    assert here.dtype == np.float32
    assert here.tolist() == [0, 1, 2]
    assert arrays.to_host(here) is here
    for mix in (
        lambda: there + here,
        lambda: np.where(there > 0, here, there),
        lambda: there[np.array([0, 1])],
        lambda: there.__setitem__(slice(2), here[:2]),
        lambda: np.asarray(there),
        lambda: np.add(there, 1, out=here),
        lambda: np.add.reduce(there),
    ):
        with pytest.raises(TypeError):
            mix()


def test_kernels_by_array(cupy):
    assert kernels.of(np.zeros(1)).__name__.endswith("jit")
    assert kernels.of(np.zeros(1, np.float16)).__name__.endswith("device")
    assert kernels.of(cupy.zeros(1)).__name__.endswith("device")


@pytest.mark.parametrize(("rank", "gpus", "wanted"), [(0, 1, 0), (3, 1, 0), (3, 2, 1), (1, 8, 1)])
def test_a_gpu_for_each_rank_of_a_node(monkeypatch, rank, gpus, wanted):
    module = strict.Namespace(gpus)
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert arrays.open_device("cuda", rank) is module
    assert module.device_used == wanted


def test_the_host_needs_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert arrays.open_device("cpu", 0) is np


class TestMistakes:
    def explained(self, *words):
        with pytest.raises(ConfigError) as error:
            arrays.open_device("cuda", 0)
        for word in (*words, "cluster.device = 'cpu'"):
            assert word in str(error.value)

    def test_no_cupy(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cupy", None)
        self.explained("needs CuPy", "pip install 'mpimlsys[gpu]'")

    def test_no_gpu(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cupy", strict.Namespace(0))
        self.explained("this node has no GPU")

    @pytest.mark.parametrize(
        ("name", "error"),
        [
            ("runtime.getDeviceCount", RuntimeError("cudaErrorInsufficientDriver")),
            ("nvrtc.getVersion", RuntimeError("no libnvrtc.so")),
            ("get_cublas_handle", ImportError("no libcublas.so")),
        ],
    )
    def test_no_driver_or_libraries(self, monkeypatch, name, error):
        module = strict.Namespace()

        def fail():
            raise error

        owner = functools.reduce(getattr, name.split(".")[:-1], module.cuda)
        monkeypatch.setattr(owner, name.split(".")[-1], fail)
        monkeypatch.setitem(sys.modules, "cupy", module)
        self.explained(str(error), "nvidia-smi", "mpimlsys[gpu]")

    def test_no_such_device(self):
        with pytest.raises(ConfigError, match="'cpu' or 'cuda'"):
            arrays.open_device("gpu", 0)


def test_cupy_has_what_the_stand_in_has():
    cupy = pytest.importorskip(
        "cupy", reason="CuPy is not installed (pip install cupy-cuda13x): no names were compared"
    )
    for name in strict.FUNCTIONS:
        assert callable(functools.reduce(getattr, name.split("."), cupy)), name
    for name in strict.METHODS:
        assert hasattr(cupy.ndarray, name), name
    assert callable(cupy.add.at)
    for name in ("Device", "runtime.getDeviceCount", "nvrtc.getVersion", "get_cublas_handle"):
        assert callable(functools.reduce(getattr, name.split("."), cupy.cuda)), name
    assert issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)
