"""How many threads a rank's matrix products use."""

from __future__ import annotations

import threadpoolctl

from mpimlsys import config
from mpimlsys.context import Context


def limit_blas_threads(ctx: Context, requested: int) -> int:
    """Set and return the BLAS threads of this rank.

    Args:
        ctx: knows the cores that the rank need not share.
        requested: ``job.blas_threads``; 0 takes the user's ``OMP_NUM_THREADS`` or its like, or
            else the rank's cores.
    """
    threads = requested or config.environment().blas_threads or ctx.cores
    threadpoolctl.threadpool_limits(threads, user_api="blas")
    return threads
