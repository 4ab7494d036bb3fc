"""Shared by all tests. pytest itself never starts MPI: ranks are processes of their own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import mpi4py
import pytest

from mpimlsys import config, native
from mpimlsys.launch import command, detect, local

MARK = "MPIMLSYS_TEST"  # in the environment of every rank that a test starts
PROJECT = Path(__file__).parent.parent


def pytest_configure():
    """Let children receive signals although this process was started with them ignored.

    As a shell does for what it runs in the background, and nohup.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Mark what uses MPI through a fixture; what starts it by itself bears the mark already."""
    for item in items:
        if {"extension", "mpi_launcher"} & set(item.fixturenames):
            item.add_marker(pytest.mark.mpi)


class Ranks(subprocess.Popen):
    """A launcher with its ranks; they can be ended together, although they leave its group."""

    def __init__(self, argv, mark, **options):
        self.mark = mark
        super().__init__(argv, **options)

    def kill_all(self):
        """SIGKILL to the launcher and to every rank."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        local.kill_marked(MARK, self.mark)


@pytest.fixture(scope="session")
def mpi_launcher():
    """The launcher of the MPI that mpi4py uses."""
    return detect.launcher()


@pytest.fixture
def launcher(mpi_launcher, tmp_path):
    """``launcher(n, argv, env=None, cwd=None)`` starts ``n`` ranks of ``python argv``.

    Returns a :class:`Ranks` with text pipes; whatever still runs at the end of the test is killed.
    The ranks are not bound to cores, may be more than the cores, and may be root's.
    """
    started = []
    folders = []

    def start(ranks, argv, *, env=None, cwd=None):
        mark = f"{tmp_path}/{len(started)}"
        built = command.build(
            mpi_launcher,
            [sys.executable, *map(str, argv)],
            ranks=ranks,
            cores=0,
            hosts=None,
            root=os.geteuid() == 0,
            environment=os.environ,
        )
        # a folder of its own, and short: what a killed launcher leaves in /tmp would stop a later
        # one with the same process id, and the names of sockets must not be long
        folder = tempfile.mkdtemp(prefix="mls-")
        folders.append(folder)
        variables = {**built.additions, MARK: mark, "TMPDIR": folder, **(env or {})}
        process = Ranks(
            built.argv,
            mark,
            env=local.child_environment(variables),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill_all()
        process.communicate(timeout=10)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mpirun(launcher):
    """``mpirun(n, argv, timeout_s=120, env=None, cwd=None)`` runs ``n`` ranks of ``python argv``.

    Returns a ``CompletedProcess``; fails, with the output so far, when they take longer.
    """

    def run(ranks, argv, *, timeout_s=120, env=None, cwd=None):
        process = launcher(ranks, argv, env=env, cwd=cwd)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill_all()
            out, err = process.communicate(timeout=10)
            pytest.fail(
                f"{ranks} ranks of {argv} took longer than {timeout_s} s\n"
                f"--- stdout\n{out}\n--- stderr\n{err}",
                pytrace=False,
            )
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def extension():
    """The native extension; its MPI library is loaded, but MPI does not start."""
    mpi4py.rc.initialize = False
    return native.load()


@pytest.fixture
def write_job(tmp_path):
    """``write_job(text, name="job.toml")`` writes a job file and returns its path."""

    def write(text, name="job.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="session")
def shared_data():
    """The folder of data sets that do not come with the project."""
    folder = config.environment().data_folder or PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets: {folder} does not exist; set MPIMLSYS_DATA to their folder")
    return folder
