"""What rank 0 writes and shows while a run goes on: metrics, event files, progress, curves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from time import monotonic
from typing import Any

from mpimlsys.errors import MpimlsysError
from mpimlsys.train.build import Workbench
from mpimlsys.train.curves import draw
from mpimlsys.train.events import EventWriter
from mpimlsys.train.metrics import MetricsWriter, read_metrics
from mpimlsys.train.progress import Progress
from mpimlsys.train.report import Evaluation, StepReport
from mpimlsys.train.runfolder import RunFolder
from mpimlsys.train.summary import describe

_NOTE_S = 0.3  # between lines about epochs, which can be shorter than that
_PARTS = ("data_s", "forward_s", "backward_s", "exchange_s", "optimizer_s")


class Recorder:
    """Writes a run's records; only rank 0 has one.

    A disk that is full must not end rank 0 alone, so a failure while training is kept in
    ``failure`` for the ranks to agree on at the next step.

    Args:
        folder: the run's folder.
        bench: what the run works with; records of steps that its trainer has still to do, left by
            an earlier attempt, are dropped.
    """

    def __init__(self, folder: RunFolder, bench: Workbench) -> None:
        self.folder = folder
        self.failure: MpimlsysError | None = None
        job, steps_done = bench.job, bench.trainer.steps_done
        self._title = job.job.name
        self._noted_at = -_NOTE_S
        self._metrics = MetricsWriter(folder.metrics, resume_step=steps_done or None)
        self._events = EventWriter(folder.events, first_step=steps_done)
        self._progress = Progress(bench.description.unit)
        self._progress.start(
            total_steps=bench.total_steps, first_step=steps_done, epochs=job.job.epochs
        )

    def step(self, report: StepReport, evaluation: Evaluation | None) -> None:
        """Record one step, with the measure on the test set where an epoch ended."""
        self._progress.step(report.step, report.epoch, report.loss, report.samples)
        record: dict[str, Any] = {
            "step": report.step,
            "epoch": report.epoch,
            "loss": report.loss,
            "samples": report.samples,
            "lr": report.lr,
            "time_s": report.time_s,
            **{part: getattr(report, part) for part in _PARTS},
        }
        if report.sent_bytes is not None:
            record["sent_bytes"] = report.sent_bytes
        if report.staleness is not None:
            record["staleness"] = report.staleness
        measured = {}
        if evaluation is not None:
            measured = {
                "test_loss": evaluation.loss,
                f"test_{evaluation.measure_name}": evaluation.measure,
            }
            self._tell(report, evaluation)
        try:
            self._metrics.write(record | measured)
            self._events.step(report.step, report.loss, report.lr, report.samples / report.time_s)
            for name, value in measured.items():
                self._events.scalar(name, value, report.step)
        except MpimlsysError as error:
            self.failure = error

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json`` and ``curves.png``."""
        self.close()
        self.folder.write_result(dict(result))
        draw(read_metrics(self.folder.metrics), result, self.folder.curves, self._title)

    def close(self) -> None:
        """Flush and close the files, end the progress bar."""
        with contextlib.ExitStack() as files:  # all are closed, whichever of them fails
            files.callback(self._events.close)
            files.callback(self._metrics.close)
            files.callback(self._progress.close)

    def flush(self) -> None:
        """Hand what is held back to the system, before a checkpoint makes its steps final."""
        self._metrics.flush()

    def _tell(self, report: StepReport, evaluation: Evaluation) -> None:
        if monotonic() - self._noted_at >= _NOTE_S:
            self._noted_at = monotonic()
            self._progress.note(f"epoch {report.epoch + 1}: {describe(evaluation, 'test')}")
