"""``mpimlsys plan JOB``: what a step costs, and what compression and more ranks would change.

Runs the job's first steps dense, on its own data, without writing anything.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from mpimlsys import context, optim
from mpimlsys.compress.auto import Decision, Measured, at_ranks, decide, table
from mpimlsys.errors import ConfigError
from mpimlsys.exchange.auto import MEASURED_AFTER, AutoExchange
from mpimlsys.jobfile import Job, ResolvedJob
from mpimlsys.train.build import OF_A_CODEC, build
from mpimlsys.train.sparse import is_sparse

_OTHER_RANKS = (2, 4, 8, 16, 32, 64)


def plan(resolved: ResolvedJob, *, as_json: bool) -> int:
    """Measure and print on rank 0; returns the exit status. Collective over the world.

    Raises:
        ConfigError: there is one rank, which exchanges nothing, or the job cannot be run or
            compressed.
    """
    job = resolved.job
    _check_can_compress(job)
    ctx = context.init(job.cluster, job.comm)
    if ctx.group.size < 2:
        raise ConfigError(
            "one rank exchanges nothing, so there is nothing to plan: "
            "mpirun -n 2 mpimlsys plan JOB, on the hosts that the job will use."
        )
    ctx.limit_blas_threads(job.job.blas_threads)
    exchange = replace(job.exchange, compress="auto", **OF_A_CODEC)
    bench = build(ctx, replace(job, exchange=exchange))
    trainer = bench.trainer
    steps = trainer.steps(bench.train, total=MEASURED_AFTER, batch_size=job.data.batch_size)
    for _ in steps:
        pass
    live = trainer.exchange
    assert isinstance(live, AutoExchange)
    assert live.decision is not None
    assert live.measured is not None
    trainer.close()
    if ctx.is_root:
        if as_json:
            print(json.dumps(_as_dict(live.measured, live.decision)))
        else:
            print("\n".join(_report(live.measured, live.decision)))
    return 0


def _check_can_compress(job: Job) -> None:
    if is_sparse(job):
        raise ConfigError(
            f"a plan is about all-reduce, and {job.model.name!r} has rows at parameter servers."
        )
    if job.exchange.kind != "allreduce":
        raise ConfigError(
            "a plan is about all-reduce: --set exchange.kind=allreduce --set cluster.servers=0."
        )
    if job.job.dtype != "float32":
        raise ConfigError(
            f"codecs compress float32, and job.dtype is {job.job.dtype!r}: there is nothing to "
            "choose from. Plan with --set job.dtype=float32."
        )
    if job.optimizer.name in optim.COMPRESSING:
        raise ConfigError(
            f"optimizer.name = {job.optimizer.name!r} compresses by itself, so no codec can be "
            "chosen beside it. Plan the dense steps with --set optimizer.name=adam."
        )


def _report(measured: Measured, decision: Decision) -> list[str]:
    link = 1 / measured.seconds_per_byte if measured.seconds_per_byte else float("inf")
    lines = [
        f"{measured.ranks} ranks: computing takes {1e3 * measured.compute_s:.3g} ms of a dense "
        f"step of {1e3 * measured.step_s:.3g} ms",
        f"link: {8e-6 * link:,.0f} Mbit/s, {1e6 * measured.latency_s:,.0f} µs per message",
        f"compress = auto would take {decision.why}",
        "",
        "predicted steps",
        *(f"  {line}" for line in table(decision)),
        "",
        "on other numbers of ranks with this link, each computing as long as now",
    ]
    for ranks in _OTHER_RANKS:
        other = decide(at_ranks(measured, ranks))
        dense_s = other.predictions[0].step_s
        best = other.chosen
        lines.append(
            f"  {ranks:>4} ranks  dense {1e3 * dense_s:9.3g} ms  "
            f"{best.codec or 'none'!s:<12} {1e3 * best.step_s:9.3g} ms"
        )
    return lines


def _as_dict(measured: Measured, decision: Decision) -> dict[str, Any]:
    return {
        "ranks": measured.ranks,
        "compute_s": measured.compute_s,
        "step_s": measured.step_s,
        "latency_s": measured.latency_s,
        "seconds_per_byte": measured.seconds_per_byte,
        "why": decision.why,
        "predictions": [
            {
                "codec": str(prediction.codec or "none"),
                "step_s": prediction.step_s,
                "sent_bytes": prediction.sent_bytes,
                "compressed_buckets": sum(prediction.compressed),
            }
            for prediction in decision.predictions
        ],
        "other_ranks": [
            {
                "ranks": ranks,
                "dense_step_s": other.predictions[0].step_s,
                "codec": str(other.chosen.codec or "none"),
                "step_s": other.chosen.step_s,
            }
            for ranks in _OTHER_RANKS
            for other in [decide(at_ranks(measured, ranks))]
        ],
    }
