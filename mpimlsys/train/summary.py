"""What a run says at its beginning and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpimlsys import __version__
from mpimlsys.context import Context
from mpimlsys.jobfile import Job
from mpimlsys.train.build import Workbench
from mpimlsys.train.report import Evaluation
from mpimlsys.train.sparse import layers_of

_SAME_CLOCK_S = 60.0


def banner(ctx: Context, bench: Workbench, threads: int) -> str:
    """Ranks, threads, model, data and folder, in a few lines."""
    job = bench.job
    nodes = f"{ctx.node_count} node{'s' * (ctx.node_count > 1)}"
    ranks = f"{_ranks(ctx)} on {nodes}"
    blas = f"{threads} BLAS thread{'s' * (threads > 1)} per rank"
    test = f", {len(bench.test):,} for the test" if bench.test is not None else ""
    batch = job.data.batch_size or len(bench.train)
    tables = [layer.table for layer in layers_of(bench.trainer.model)]
    served = sum(table.count * table.width for table in tables)
    rows = f" and {served:,} in rows at servers" if served else ""
    return "\n".join(
        [
            f"mpimlsys {__version__}: {job.job.name}, {ranks}, {blas}",
            f"  model  {job.model.name}, {bench.trainer.space.parameters.size:,} "
            f"parameters{rows}, {_numbers(job)}",
            f"  data   {job.data.source}, {len(bench.train):,} {bench.description.unit}{test}; "
            f"{batch:,} per step",
            f"  run    {job.out}",
        ]
    )


def ending(ctx: Context, job: Job, evaluation: Evaluation, result: Mapping[str, Any]) -> str:
    """The result, where it is, and what to try next."""
    part = "test" if f"test_{evaluation.measure_name}" in result else "train"
    return "\n".join(
        [
            "",
            f"{describe(evaluation, part)} after {result['steps']:,} steps; "
            f"{result['samples_per_s']:,.0f} samples/s on {_ranks(ctx)}",
            f"  checkpoint  {result['checkpoint']} ({result['checkpoints']} written; training "
            f"stood still for {result['checkpoint_stall_s']:.2f} s)",
            f"  curves      {job.out / 'curves.png'}",
            f"  metrics     {job.out / 'metrics.jsonl'}, {job.out / 'result.json'}",
            "",
            "What to try next",
            f"  mpimlsys evaluate {job.out}",
            f"  mpimlsys predict {job.out} --input FILE --output answers.csv",
            f"  {command(ctx)} {job.out}/job.toml --set job.out={job.out}-2 "
            f"--set optimizer.lr={job.optimizer.lr / 2:g}",
            f"  tensorboard --logdir {job.out}",
        ]
    )


def _numbers(job: Job) -> str:
    """What is computed with, and where."""
    precision, device = job.job.precision, job.cluster.device
    layers = f", layers in {precision}" if precision != "float32" else ""
    return f"{job.job.dtype}{layers}{', on a GPU of each' * (device == 'cuda')}"


def clock_remark(clocks: Sequence[float]) -> str:
    """What to say when the ranks' clocks differ by more than a minute, empty when they do not.

    Args:
        clocks: seconds since 1970, of each rank, read at the same moment.
    """
    offsets = [clock - clocks[0] for clock in clocks]
    rank = max(range(len(offsets)), key=lambda rank: abs(offsets[rank]))
    if abs(offsets[rank]) < _SAME_CLOCK_S:
        return ""
    return (
        f"the clock of rank {rank}'s host is {abs(offsets[rank]):.0f} s "
        f"{'ahead of' if offsets[rank] > 0 else 'behind'} that of rank 0: times in logs and limits "
        "of time will mislead. Have it set (timedatectl shows it, chronyd or ntpd keep it)."
    )


def command(ctx: Context) -> str:
    """What starts a job as this one was started."""
    ranks = ctx.world.size  # with those that serve
    return f"mpimlsys launch -n {ranks}" if ranks > 1 else "mpimlsys train"


def describe(evaluation: Evaluation, part: str) -> str:
    """``"test accuracy 98.20 %"`` or ``"train mse 21.9"``."""
    if evaluation.measure_name == "accuracy":
        return f"{part} accuracy {100 * evaluation.measure:.2f} %"
    return f"{part} {evaluation.measure_name} {evaluation.measure:.4g}"


def _ranks(ctx: Context) -> str:
    """``"4 ranks"`` or ``"3 workers and 1 server"``."""
    servers = ctx.world.size - ctx.size
    if not servers:
        return f"{ctx.size} rank{'s' * (ctx.size > 1)}"
    workers = f"{ctx.size} worker{'s' * (ctx.size > 1)}"
    return f"{workers} and {servers} server{'s' * (servers > 1)}"
