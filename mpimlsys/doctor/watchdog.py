"""A deadline for code that may hang inside a library, where no Python thread or signal helps.

The watch is kept by another process: MPI may hold the interpreter's lock while it hangs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# ends when its input closes, which also happens when the watched process dies
_WATCH = """
import os, select, signal, sys
pid, limit, message = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
if not select.select([sys.stdin], [], [], limit)[0]:
    print(message, file=sys.stderr, flush=True)
    os.kill(pid, signal.SIGKILL)
"""


@contextmanager
def deadline(limit_s: float, message: str) -> Iterator[None]:
    """Run the body; after ``limit_s`` seconds print ``message`` and kill this process.

    Args:
        limit_s: seconds.
        message: to standard error; names the cause and the remedy.
    """
    watch = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(os.getpid()), str(limit_s), message],
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        watch.communicate()
