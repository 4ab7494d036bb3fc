"""The extension for GPUs itself, where it was built and there is no GPU: it loads and says so."""

import subprocess
import sys

import pytest

# in a process of its own, as others may have loaded the stand-in
ASK = """
from mpimlsys.device import built
extension = built()
if extension is None:
    raise SystemExit
print(extension.targets)
count, why = extension.device_count()
print(count)
print(why)
"""
USE = """
from mpimlsys.device import built, gpu
from mpimlsys.device.gpu import number_for
from mpimlsys.errors import ConfigError
for use in (lambda: built().Device(0), lambda: gpu(0), lambda: number_for(0)):
    try:
        use()
    except ConfigError as error:
        print(error)
"""


def python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def asked():
    told = python(ASK)
    if not told:
        pytest.skip("the extension for GPUs was not built: there was no nvcc")
    return told


def test_it_loads_without_a_gpu(asked):
    targets, count, *why = asked
    assert targets.startswith("CUDA ")
    assert "sm_" in targets
    assert int(count) >= 0
    assert bool(why[0]) == (int(count) == 0)


def test_its_use_without_a_gpu_is_one_clear_error(asked):
    if int(asked[1]) > 0:
        pytest.skip("there is a GPU: benchmarks/gpu_check.py tries it")
    opened, kept, numbered = python(USE)
    assert opened == kept
    assert opened.startswith("there is no GPU to use: ")
    assert numbered.startswith("no GPU can be used on this machine: ")
    assert asked[2] in opened
    assert asked[2] in numbered
