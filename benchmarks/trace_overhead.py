"""What a trace costs: blocks of training steps with it and without it, in turn, in one run.

    mpirun -n 2 python benchmarks/trace_overhead.py examples/mnist_cnn.toml

The order of the two blocks of a pair is drawn; the result is the median of the pairs' ratios, with
the interval that holds it in 95 of 100 draws of as many pairs (bootstrap).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import numpy as np

from mpimlsys import context
from mpimlsys.jobfile import load_job
from mpimlsys.timeline.record import LIMIT
from mpimlsys.train.build import build

_WARMUP = 20


def main() -> int:
    """Measure and print; collective over the world."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10, help="of a block (10)")
    options = parser.parse_args()

    steps = _WARMUP + 2 * options.pairs * options.steps
    job = load_job(options.job, [f"job.max_steps={steps}", "job.epochs=1000000"]).job
    ctx = context.init(job.cluster, job.comm)
    ctx.limit_blas_threads(job.job.blas_threads)
    bench = build(ctx, job)
    reports = bench.trainer.steps(bench.train, total=steps, batch_size=job.data.batch_size)
    rng = np.random.default_rng(0)  # the same order on all ranks
    for _ in range(_WARMUP):
        next(reports)
    times: dict[bool, list[float]] = {False: [], True: []}
    events = 0
    for _ in range(options.pairs):
        for traced in rng.permutation([False, True]).tolist():
            if traced:
                ctx.trace.start(LIMIT)
            times[traced].append(sum(next(reports).time_s for _ in range(options.steps)))
            if traced:
                ctx.trace.stop()
                events = len(ctx.trace.records()[0])
    bench.trainer.close()
    if ctx.is_root:
        ratios = np.array(times[True]) / np.array(times[False])
        drawn = rng.choice(ratios, (2000, len(ratios)))
        low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
        step_ms = 1e3 * median(times[False]) / options.steps
        print(
            f"{options.job}, {ctx.size} ranks, {options.pairs} pairs of blocks of "
            f"{options.steps} steps; a step without the trace takes {step_ms:.2f} ms\n"
            f"{events / options.steps:.0f} events per step and rank; with the trace "
            f"{100 * (median(ratios) - 1):+.2f} % "
            f"(95 %: {100 * (low - 1):+.2f} to {100 * (high - 1):+.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
