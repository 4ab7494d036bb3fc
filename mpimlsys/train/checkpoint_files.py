"""The files of a checkpoint: the state as safetensors, and the manifest that vouches for it.

The state is one file, or one of each rank that wrote a share; a tensor that lies in several is
called ``name[first:last]`` in each, as a range of its elements in row-major order.

Guarantees:

* Every byte is under a checksum: reading what was changed in any way is ``CorruptData``.
* No pickle, and no parser meets a state file: its header is computed anew from the manifest and
  compared. Any safetensors reader opens the files.
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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from mpimlsys import __version__
from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train.durable import write_file
from mpimlsys.train.shares import Part
from mpimlsys.types import Array, State

_FORMAT = 2

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
    """One tensor of a state file, or a part of one; a list of them is in the file's order.

    Attributes:
        name: of the tensor.
        dtype: as safetensors calls it, such as ``"F32"``.
        shape: of the whole tensor; empty for a single number.
        first, count: the range of its elements that is in this file.
        sha256: of the bytes, in hexadecimal.
    """

    name: str
    dtype: str
    shape: list[int]
    first: int
    count: int
    sha256: str

    @property
    def nbytes(self) -> int:
        return self.count * np.dtype(_DTYPES[self.dtype]).itemsize

    @property
    def is_whole(self) -> bool:
        return self.count == math.prod(self.shape)


def state_name(index: int, count: int) -> str:
    """The name of the ``index``-th of ``count`` state files."""
    return "state.safetensors" if count == 1 else f"state-{index + 1:05}-of-{count:05}.safetensors"


def write_state(path: Path, parts: Sequence[Part]) -> list[Entry]:
    """Write a state file and wait until the disk has it.

    Args:
        path: of the file.
        parts: what to write.

    Raises:
        OSError: the file system refuses.
        TypeError: a dtype that safetensors and NumPy do not share.
    """
    entries, views = [], []
    for part in parts:
        dtype = part.values.dtype.newbyteorder("<")
        if dtype not in _CODES:
            raise TypeError(f"tensor {part.name!r} has dtype {dtype}, which cannot be saved")
        view = _bytes_of(np.ascontiguousarray(part.values, dtype))
        digest = hashlib.sha256(view).hexdigest()
        shape, count = list(part.shape), part.values.size
        entries.append(Entry(part.name, _CODES[dtype], shape, part.first, count, digest))
        views.append(view)
    with path.open("wb") as file:
        file.write(_header(entries))
        for view in views:
            file.write(view)
        file.flush()
        os.fsync(file.fileno())
    return entries


def read_state(folder: Path, files: Sequence[Sequence[Entry]]) -> State:
    """The tensors of all state files in ``folder``, each byte checked.

    Raises:
        CorruptData: a file is not the one that its entries describe.
    """
    tensors: State = {}
    paths = [folder / state_name(index, len(files)) for index in range(len(files))]
    try:
        for path, entries in zip(paths, files, strict=True):
            check_size(path, entries)  # of all, before memory is taken for any
        for path, entries in zip(paths, files, strict=True):
            with path.open("rb") as file:
                _read_file(file, entries, tensors)
    except OSError as error:
        raise CorruptData(f"{path}: {error.strerror}") from error
    return tensors


def check_size(path: Path, entries: Sequence[Entry]) -> None:
    """Compare the length of a state file with what its ``entries`` add up to.

    Raises:
        CorruptData: it differs.
        OSError: there is no such file.
    """
    size, expected = path.stat().st_size, len(_header(entries)) + sum(e.nbytes for e in entries)
    if size != expected:
        raise CorruptData(f"{path}: has {size:,} bytes instead of {expected:,}")


def write_manifest(
    path: Path, step: int, files: Sequence[Sequence[Entry]], run: Mapping[str, object]
) -> None:
    """Write the manifest and wait until the disk has it.

    Args:
        path: of the manifest.
        step: steps done.
        files: the entries of each state file.
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
        "files": [[asdict(entry) for entry in entries] for entries in files],
    }
    write_file(path, seal(body))


def seal(body: Mapping[str, object]) -> bytes:
    """JSON with the checksum of what stands above it as the last field."""

    def text(fields: Mapping[str, object]) -> bytes:
        return json.dumps(fields, indent=1, allow_nan=False).encode() + b"\n"

    return text({**body, "checksum": hashlib.sha256(text(body)).hexdigest()})


def read_manifest(path: Path) -> tuple[int, dict[str, Any], list[list[Entry]]]:
    """The step, what the writer said about the run, and the entries of each state file.

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
        files = [[_checked(Entry(**fields)) for fields in entries] for entries in body["files"]]
        _check_complete(files)
        return int(body["step"]), dict(body["run"]), files
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptData(f"{path}: lacks a field that a manifest has") from error


def _read_file(file: BufferedReader, entries: Sequence[Entry], tensors: State) -> None:
    header = _header(entries)
    if file.read(len(header)) != header:
        raise CorruptData(f"{file.name}: its header is not the one that the manifest describes")
    for entry in entries:
        if entry.name not in tensors:
            tensors[entry.name] = np.empty(entry.shape, _DTYPES[entry.dtype])
        flat = tensors[entry.name].reshape(-1)
        view = _bytes_of(flat[entry.first : entry.first + entry.count])
        file.readinto(view)
        if hashlib.sha256(view).hexdigest() != entry.sha256:
            raise CorruptData(f"{file.name}: tensor {entry.name!r} fails its checksum")


def _header(entries: Sequence[Entry]) -> bytes:
    """The head of a state file.

    Source: the safetensors format: length (8 bytes, little-endian), JSON padded with spaces.
    """
    fields, start = {}, 0
    for entry in entries:
        stop = start + entry.nbytes
        part = f"[{entry.first}:{entry.first + entry.count}]"
        fields[entry.name + ("" if entry.is_whole else part)] = {
            "dtype": entry.dtype,
            "shape": entry.shape if entry.is_whole else [entry.count],
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
    if not all(type(number) is int and number >= 0 for number in (entry.first, entry.count)):
        raise ValueError(f"range {entry.first}, {entry.count}")
    return entry


def _check_complete(files: Sequence[Sequence[Entry]]) -> None:
    """ValueError, unless the pieces of each tensor follow one another from its start to its end."""
    if not files:
        raise ValueError("no files")
    seen: dict[str, tuple[Entry, int]] = {}
    for entry in (entry for entries in files for entry in entries):
        begun, end = seen.get(entry.name, (entry, 0))
        alike = (entry.dtype, entry.shape) == (begun.dtype, begun.shape)
        if not alike or entry.first != end or (entry.name in seen and not entry.count):
            raise ValueError(f"pieces of {entry.name}")
        seen[entry.name] = (entry, end + entry.count)
    for entry, end in seen.values():
        if end != math.prod(entry.shape):
            raise ValueError(f"pieces of {entry.name}")
