"""Which compiler the kernels for GPUs are built with, and what is said where there is none."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build_backend"))

import cuda_compiler

NVCC = """#!/bin/sh
case "$*" in
*--version*) echo "Cuda compilation tools, release VERSION, V0" ;;
*--dryrun*) echo "#$ TOP=FOLDER" >&2 ;;
*) echo "gpu.cu(1): error: no" >&2; exit 2 ;;
esac
"""


@pytest.fixture
def nvcc(tmp_path, monkeypatch):
    """``nvcc(version)`` puts such a compiler on PATH, which fails at every source."""
    for name in ("MPIMLSYS_CUDA", "NVCC", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def made(version, *, library=True):
        path = tmp_path / "nvcc"
        path.write_text(NVCC.replace("VERSION", version).replace("FOLDER", str(tmp_path)))
        path.chmod(0o755)
        (tmp_path / "lib").mkdir(exist_ok=True)
        if library:
            (tmp_path / "lib" / "libcudart_static.a").touch()

    return made


def test_none_is_needed(nvcc):  # noqa: ARG001 nothing is on PATH
    assert cuda_compiler.find() is None


def test_one_on_path_is_found(nvcc, tmp_path):
    nvcc("13.0")
    found = cuda_compiler.find()
    assert (found.version, found.library_dir) == ((13, 0), str(tmp_path / "lib"))
    assert found.targets == "sm_80, sm_90, compute_90"


def test_it_can_be_left_out(nvcc, monkeypatch):
    nvcc("13.0")
    monkeypatch.setenv("MPIMLSYS_CUDA", "0")
    assert cuda_compiler.find() is None


@pytest.mark.parametrize(
    ("version", "library", "told"),
    [
        ("", True, "install CUDA's compiler"),
        ("11.8", True, "is of CUDA 11.8; 12.5 is needed"),
        ("13.0", False, "no libcudart_static.a"),
    ],
)
def test_what_is_demanded_and_not_there_is_one_error(nvcc, monkeypatch, version, library, told):
    if version:
        nvcc(version, library=library)
        assert cuda_compiler.find() is None
    monkeypatch.setenv("MPIMLSYS_CUDA", "1")
    with pytest.raises(SystemExit, match=told):
        cuda_compiler.find()


def test_a_compiler_that_is_named_must_be_there(nvcc, monkeypatch):  # noqa: ARG001
    monkeypatch.setenv("NVCC", "/nowhere/nvcc")
    with pytest.raises(SystemExit, match="there is no /nowhere/nvcc"):
        cuda_compiler.find()


def test_a_compiler_that_fails_leaves_the_kernels_out(nvcc, monkeypatch, tmp_path, capfd):
    nvcc("13.0")
    found = cuda_compiler.find()
    arguments = (Path("gpu.cu"), tmp_path / "build" / "gpu.o", [])
    assert not found.compile(*arguments)
    assert "built without kernels for GPUs" in capfd.readouterr().err
    monkeypatch.setenv("MPIMLSYS_CUDA", "1")
    with pytest.raises(SystemExit, match="fails at"):
        found.compile(*arguments)
