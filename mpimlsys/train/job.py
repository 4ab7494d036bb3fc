"""Run a job: from the checked job file to a run's folder on disk. Collective over the world."""

from __future__ import annotations

import signal
from pathlib import Path
from time import monotonic, perf_counter

from mpimlsys import __version__, context
from mpimlsys.context import Context
from mpimlsys.data import steps_per_epoch
from mpimlsys.errors import ConfigError, Diverged, Interrupted, MpimlsysError
from mpimlsys.jobfile import Job, ResolvedJob
from mpimlsys.train import checkpoint
from mpimlsys.train.build import Workbench, build
from mpimlsys.train.cadence import Cadence, parse_cadence
from mpimlsys.train.recorder import Recorder
from mpimlsys.train.restore import restore
from mpimlsys.train.runfolder import RunFolder
from mpimlsys.train.signals import StopRequest
from mpimlsys.train.threads import limit_blas_threads
from mpimlsys.train.trainer import Evaluation, Intentions, StepReport, Trainer


def train(resolved: ResolvedJob, *, resume: bool = False) -> Evaluation:
    """Train a job from its first or its last saved step to its end. Collective over the world.

    Args:
        resolved: the job.
        resume: go on from the newest whole checkpoint in the run's folder.

    Returns:
        The final evaluation on the test set (on the training set where there is none).

    Raises:
        ConfigError: anything about the job, its data or its folders that cannot be used.
        Diverged: the loss is no longer finite; earlier checkpoints are kept.
        Interrupted: a signal asked to stop; a checkpoint was written.
    """
    job = resolved.job
    with StopRequest() as stop:
        cadence = parse_cadence(job.checkpoint.every)
        ctx = context.init(job.cluster, timeout_s=job.exchange.timeout_s)
        with ctx.together():
            _only_workers(job)
        threads = limit_blas_threads(ctx, job.job.blas_threads)
        bench = build(ctx, job)
        with ctx.together():
            folder = _open_folder(ctx, resolved, resume)
        if resume:
            restore(ctx, bench, job.checkpoint_dir, say=_speaker(ctx))
        if ctx.is_root:
            print(_banner(ctx, job, bench, threads), flush=True)
        run = _Run(ctx, job, bench, folder, cadence, stop)
        try:
            run.steps()
            return run.finish()
        finally:
            run.close()


class _Run:
    """The shell around the trainer's steps: records, checkpoints, evaluations, the end."""

    def __init__(
        self,
        ctx: Context,
        job: Job,
        bench: Workbench,
        folder: RunFolder | None,
        cadence: Cadence,
        stop: StopRequest,
    ) -> None:
        self.ctx, self.job, self.bench, self.folder = ctx, job, bench, folder
        self.trainer: Trainer = bench.trainer
        self.cadence, self.stop = cadence, stop
        self.saved_step = self.trainer.steps_done
        self.saved_at = monotonic()
        self.samples = 0
        self.training_s = 0.0
        self.last_loss = float("nan")
        self.failure: MpimlsysError | None = None
        self.recorder: Recorder | None = None
        with ctx.together():
            if folder is not None:
                self.recorder = Recorder(folder, bench, self.trainer.steps_done)

    def steps(self) -> None:
        """Train to the end of the job."""
        job = self.job
        steps = self.trainer.steps(
            self.bench.train,
            epochs=job.job.epochs,
            batch_size=job.data.batch_size,
            max_steps=job.job.max_steps,
            intentions=self._intentions,
        )
        started = perf_counter()
        try:
            for report in steps:
                self.training_s += perf_counter() - started
                self._after(report)
                started = perf_counter()
        except Diverged as error:
            raise self._with_checkpoint(error) from error

    def finish(self) -> Evaluation:
        """Save, evaluate, and write the result and the curves."""
        if self.saved_step != self.trainer.steps_done or self.trainer.steps_done == 0:
            self._save()
        bench = self.bench
        evaluation = self.trainer.evaluate(bench.test if bench.test is not None else bench.train)
        with self.ctx.together():
            if self.recorder is not None:
                self.recorder.finish(
                    evaluation,
                    result={
                        "steps": self.trainer.steps_done,
                        "samples_per_s": self.samples / self.training_s if self.training_s else 0.0,
                        "training_s": self.training_s,
                        "world_size": self.ctx.size,
                        "train_loss": self.last_loss,
                        "parameters": int(self.trainer.space.parameters.size),
                        "checkpoint": str(self._checkpoint_path(self.trainer.steps_done)),
                    },
                )
        return evaluation

    def close(self) -> None:
        """Stop what runs in the background."""
        if self.recorder is not None:
            self.recorder.close()
        self.trainer.close()

    def _intentions(self) -> Intentions:
        if self.recorder is not None:
            self.failure = self.failure or self.recorder.failure
        checkpoint = False
        if self.ctx.is_root:
            step = self.trainer.steps_done + 1
            per_epoch = steps_per_epoch(len(self.bench.train), self.job.data.batch_size)
            epochs, rest = divmod(step, per_epoch)
            checkpoint = self.cadence.due(
                elapsed_s=monotonic() - self.saved_at,
                steps_done=step,
                epochs_done=0 if rest else epochs,
            )
        return Intentions(self.stop.signal_number, checkpoint, self.failure)

    def _after(self, report: StepReport) -> None:
        self.samples += report.samples
        self.last_loss = report.loss
        if self.recorder is not None:
            self.recorder.step(report)
        if report.checkpoint or report.stop_signal:
            self._save()
        if report.stop_signal:
            raise self._interrupted(report.stop_signal)
        if report.epoch_end and self.bench.test is not None:
            evaluation = self.trainer.evaluate(self.bench.test)
            if self.recorder is not None:
                self.recorder.evaluation(report, evaluation)

    def _save(self) -> None:
        trainer, job = self.trainer, self.job
        with self.ctx.together():
            if self.ctx.is_root:
                checkpoint.save(
                    job.checkpoint_dir,
                    step=trainer.steps_done,
                    tensors=trainer.state_dict() | self.bench.description.tensors(),
                    manifest=self.bench.manifest(),
                    keep=job.checkpoint.keep,
                )
        self.saved_step, self.saved_at = trainer.steps_done, monotonic()

    def _checkpoint_path(self, step: int) -> Path:
        return checkpoint.path_of(self.job.checkpoint_dir, step)

    def _interrupted(self, number: int) -> Interrupted:
        assert number
        return Interrupted(
            f"stopped by {signal.Signals(number).name} after step {self.trainer.steps_done}; "
            f"saved in {self._checkpoint_path(self.trainer.steps_done)}. Go on with: "
            f"mpimlsys train {self.job.out / 'job.toml'} --resume",
            number,
        )

    def _with_checkpoint(self, error: Diverged) -> Diverged:
        if not self.saved_step:
            return Diverged(f"{error} No checkpoint had been written.")
        return Diverged(
            f"{error} The last good checkpoint is {self._checkpoint_path(self.saved_step)}."
        )


def _only_workers(job: Job) -> None:
    if job.cluster.servers or job.cluster.server_ranks:
        raise ConfigError(
            "cluster.servers: training with parameter servers is not available yet; set it to 0."
        )


def _open_folder(ctx: Context, resolved: ResolvedJob, resume: bool) -> RunFolder | None:
    if not ctx.is_root:
        return None
    folder = RunFolder.create(resolved.job.out, resume=resume, say=_speaker(ctx))
    folder.write_job(resolved.to_toml())
    return folder


def _speaker(ctx: Context):  # type: ignore[no-untyped-def]
    return print
