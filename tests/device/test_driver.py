"""Memory of CUDA's driver, on one that is the host's; and what is said without a driver."""

import os
import subprocess
import sys

import pytest

from mpimlsys import driver
from mpimlsys.errors import ConfigError

ROUND_TRIP = """
import numpy as np
from mpimlsys.driver import Device
device = Device(0)
values = np.arange(1000.0)
memory = device.memory(values.nbytes)
assert memory.address % 256 == 0 and memory.nbytes == values.nbytes
device.copy(memory.address, values.ctypes.data, values.nbytes)
back = np.zeros_like(values)
device.copy(back.ctypes.data, memory.address, values.nbytes)
assert np.array_equal(back, values)
memory.free()
memory.free()  # once is enough
assert device.memory(0).address
for mistake in (lambda: device.memory(2 << 20), lambda: Device(1)):
    try:
        mistake()
    except ValueError as error:
        print(error)
"""


def test_memory_of_the_driver(driver_folder):
    done = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP],
        env={**os.environ, "LD_LIBRARY_PATH": str(driver_folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "the GPU's driver: cuMemAlloc_v2 says CUDA_ERROR_OUT_OF_MEMORY (2).",
        "the GPU's driver: cuDeviceGet says CUDA_ERROR_INVALID_DEVICE (101).",
    ]


def test_no_driver_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(driver, "_LIBRARY", "libcuda-that-is-not-there.so")
    with pytest.raises(ConfigError, match=r"no driver of CUDA .* docker run --gpus all"):
        driver.Device(0)
