"""What one array of a GPU keeps between compressed all-reduces, in the GPU's memory.

The same as the extension's ``Compressor`` keeps on the host, under the same names, so that a
checkpoint of one device goes on on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpimlsys.device.division import Division
from mpimlsys.device.gpu import Gpu
from mpimlsys.device.memory import Memory
from mpimlsys.types import Array

_FLOAT = 4  # bytes
_WAIT_S = 300.0


class GpuCompressor:
    """State and settings of one array.

    Args:
        gpu: where the array is.
        stream: of the operations that change the state.
        count: elements of the array.
        parts: (start, length) of what is compressed, ascending; the rest travels as it is.
        matrices: (start, rows, columns) of what ``power_sgd`` factorises.
        momentum: of the gradients before they are compressed.
        clip_norm: largest norm of a rank's share of the array, 0 for no limit.
        feedback: ``"none"``, ``"classic"`` or ``"ef21"``.
        pattern: ``"auto"``, ``"gather"``, ``"owners"``, ``"ring"`` or ``"balanced"``.
        seed: of this array, the same on all ranks.

    Attributes:
        sent_bytes, messages: of this rank in the last exchange.
        error: ``|C(y) - y|^2 / |y|^2`` of it; negative where it was not measured.
        cut: how owners have cut the array; None before any have.
        reserved: whether all ranks have the memory that every exchange needs.
    """

    def __init__(
        self,
        gpu: Gpu,
        stream: int,
        count: int,
        *,
        parts: Sequence[tuple[int, int]],
        matrices: Sequence[tuple[int, int, int]] = (),
        feedback: str = "none",
        momentum: float = 0.0,
        clip_norm: float = 0.0,
        pattern: str = "auto",
        seed: int = 0,
    ) -> None:
        self.count, self.parts, self.matrices = count, tuple(parts), tuple(matrices)
        self.compressed = sum(length for _, length in self.parts)
        self.feedback, self.pattern, self.seed = feedback, pattern, seed
        self.momentum, self.clip_norm = momentum, clip_norm
        self.sent_bytes = self.messages = 0
        self.error = -1.0
        self.reserved = False
        self._gpu, self._stream = gpu, stream
        self.cut: Division | None = None
        self._kept: dict[str, tuple[Memory, int]] = {}
        self._packed: Memory | None = None

    def reserve(self) -> None:
        """Make what every exchange between ranks needs, or fail before anything was changed."""
        carried = self.count - self.compressed
        if carried:
            self.packed()
        if self.momentum and carried:
            self.kept("carried", carried)
        if self.feedback == "none" or not self.compressed:
            return
        self.kept("residual", self.compressed)
        if self.momentum:
            self.kept("velocity", self.compressed)
        if self.feedback == "ef21":
            self.kept("estimate", self.compressed)

    def packed(self) -> Memory:
        """Room for the whole array, what is compressed before what is not."""
        if self._packed is None:
            self._packed = Memory(self._gpu, self.count * _FLOAT, self._stream)
        return self._packed

    def accumulate(self, name: str, x: int, count: int) -> int:
        """Let momentum take ``count`` gradients in; the address of what it makes of them."""
        own = self.kept(name, count)
        m = np.float32(self.momentum)
        fresh = np.float32(1) - m if self.feedback == "ef21" else np.float32(1)
        self._gpu.native.blend(count, float(m), own, float(fresh), x, own, stream=self._stream)
        return own

    def carry_on(self, x: int, count: int) -> None:
        """Put what momentum makes of a sum in its place, of elements that are not compressed."""
        if self.momentum and count:
            own = self.accumulate("carried", x, count)
            self._gpu.native.copy(x, own, count * _FLOAT, stream=self._stream)

    def kept(self, name: str, count: int) -> int:
        """The address of ``count`` float32 that are kept; zeros where others were kept before."""
        if name not in self._kept or self._kept[name][1] != count:
            self._kept[name] = (Memory(self._gpu, count * _FLOAT, self._stream), count)
        return self._kept[name][0].address

    def has(self, name: str) -> int:
        """How many float32 are kept under a name."""
        return self._kept[name][1] if name in self._kept else 0

    def state(self) -> dict[str, Array]:
        """Copies on the host of what is kept, by name."""
        found = {}
        for name, (memory, count) in self._kept.items():
            if count == 0:
                continue
            found[name] = np.empty(count, np.float32)
            self._copy(found[name].ctypes.data, memory.address, found[name].nbytes)
        if self.cut is not None:
            found["cut"] = np.array((self.cut.pattern, self.cut.granule), np.float32)
        return found

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take such a state over, or that of the extension's compressor."""
        cut = state.get("cut")
        self.cut = None if cut is None else Division(int(cut[0]), int(cut[1]))
        self._kept.clear()
        for name in ("residual", "velocity", "carried", "owned", "estimate", "basis"):
            value = np.ascontiguousarray(state.get(name, ()), np.float32)
            if value.size:
                self._copy(self.kept(name, value.size), value.ctypes.data, value.nbytes)

    def _copy(self, into: int, source: int, nbytes: int) -> None:
        native = self._gpu.native
        with self._gpu.event() as copied:
            native.copy(into, source, nbytes, stream=self._stream)
            native.record(copied, self._stream)
            self._gpu.wait(copied, _WAIT_S, "copying what compression keeps")
