"""Looks at the GPUs as CUDA shows them to this process, and gives MPI memory of one.

Each in a process of its own, which may crash or hang without harm. Run as a program it prints what
it found as JSON.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import signal
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from mpimlsys.device import built
from mpimlsys.doctor import child
from mpimlsys.doctor.facts import Cuda, Device
from mpimlsys.errors import ConfigError

_LOOK_S = 60.0
_MESSAGE_S = 60.0
_EXTENSION = "mpimlsys._native_cuda"
_MESSAGE = "mpimlsys.doctor.device_message"


def look(*, message: bool) -> Cuda:
    """The GPUs and the extension for them; starts nothing where that was not built.

    Args:
        message: also start MPI in a child and give it memory of the first GPU. Not for a process
            that a launcher started, whose children MPI would take for ranks.
    """
    if find_spec(_EXTENSION) is None:
        return Cuda()
    status, out, err = child.run(__name__, _LOOK_S)
    reason = failure(status, err)
    if reason:
        return Cuda(targets="unknown", error=f"looking for them failed: {reason}")
    found = revive(json.loads(out.splitlines()[-1]))
    if not found.devices or not message:
        return found
    status, _, err = child.run(_MESSAGE, _MESSAGE_S)
    return dataclasses.replace(found, mpi_failure=failure(status, err))


def revive(told: Mapping[str, Any]) -> Cuda:
    """What JSON made of a :class:`Cuda`, as it was. Pure."""
    devices = []
    for one in told["devices"]:
        lists = {name: tuple(one[name]) for name in ("compute_capability", "peers")}
        devices.append(Device(**{**one, **lists}))
    return Cuda(**{**told, "devices": tuple(devices)})


def failure(status: int | None, said: str) -> str:
    """Why a child failed, in words; empty where it did not. Pure.

    Args:
        status: how it ended: as ``subprocess`` has it, None where it was stopped after its time.
        said: what it wrote to standard error.
    """
    if status == 0:
        return ""
    if status is None:
        return "no answer in time"
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"it died of {names.get(-status, f'signal {-status}')}"
    lines = [line.strip() for line in said.splitlines() if line.strip(" -")]
    return lines[-1] if lines else f"exit status {status}"


def _cupy() -> str:
    for name in ("cupy-cuda13x", "cupy-cuda12x", "cupy"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _version(number: int) -> str:
    """13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _found() -> Cuda:
    extension = built()
    if extension is None:
        return Cuda()
    count, why = extension.device_count()
    if count == 0:
        return Cuda(targets=extension.targets, error=why)
    devices = []
    driver = runtime = ""
    for number in range(count):
        try:
            about = extension.Device(number).info()
        except ConfigError as error:
            return Cuda(targets=extension.targets, error=str(error))
        driver, runtime = _version(about["driver"]), _version(about["runtime"])
        devices.append(
            Device(
                number=number,
                name=about["name"],
                memory_bytes=about["memory_bytes"],
                compute_capability=tuple(about["compute_capability"]),
                peers=tuple(about["peers"]),
            )
        )
    return Cuda(targets=extension.targets, driver=driver, runtime=runtime, devices=tuple(devices))


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(_found())), flush=True)
