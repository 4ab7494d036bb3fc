"""Emulated hosts and a Slurm for the tests of this folder, made once."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import emulated_network
import emulated_slurm
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


@pytest.fixture(scope="session")
def shared_folder():
    """A folder that all emulated hosts see, and that munge accepts: others may enter it."""
    folder = Path(tempfile.mkdtemp(prefix="mls-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def network(shared_folder):
    """Four emulated hosts with links of full speed."""
    if reason := emulated_network.missing():
        pytest.skip(f"no emulated hosts: {reason}")
    shared = emulated_network.shared_folders()
    with emulated_network.Network(shared_folder, 4, shared=shared) as network:
        yield network


@pytest.fixture(scope="session")
def slurm_daemons(network):
    """Slurm on the four hosts."""
    if reason := emulated_slurm.missing():
        pytest.skip(f"no Slurm: {reason}")
    with emulated_slurm.Slurm(network) as daemons:
        yield daemons


def _hosts(network, variables):
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=network.folder))
    hosts = Hosts(network, folder, variables)
    yield hosts
    hosts.end()


@pytest.fixture
def hosts(network):
    """:class:`Hosts` without Slurm: MPI's launchers reach the hosts by a stand-in for ssh."""
    yield from _hosts(network, network.mpi_variables())


@pytest.fixture
def cluster(network, slurm_daemons):
    """:class:`Hosts` with Slurm."""
    # ranks of several jobs share this machine's few cores
    yield from _hosts(network, {**slurm_daemons.variables, "OMPI_MCA_mpi_yield_when_idle": "1"})
