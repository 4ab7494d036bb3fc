"""What the doctor makes of the processes that look at GPUs."""

import dataclasses
import json
import signal

import pytest

from mpimlsys.doctor.cuda import failure, revive
from mpimlsys.doctor.facts import Cuda, Device


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (0, "a warning", ""),
        (None, "", "no answer in time"),
        (-signal.SIGSEGV, "half a trace", "it died of SIGSEGV"),
        (-99, "", "it died of signal 99"),
        (1, "Traceback\nConfigError: no memory\n-----\n", "ConfigError: no memory"),
        (3, "", "exit status 3"),
    ],
)
def test_how_a_child_failed(status, said, expected):
    assert failure(status, said) == expected


def test_facts_survive_json():
    devices = (Device(0, "a", 1, (9, 0), (1,)), Device(1, "b", 2, (8, 6)))
    for found in (Cuda(), Cuda("CUDA 13.0: sm_80", "", "13.0", "12.9", devices, "14.0", "no")):
        assert revive(json.loads(json.dumps(dataclasses.asdict(found)))) == found
