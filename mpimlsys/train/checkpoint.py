"""Checkpoints: ``step-0000000123/`` with the state in safetensors files and ``manifest.json``.

Several processes may write a share of the state each; one of them then commits the whole.

Guarantees:

* A folder of that name is complete: it is written elsewhere, flushed and renamed. A crash at any
  moment leaves the checkpoints that were there.
* Nothing damaged is loaded, see :mod:`mpimlsys.train.checkpoint_files`.

Refusals: one job writes to a folder at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpimlsys.errors import ConfigError, CorruptData
from mpimlsys.train.checkpoint_files import (
    Entry,
    check_size,
    read_manifest,
    read_state,
    state_name,
    write_manifest,
    write_state,
)
from mpimlsys.train.durable import cannot_write, sync_folder
from mpimlsys.train.shares import Part
from mpimlsys.types import State

_MANIFEST = "manifest.json"
_NAME = re.compile(r"step-(\d{10}|[1-9]\d{10,})")
_STAGING = re.compile(r"\.step-\d+\.(?P<host>.+)\.(?P<pid>\d+)")
_OTHER_HOST_STALE_S = 86_400.0  # whether a process of another host lives cannot be asked


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        step: steps done when it was written.
        tensors: the state; the arrays are the caller's own.
        manifest: what the writer said about its run.
        path: its folder.
    """

    step: int
    tensors: State
    manifest: dict[str, Any]
    path: Path


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` is."""
    return folder / f"step-{step:010d}"


def owner() -> str:
    """This process, as staging folders name it; see :func:`write_share`."""
    return f"{socket.gethostname()}.{os.getpid()}"


def write_share(
    folder: Path, step: int, owner: str, parts: Sequence[Part], index: int, count: int
) -> list[Entry]:
    """Write the ``index``-th of ``count`` shares where :func:`commit` expects it. Local.

    Args:
        folder: of the checkpoints; made if missing.
        step: steps done.
        owner: :func:`owner` of the process that will commit.
        parts: the share.

    Returns:
        What to give to :func:`commit`.

    Raises:
        ConfigError: the file system refuses.
        TypeError: a dtype that safetensors and NumPy do not share.
    """
    target = path_of(folder, step)
    path = _staging(target, owner) / "new" / state_name(index, count)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_state(path, parts)
    except OSError as error:
        with contextlib.suppress(OSError):  # make room where there is none left
            path.unlink()
        raise cannot_write(target, error, "checkpoint.dir") from error


def commit(
    folder: Path,
    step: int,
    files: Sequence[Sequence[Entry]],
    *,
    manifest: Mapping[str, object],
    keep: int,
) -> Path:
    """Make a checkpoint of shares that were written for this process. Local.

    Then all but the newest ``keep`` whole ones are removed. A checkpoint of the same step is
    replaced.

    Args:
        folder: of the checkpoints.
        step: steps done.
        files: of every share, what :func:`write_share` returned.
        manifest: what to remember about the run; whatever JSON can say.
        keep: at least 1.

    Returns:
        The checkpoint's folder.

    Raises:
        ConfigError: the file system refuses, or a share is not there; older checkpoints are
            untouched.
    """
    target = path_of(folder, step)
    staging = _staging(target, owner())
    try:
        try:
            new = staging / "new"
            _check_shares(new, files)
            write_manifest(new / _MANIFEST, step, files, manifest)
            sync_folder(new)
            _put_in_place(new, target, old=staging / "old")
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        sync_folder(folder.parent)  # the folder may be new
        _prune(folder, step, keep)
    except OSError as error:
        raise cannot_write(target, error, "checkpoint.dir") from error
    return target


def remove_stale(folder: Path) -> None:
    """Remove what writers that died have left. Local."""
    try:
        found = [(path, _STAGING.fullmatch(path.name)) for path in folder.iterdir()]
    except OSError:
        return  # there is no such folder yet; what else is wrong with it, writing will tell
    for path, match in found:
        if match and not _may_live(path, match["host"], int(match["pid"])):
            shutil.rmtree(path, ignore_errors=True)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check every byte of it. Local.

    Raises:
        CorruptData: a file is missing, cut short or changed; names the file and the tensor.
        ConfigError: it was written in the format of another version.
    """
    step, run, files = read_manifest(path / _MANIFEST)
    return Checkpoint(step, read_state(path, files), run, path)


def newest(folder: Path, report: Callable[[str], None]) -> Checkpoint | None:
    """Load the newest whole checkpoint, None if there is none. Local.

    Args:
        folder: of the checkpoints; may be missing.
        report: told in one line about each damaged checkpoint that is passed over.

    Raises:
        ConfigError: the folder cannot be read, or a checkpoint has another version's format.
    """
    steps = _steps(folder)
    for index, step in enumerate(steps, start=1):
        path = path_of(folder, step)
        try:
            return load(path)
        except CorruptData as error:
            reason = str(error).removeprefix(f"{path}/")
            then = "using the one before" if index < len(steps) else "there is none before it"
            report(f"checkpoint {path.name} is damaged ({reason}); {then}")
    return None


def _steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, newest first."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"cannot read the checkpoints in {folder}: {error.strerror}. Check checkpoint.dir."
        ) from error
    steps = [int(name.removeprefix("step-")) for name in names if _NAME.fullmatch(name)]
    return sorted(steps, reverse=True)


def _staging(target: Path, owner: str) -> Path:
    """Where ``target`` is prepared; see :func:`_may_live`."""
    return target.with_name(f".{target.name}.{owner}")


def _check_shares(new: Path, files: Sequence[Sequence[Entry]]) -> None:
    for index, entries in enumerate(files):
        path = new / state_name(index, len(files))
        try:
            check_size(path, entries)
        except (FileNotFoundError, CorruptData) as error:
            raise ConfigError(
                f"{path}, written by rank {index}, is not what rank 0 sees ({error}). Set "
                "checkpoint.dir to a folder that all hosts share."
            ) from error


def _put_in_place(new: Path, target: Path, *, old: Path) -> None:
    """Rename ``new`` to ``target``; what a run that was resumed finds there already is replaced."""
    if target.exists():
        if _same(new, target):
            return
        target.rename(old)
    new.rename(target)
    sync_folder(target.parent)


def _same(new: Path, target: Path) -> bool:
    """Whether ``target`` is whole and holds what ``new`` does: then it need not be touched."""
    try:
        if (new / _MANIFEST).read_bytes() != (target / _MANIFEST).read_bytes():
            return False
        load(target)
    except (OSError, CorruptData):
        return False
    return True


def _prune(folder: Path, step: int, keep: int) -> None:
    """Remove what is older than the newest ``keep`` whole ones up to ``step``."""
    kept = 0
    for found in _steps(folder):
        path = path_of(folder, found)
        if kept >= keep:
            _remove(path)
        elif found <= step and _looks_whole(path):
            kept += 1


def _remove(path: Path) -> None:
    doomed = _staging(
        path, owner()
    )  # a crash while removing leaves nothing that looks like a checkpoint
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _looks_whole(path: Path) -> bool:
    """Whether all is there, without reading the state."""
    try:
        files = read_manifest(path / _MANIFEST)[2]
        for index, entries in enumerate(files):
            check_size(path / state_name(index, len(files)), entries)
    except (OSError, CorruptData, ConfigError):
        return False
    return True


def _may_live(path: Path, host: str, pid: int) -> bool:
    if host != socket.gethostname():
        return time.time() - path.stat().st_mtime < _OTHER_HOST_STALE_S
    # a name with this process's own id is left from a process that had the id before it
    return pid != os.getpid() and Path(f"/proc/{pid}").exists()
