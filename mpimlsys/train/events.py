"""TensorBoard event files with scalars.

The format is small and the writer is here: the library for it imports PyTorch where that is
installed, which would cost rank 0 a second and 200 MB.

Source: TFRecord (``tensorflow/core/lib/io/record_writer.h``), the messages ``Event``, ``Summary``
and ``SessionLog`` (``tensorflow/core/util/event.proto``, ``framework/summary.proto``), CRC-32C
(RFC 3720, B.4).
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mpimlsys.train.appended import AppendedFile
from mpimlsys.train.durable import cannot_write

_FLUSH_S = 2.0
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reflected
_SESSION_START = 1


class EventWriter:
    """Writes one event file; without threads.

    Args:
        folder: made if missing; every writer has a file of its own in it.
        first_step: steps done before; TensorBoard hides later ones of an earlier attempt.
        clock: seconds since 1970, for tests.

    Raises:
        ConfigError: the file system refuses, here and in all methods.
    """

    def __init__(
        self, folder: Path, first_step: int = 0, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        path = folder / (f"events.out.tfevents.{clock():.6f}.{socket.gethostname()}.{os.getpid()}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error, "job.out") from error
        self._file = AppendedFile(path, flush_s=_FLUSH_S, clock=clock)
        self._write(0, _bytes(3, b"brain.Event:2"))
        if first_step:
            self._write(first_step + 1, _bytes(7, _number(1, _SESSION_START)))
        self._file.flush()

    def step(self, step: int, loss: float, lr: float, samples_per_s: float) -> None:
        """Write what every step has."""
        self._scalars(step, {"loss": loss, "lr": lr, "samples_per_s": samples_per_s})

    def scalar(self, name: str, value: float, step: int) -> None:
        """Write one value, such as ``test_accuracy``."""
        self._scalars(step, {name: value})

    def close(self) -> None:
        """Flush and close; closing again does nothing."""
        self._file.close()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + _float32(value))
            for tag, value in values.items()
        )
        self._write(step, _bytes(5, summary))

    def _write(self, step: int, what: bytes) -> None:
        event = b"\x09" + struct.pack("<d", self._clock()) + _number(2, step) + what
        self._file.append(_record(event))


def _record(data: bytes) -> bytes:
    """Length, its checksum, the data, its checksum."""
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        return value

    return tuple(entry(value) for value in range(256))


_TABLE = _table()


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
