"""Commands of a test on emulated hosts, and what is left of them."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from emulated_network import HEAD

from mpimlsys.launch import local

MARK = "MPIMLSYS_TEST"  # in the environment of every process that a test starts
BIN = Path(sys.prefix) / "bin"


class Hosts:
    """Runs commands of one test on emulated hosts.

    Attributes:
        folder: of the test; all hosts see it.
        variables: that every command gets.
    """

    def __init__(self, network, folder, variables):
        self.network = network
        self.folder = folder
        path = f"{BIN}:{os.environ['PATH']}"
        self.variables = {**variables, "PATH": path, MARK: str(folder)}

    def start(self, argv, *, host=HEAD, variables=None, cwd=None):
        """A ``Popen`` with text pipes."""
        everything = {**self.variables, **(variables or {})}
        command = self.network.command(host, argv, variables=everything, cwd=cwd or self.folder)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def run(self, argv, *, timeout_s=120, **where):
        """A ``CompletedProcess``; fails, with the output so far, when it takes longer."""
        process = self.start(argv, **where)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.end()
            out, err = process.communicate(timeout=10)
            pytest.fail(f"{argv} took longer than {timeout_s} s\n{out}\n{err}", pytrace=False)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def mpimlsys(self, *arguments, timeout_s=120, **where):
        """Run ``mpimlsys ARGUMENTS``, which must succeed; returns its output."""
        done = self.run(["mpimlsys", *arguments], timeout_s=timeout_s, **where)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def processes(self):
        """Commands of this test that still run, on whatever host."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for process in Path("/proc").iterdir():
            with suppress(OSError):
                if process.name.isdigit() and mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" "))
        return found

    def nothing_left(self, within_s=10.0):
        """Whether all processes of the test end in time."""
        deadline = time.monotonic() + within_s
        while left := self.processes():
            if time.monotonic() > deadline:
                return left
            time.sleep(0.1)
        return []

    def end(self):
        """Kill what still runs."""
        local.kill_marked(MARK, str(self.folder))
