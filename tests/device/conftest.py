"""The stand-ins for a GPU and for CUDA's driver, compiled once."""

import subprocess
from pathlib import Path

import pytest
import standin


@pytest.fixture(scope="session")
def standin_path(tmp_path_factory):
    """The extension for GPUs with its kernels compiled for the host."""
    return standin.build(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="session")
def driver_folder(tmp_path_factory):
    """A folder with a driver of CUDA whose memory is the host's, for ``LD_LIBRARY_PATH``."""
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).with_name("host_driver.cpp")
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    library = folder / "libcuda.so.1"
    subprocess.run(["g++", *flags, source, "-o", library], check=True, timeout=100)
    return folder
