"""The processes that the doctor looks at GPUs with, on the stand-in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpimlsys.doctor.cuda import revive

HERE = Path(__file__).parent
LOOK = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
import standin
from pathlib import Path
standin.use(Path(sys.argv[2]))
runpy.run_module("mpimlsys.doctor.cuda", run_name="__main__")
"""


def test_gpus_are_described(standin_path):
    done = subprocess.run(
        [sys.executable, "-c", LOOK, HERE, standin_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = revive(json.loads(done.stdout))
    assert (found.targets, found.driver, found.runtime) == ("the host", "13.0", "13.0")
    assert [device.number for device in found.devices] == [0, 1]
    assert found.devices[0].compute_capability == (9, 0)
    assert found.mpi_failure is None


@pytest.mark.mpi
@pytest.mark.one_mpi
def test_mpi_is_given_memory_of_a_gpu(standin_path):
    done = subprocess.run(
        [sys.executable, "-c", LOOK.replace('cuda"', 'device_message"'), HERE, standin_path],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
