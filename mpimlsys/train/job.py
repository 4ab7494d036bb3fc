"""Run a job: from the checked job file to a run's folder on disk. Collective over the world."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np

from mpimlsys import config, context, ps, timeline
from mpimlsys.context import Context
from mpimlsys.data import steps_per_epoch
from mpimlsys.errors import ConfigError, Diverged, Interrupted, MpimlsysError
from mpimlsys.jobfile import Job, ResolvedJob
from mpimlsys.train import checkpoint, summary
from mpimlsys.train.build import Workbench, build
from mpimlsys.train.cadence import Cadence, parse_cadence
from mpimlsys.train.recorder import Recorder
from mpimlsys.train.report import Evaluation, Intentions, StepReport
from mpimlsys.train.restore import restore
from mpimlsys.train.runfolder import RunFolder
from mpimlsys.train.saver import Saver
from mpimlsys.train.signals import StopRequest
from mpimlsys.train.timelimit import should_stop


def train(
    resolved: ResolvedJob, *, resume: bool = False, trace: Path | None = None
) -> Evaluation | None:
    """Train a job from its first or its last saved step to its end. Collective over the world.

    Args:
        resolved: the job.
        resume: go on from the newest whole checkpoint in the run's folder.
        trace: file of a timeline of all ranks, see :func:`mpimlsys.trace`.

    Returns:
        The final evaluation on the test set, on the training set where there is none; None on a
        rank that was a parameter server.

    Raises:
        ConfigError: anything about the job, its data or its folders that cannot be used.
        Diverged: the loss is no longer finite; earlier checkpoints are kept.
        Interrupted: a signal asked to stop; a checkpoint was written.
    """
    job = resolved.job
    with StopRequest() as stop:
        world = context.init(job.cluster, job.comm)
        with world.together():  # also with ranks that could not read the job file, see cli.py
            _check_roles(job)
            cadence = parse_cadence(job.checkpoint.every)
        if world.role == "server":
            ps.serve(ctx=world)
            return None
        ctx = world.among_peers()
        say = _say if ctx.is_root else _silent
        clocks = ctx.gather(np.array([time.time()]))[:, 0]
        if remark := summary.clock_remark(clocks.tolist()):
            say(f"warning: {remark}")
        ctx.limit_blas_threads(job.job.blas_threads)
        try:
            bench = build(ctx, job)
        except MpimlsysError as error:
            if error.on_all_ranks:
                ps.decline(world, f"the workers have failed: {error}")
            raise
        try:
            return _trained(ctx, bench, resolved, cadence, stop, say, resume, trace)
        finally:
            bench.trainer.close()  # servers wait for that


def _trained(
    ctx: Context,
    bench: Workbench,
    resolved: ResolvedJob,
    cadence: Cadence,
    stop: StopRequest,
    say: Callable[[str], None],
    resume: bool,
    trace: Path | None,
) -> Evaluation:
    """Train what was built. Collective over the workers."""
    job = resolved.job
    folder = None
    with ctx.together():
        if ctx.is_root:
            folder = RunFolder.create(job.out, resume, say)
            _check_checkpoints(job, resume)
            folder.write_job(resolved.to_toml())
    ctx.log_stalls(RunFolder(job.out).stalls)
    if resume:
        restore(ctx, bench, job.checkpoint_dir, say)
    threads = ctx.limit_blas_threads(job.job.blas_threads)
    say(summary.banner(ctx, bench, threads))
    run = _Run(ctx, bench, folder, cadence, stop, say)
    try:
        with nullcontext() if trace is None else timeline.trace(trace):
            run.steps()
            evaluation = run.finish()
    except Diverged as error:
        raise Diverged(f"{error} {run.last_checkpoint()}") from error
    finally:
        run.close()
    say(summary.ending(ctx, job, evaluation, run.result))
    return evaluation


class _Run:
    """The shell around the trainer's steps: records, checkpoints, evaluations, the end."""

    def __init__(
        self,
        ctx: Context,
        bench: Workbench,
        folder: RunFolder | None,
        cadence: Cadence,
        stop: StopRequest,
        say: Callable[[str], None],
    ) -> None:
        self._ctx, self._bench, self._job, self._trainer = ctx, bench, bench.job, bench.trainer
        self._cadence, self._stop, self._say = cadence, stop, say
        self._begun_at = monotonic()
        self._ends_at = float(config.environment().slurm_end_time or "inf")
        self._out_of_time = self._due = False
        self._samples, self._training_s, self._loss = 0, 0.0, float("nan")
        self._evaluation: Evaluation | None = None
        self._recorder: Recorder | None = None
        self.result: dict[str, Any] = {}
        with ctx.together():
            if folder is not None:
                self._recorder = Recorder(folder, bench)
        job = bench.job
        steps_done = bench.trainer.steps_done
        self._saver = Saver(ctx, job.checkpoint_dir, keep=job.checkpoint.keep, step=steps_done)

    def steps(self) -> None:
        """Train to the end of the job."""
        job = self._job
        steps = self._trainer.steps(
            self._bench.train,
            total=self._bench.total_steps,
            batch_size=job.data.batch_size,
            intentions=self._intentions,
        )
        started = perf_counter()
        for report in steps:
            self._training_s += perf_counter() - started
            self._after(report)
            started = perf_counter()

    def finish(self) -> Evaluation:
        """Save, evaluate, write the result and the curves. Collective."""
        trainer, bench = self._trainer, self._bench
        if self._saver.begun_step != trainer.steps_done or not trainer.steps_done:
            self._save()
        self._saver.finish()
        part = "train" if bench.test is None else "test"
        evaluation = self._evaluation or trainer.evaluate(bench.test or bench.train)
        self.result = {
            f"{part}_{evaluation.measure_name}": evaluation.measure,
            f"{part}_loss": evaluation.loss,
            "last_loss": self._loss,
            "steps": trainer.steps_done,
            "epochs": trainer.steps_done / self._per_epoch(),
            "samples_per_s": self._samples / self._training_s if self._training_s else 0.0,
            "training_s": self._training_s,
            "world_size": self._ctx.size,
            "parameters": int(trainer.space.parameters.size),
            "checkpoint": str(self._path()),
            "checkpoints": self._saver.count,
            "checkpoint_stall_s": self._saver.stall_s,
        }
        with self._ctx.together():
            if self._recorder is not None:
                self._recorder.finish(self.result)
        return evaluation

    def last_checkpoint(self) -> str:
        """A sentence on what is saved. Collective."""
        self._saver.finish()
        if not self._saver.saved_step:
            return "No checkpoint had been written."
        return f"The last good checkpoint is {self._path()}."

    def close(self) -> None:
        """Stop what runs in the background."""
        if self._recorder is not None:
            self._recorder.close()
        self._saver.close()
        self._trainer.close()

    def _intentions(self) -> Intentions:
        stop = self._stop.signal_number
        failure = self._saver.failure
        if self._recorder is not None:  # rank 0
            failure = failure or self._recorder.failure
            epochs, rest = divmod(self._trainer.steps_done + 1, self._per_epoch())
            elapsed = monotonic() - self._begun_at
            # until it is saved, as a wish may be heard some steps later, or not at all
            self._due = self._due or self._cadence.due(
                elapsed_s=elapsed,
                steps_done=self._trainer.steps_done + 1,
                epochs_done=0 if rest else epochs,
            )
            self._out_of_time = should_stop(
                left_s=self._ends_at - time.time(),
                due=self._due,
                interval_s=elapsed,
                saving_s=self._saver.longest_s,
            )
            if self._out_of_time:
                stop = stop or signal.SIGUSR1
        return Intentions(stop, self._due, self._saver.written, failure)

    def _after(self, report: StepReport) -> None:
        self._samples += report.samples
        self._loss = report.loss
        self._evaluation = None
        for line in self._trainer.exchange.news():
            self._say(line)
        if report.epoch_end and self._bench.test is not None:
            self._evaluation = self._trainer.evaluate(self._bench.test)
        if self._recorder is not None:
            self._recorder.step(report, self._evaluation)
        if report.written:
            self._saver.commit()
        if report.checkpoint or report.stop_signal:
            self._save()
        if report.stop_signal:
            self._saver.finish()
            why = f"on request ({signal.Signals(report.stop_signal).name})"
            if self._out_of_time:  # only rank 0 knows, and speaks
                why = "because the allocation's time is nearly over"
            raise Interrupted(
                f"stopped {why} after step "
                f"{report.step}; saved in {self._path()}. Go on with: "
                f"{summary.command(self._ctx)} {self._job.out}/job.toml --resume",
                report.stop_signal,
            )

    def _save(self) -> None:
        trainer = self._trainer
        trainer.settle()
        trainer.check_finite()
        with self._ctx.together():
            if self._recorder is not None:  # rank 0
                self._recorder.flush()
        tensors = trainer.state_dict() | self._bench.description.tensors()
        own = trainer.own_state_dict()
        self._saver.begin(trainer.steps_done, tensors, self._bench.manifest(), own)
        self._begun_at = monotonic()
        self._due = False

    def _path(self) -> Path:
        return checkpoint.path_of(self._job.checkpoint_dir, self._saver.saved_step)

    def _per_epoch(self) -> int:
        return steps_per_epoch(len(self._bench.train), self._job.data.batch_size)


def _check_roles(job: Job) -> None:
    servers = bool(job.cluster.servers or job.cluster.server_ranks)
    if servers and job.exchange.kind != "ps":
        raise ConfigError(
            f"cluster.servers is set, and exchange.kind = {job.exchange.kind!r} leaves servers "
            "without work; set exchange.kind = 'ps', or cluster.servers = 0."
        )
    if not servers and job.exchange.kind == "ps":
        raise ConfigError(
            "exchange.kind = 'ps' needs parameter servers: set cluster.servers to 1 or more."
        )


def _check_checkpoints(job: Job, resume: bool) -> None:
    """A new run must not find checkpoints of another one, which it would later resume from."""
    if not resume and any(job.checkpoint_dir.glob("step-*")):
        raise ConfigError(
            f"checkpoint.dir {job.checkpoint_dir} holds checkpoints of an earlier run; name "
            "another folder, or go on with --resume."
        )


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    """Ranks other than 0 say nothing."""
