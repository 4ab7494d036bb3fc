"""A run's folder: what a run leaves on disk, and under which name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from mpimlsys.errors import ConfigError, CorruptData, nearest
from mpimlsys.train.durable import cannot_write, replace_file
from mpimlsys.train.metrics import to_json

_JOB = "job.toml"


class RunFolder:
    """The files of one run; a folder is a run when it has a ``job.toml``.

    Use :meth:`create` to train and :meth:`open` to read.

    Attributes:
        path: the folder.
        job_file: the job as resolved.
        metrics: one JSON object per step and evaluation.
        result_file: what came out.
        checkpoints: folder, unless the job names another.
        curves: picture of loss and measure.
        events: folder of the TensorBoard event files.
        stalls: reports of operations that waited too long, see docs/hangs.md.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job_file = path / _JOB
        self.metrics = path / "metrics.jsonl"
        self.result_file = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.curves = path / "curves.png"
        self.events = path / "tensorboard"
        self.stalls = path / "stalls.log"

    @classmethod
    def create(cls, path: Path, resume: bool, say: Callable[[str], None]) -> RunFolder:
        """Make the folder of a run that starts or goes on.

        A run that is there already and is not resumed is kept as ``<path>.1``, ``.2``, ...; files
        in a folder that is not a run are left alone.

        Args:
            path: the folder.
            resume: go on with the run that is there; if there is none, begin one, so that a job
                that may be requeued can always say --resume.
            say: told in one line where an earlier run was moved.

        Raises:
            ConfigError: a file in the way, the file system refuses.
        """
        run = cls(path)
        if resume and not _is_run(path):
            say(f"nothing to resume in {path}: starting the run")
        try:
            if not resume and _is_run(path):
                say(f"kept the earlier run as {_move_aside(path)}")
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error, "job.out") from error
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that is there.

        Raises:
            ConfigError: it is not a run; offers one with a similar name.
        """
        run = cls(path)
        if not _is_run(path):
            raise ConfigError(f"{path} is not a run: there is no {_JOB} in it.{_near(path)}")
        return run

    def write_job(self, toml_text: str) -> None:
        """Write the job as resolved.

        Raises:
            ConfigError: the file system refuses.
        """
        self._write(self.job_file, toml_text)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write what came out; numbers that are not finite become null.

        Raises:
            ConfigError: the file system refuses; an earlier result is untouched.
        """
        self._write(self.result_file, to_json(result, indent=1) + "\n")

    def read_job(self) -> dict[str, Any]:
        """The job as resolved, by section.

        Raises:
            CorruptData: it cannot be read.
        """
        try:
            return tomllib.loads(self.job_file.read_text())
        except (OSError, ValueError) as error:
            raise CorruptData(f"cannot read {self.job_file}: {error}") from error

    def read_result(self) -> dict[str, Any]:
        """What came out.

        Raises:
            ConfigError: the run has not finished.
            CorruptData: it cannot be read.
        """
        try:
            result = json.loads(self.result_file.read_text())
        except FileNotFoundError as error:
            raise ConfigError(
                f"{self.path} has no result yet. Go on with: mpimlsys train {self.job_file} "
                "--resume"
            ) from error
        except (OSError, ValueError) as error:
            raise CorruptData(f"cannot read {self.result_file}: {error}") from error
        if not isinstance(result, dict):
            raise CorruptData(f"cannot read {self.result_file}: it is not a JSON object")
        return result

    def _write(self, path: Path, text: str) -> None:
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise cannot_write(path, error, "job.out") from error


def _is_run(path: Path) -> bool:
    try:
        return (path / _JOB).is_file()
    except OSError:
        return False


def _move_aside(path: Path) -> Path:
    """Rename a run's folder to the first free number; a link to it stays and leads to the new."""
    real = path.resolve()
    if Path.cwd().is_relative_to(real):
        raise ConfigError(
            f"{path} holds an earlier run, which cannot be moved away while it is the current "
            "folder. Start from another folder, set job.out, or go on with --resume."
        )
    kept = next(
        candidate
        for number in count(1)
        if not (candidate := real.with_name(f"{real.name}.{number}")).exists()
    )
    real.rename(kept)
    real.mkdir()
    return path.with_name(kept.name) if path.parent.resolve() == kept.parent else kept


def _near(path: Path) -> str:
    """`` Did you mean ...?`` with a run beside it, or nothing."""
    try:
        runs = {
            folder.name
            for folder in path.parent.iterdir()
            if folder.name != path.name and _is_run(folder)
        }
    except OSError:
        return ""
    return nearest(path.name, runs) if runs else ""
