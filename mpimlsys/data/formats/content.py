"""The bytes of a file, uncompressed."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from mpimlsys.errors import ConfigError, CorruptData

_GZIP = b"\x1f\x8b"


def read_bytes(path: Path, limit: int = 0) -> bytes:
    """The content of a file; gzip is recognised by its first bytes.

    Args:
        path: a file.
        limit: read at most this many bytes (uncompressed); 0 for all.

    Raises:
        ConfigError: the file cannot be opened.
        CorruptData: the gzip stream is damaged or cut short.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            if not compressed:
                return file.read(limit or -1)
            with gzip.open(file) as stream:
                return stream.read(limit or -1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorruptData(f"{path} is damaged: {error}. Fetch it again.") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}.") from error
