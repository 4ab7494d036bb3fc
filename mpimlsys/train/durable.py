"""Files that survive a crash: a reader finds the old content or the new, never a part of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mpimlsys.errors import ConfigError

_REMEDIES = {
    errno.ENOSPC: "Make room there",
    errno.EDQUOT: "Make room in your quota",
    errno.EEXIST: "Move the file that is in its place",
    errno.ENOTDIR: "Move the file that is in place of the folder",
}


def replace_file(path: Path, content: bytes) -> None:
    """Give ``path`` new content at once, flushed to the disk.

    Raises:
        OSError: the file system refuses; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_file(temporary, content)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it.

    Raises:
        OSError: the file system refuses.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in ``folder``.

    Raises:
        OSError: the file system refuses.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError, setting: str) -> ConfigError:
    """What to tell the user when the file system refuses.

    Args:
        path: what was to be written.
        error: the refusal.
        setting: the job's key that chooses another place.
    """
    remedy = _REMEDIES.get(error.errno or 0, "Make its folder writable")
    return ConfigError(
        f"cannot write {path}: {error.strerror or error}. {remedy}, or set {setting} to another "
        "place. What was saved before is kept."
    )
