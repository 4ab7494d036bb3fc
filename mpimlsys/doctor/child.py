"""Looks that may crash or hang, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from mpimlsys.launch.local import child_environment


def run(module: str, timeout_s: float) -> tuple[int | None, str, str]:
    """Run a module of this package as a program.

    Returns:
        Its exit status, None where it was stopped after ``timeout_s`` seconds; what it wrote to
        standard output, and to standard error.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            env=child_environment({}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, "", ""
    return done.returncode, done.stdout, done.stderr
