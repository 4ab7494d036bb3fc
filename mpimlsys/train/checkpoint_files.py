"""The two files of a checkpoint: the state as safetensors, and the manifest that vouches for it.

Guarantees:

* Every byte of both is under a checksum: reading what was changed in any way is ``CorruptData``.
* No pickle, and no parser meets the state file: its header is computed anew from the manifest and
  compared. Any safetensors reader opens the file.
* Arrays are streamed: writing copies none that is contiguous, reading holds each once.

Refusals: dtypes that safetensors and NumPy do not share.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys import __version__
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train.durable import write_file
from mpimlsys.types import Array

_FORMAT = 1

# safetensors' names of the dtypes, little-endian
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip
_CODES = {np.dtype(text): code for code, text in _DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """One tensor of the state file; a list of them is in the file's order.

    Attributes:
        name: of the tensor.
        dtype: as safetensors calls it, such as ``"F32"``.
        shape: empty for a single number.
        sha256: of the bytes, in hexadecimal.
    """

    name: str
    dtype: str
    shape: list[int]
    sha256: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(_DTYPES[self.dtype]).itemsize


def write_state(path: Path, tensors: Mapping[str, Array]) -> list[Entry]:
    """Write the state file and wait until the disk has it.

    Raises:
        OSError: the file system refuses.
        TypeError: a dtype that safetensors and NumPy do not share.
    """
    entries, views = [], []
    # wide elements first, so that each tensor is aligned for readers that map the file
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        dtype = value.dtype.newbyteorder("<")
        if dtype not in _CODES:
            raise TypeError(f"tensor {name!r} has dtype {value.dtype}, which cannot be saved")
        view = _bytes_of(np.ascontiguousarray(value, dtype))
        digest = hashlib.sha256(view).hexdigest()
        entries.append(Entry(name, _CODES[dtype], list(value.shape), digest))
        views.append(view)
    with path.open("wb") as file:
        file.write(_header(entries))
        for view in views:
            file.write(view)
        file.flush()
        os.fsync(file.fileno())
    return entries


def read_state(path: Path, entries: Sequence[Entry]) -> Iterator[tuple[str, Array]]:
    """Names and tensors of the state file, each checked before it is handed out.

    Raises:
        CorruptData: the file is not the one that ``entries`` describe.
    """
    try:
        with path.open("rb") as file:
            check_size(path, entries)
            header = _header(entries)
            if file.read(len(header)) != header:
                raise CorruptData(f"{path}: its header is not the one that the manifest describes")
            for entry in entries:
                tensor = np.empty(entry.shape, _DTYPES[entry.dtype])
                view = _bytes_of(tensor)
                file.readinto(view)
                if hashlib.sha256(view).hexdigest() != entry.sha256:
                    raise CorruptData(f"{path}: tensor {entry.name!r} fails its checksum")
                yield entry.name, tensor
    except OSError as error:
        raise CorruptData(f"{path}: {error.strerror}") from error


def check_size(path: Path, entries: Sequence[Entry]) -> None:
    """Compare the length of the state file with what ``entries`` add up to.

    Raises:
        CorruptData: it differs.
        OSError: there is no such file.
    """
    size, expected = path.stat().st_size, len(_header(entries)) + sum(e.nbytes for e in entries)
    if size != expected:
        raise CorruptData(f"{path}: has {size:,} bytes instead of {expected:,}")


def write_manifest(
    path: Path, step: int, entries: Sequence[Entry], run: Mapping[str, object]
) -> None:
    """Write the manifest and wait until the disk has it.

    Args:
        path: of the manifest.
        step: steps done.
        entries: of the state file.
        run: what to remember about the run; whatever JSON can say.

    Raises:
        OSError: the file system refuses.
    """
    body = {
        "format": _FORMAT,
        "mpimlsys": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "step": step,
        "run": dict(run),
        "tensors": [asdict(entry) for entry in entries],
    }
    write_file(path, seal(body))


def seal(body: Mapping[str, object]) -> bytes:
    """JSON with the checksum of what stands above it as the last field."""

    def text(fields: Mapping[str, object]) -> bytes:
        return json.dumps(fields, indent=1, allow_nan=False).encode() + b"\n"

    return text({**body, "checksum": hashlib.sha256(text(body)).hexdigest()})


def read_manifest(path: Path) -> tuple[int, dict[str, Any], list[Entry]]:
    """The step, what the writer said about the run, and the tensors.

    Raises:
        CorruptData: it is not what was written.
        ConfigError: it was written in the format of another version.
    """
    try:
        raw = path.read_bytes()
        body = json.loads(raw)
        body.pop("checksum")
        # compared as bytes: also what means the same to a JSON parser must not have changed
        whole = seal(body) == raw
    except OSError as error:
        raise CorruptData(f"{path}: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise CorruptData(f"{path}: is not a manifest") from error
    if not whole:
        raise CorruptData(f"{path}: fails its checksum")
    if body.get("format") != _FORMAT:
        raise ConfigError(
            f"{path.parent} was written by mpimlsys {body.get('mpimlsys')} in format "
            f"{body.get('format')}; this is {__version__}, which reads format {_FORMAT}. Install "
            "that version."
        )
    try:
        entries = [_checked(Entry(**fields)) for fields in body["tensors"]]
        return int(body["step"]), dict(body["run"]), entries
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptData(f"{path}: lacks a field that a manifest has") from error


def _header(entries: Sequence[Entry]) -> bytes:
    """The head of the state file.

    Source: the safetensors format: length (8 bytes, little-endian), JSON padded with spaces.
    """
    fields, start = {}, 0
    for entry in entries:
        stop = start + entry.nbytes
        fields[entry.name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _checked(entry: Entry) -> Entry:
    """The entry, if NumPy can hold such an array; ValueError if not."""
    shape = entry.shape
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or len(shape) > 32 or math.prod(size or 1 for size in shape) >= 1 << 60:
        raise ValueError(f"shape {shape}")
    if entry.dtype not in _DTYPES or not isinstance(entry.name, str):
        raise ValueError(f"tensor {entry.name} of dtype {entry.dtype}")
    return entry
