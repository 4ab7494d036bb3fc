"""The GPU of this process."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mpimlsys.errors import ConfigError, Timeout

_EXTENSION = "mpimlsys._native_cuda"
_SLICE_S = 0.05
_opened: dict[int, Gpu] = {}


def built() -> ModuleType | None:
    """The extension for GPUs; None where this installation was built without CUDA's compiler."""
    if _EXTENSION not in sys.modules and find_spec(_EXTENSION) is None:
        return None
    return importlib.import_module(_EXTENSION)


def gpu(number: int) -> Gpu:
    """One GPU; opened once.

    Args:
        number: as CUDA counts those that this process may see.

    Raises:
        ConfigError: it cannot be used; says why and what to do.
    """
    if number not in _opened:
        extension = built()
        if extension is None:
            raise ConfigError(
                "this installation has no kernels for GPUs: it was built without CUDA's compiler. "
                "Build it with nvcc 12.5 or newer on PATH: MPIMLSYS_CUDA=1 pip install "
                "--force-reinstall --no-deps --no-cache-dir mpimlsys."
            )
        _opened[number] = Gpu(extension.Device(number), number)
    return _opened[number]


def number_for(local_rank: int) -> int:
    """The GPU of a rank: those of the node are shared out in turn, so ranks may share one.

    Raises:
        ConfigError: there is none.
    """
    extension = built()
    if extension is None:
        return 0  # gpu() says what is missing
    count, why = extension.device_count()
    if count == 0:
        raise ConfigError(
            f"no GPU can be used on this machine: {why}. Ask the queue for one (such as sbatch "
            "--gpus-per-node=1), or compute on the CPU."
        )
    return local_rank % int(count)


class Gpu:
    """A GPU and what was made on it.

    Attributes:
        native: the extension's ``Device``; addresses and streams are integers.
        number: as CUDA counts.
    """

    def __init__(self, native: Any, number: int) -> None:
        self.native = native
        self.number = number

    @contextmanager
    def event(self, *, timed: bool = False) -> Iterator[int]:
        """An event for a while."""
        made = self.native.make_event(timed=timed)
        try:
            yield made
        finally:
            self.native.drop_event(made)

    def wait(self, event: int, timeout_s: float, what: str) -> None:
        """Return when ``event`` has happened.

        Raises:
            Timeout: it has not, after ``timeout_s``; names ``what`` is waited for.
        """
        started = time.perf_counter()
        while not self.native.wait(event, _SLICE_S):  # so that Ctrl-C is heard
            waited = time.perf_counter() - started
            if waited > timeout_s:
                raise Timeout(f"the GPU has not finished {what} after {waited:.1f} s.")
