"""A real launcher with real ranks: exit status, signals, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpimlsys.launch.local import kill_marked, remove_unused, segments, verdict

pytestmark = pytest.mark.mpi

USR1 = 128 + signal.SIGUSR1

# `launch` with another program in the place of training: what launch.run does, step by step
LAUNCH = """
import os, sys
from mpimlsys.launch import command, detect, local
built = command.build(detect.launcher(), [sys.executable, *sys.argv[2:]], ranks=2, cores=0,
                      hosts=None, root=os.geteuid() == 0, environment=os.environ)
raise SystemExit(local.run(built, grace_s=float(sys.argv[1])))
"""

# a rank that does what training does: MPI, a stop at the next step, a report of rank 0
RANK = """
import json, os, signal, sys, time
from mpi4py import MPI
what, folder = sys.argv[1:3]
world = MPI.COMM_WORLD
assert world.size == 2
received = []
stubborn = what == "stubborn"
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: received.append(number))
open(f"{folder}/pid-{world.rank}", "w").write(str(os.getpid()))
world.barrier()
open(f"{folder}/ready-{world.rank}", "w").close()
if what == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "silent":
    sys.exit(0)
if what in ("wait", "stubborn"):
    end = time.monotonic() + 60
    while time.monotonic() < end and (stubborn or not received):
        time.sleep(0.02)
    open(f"{folder}/stopped-{world.rank}", "w").write(" ".join(map(str, received)))
status = 128 + received[0] if received else int(what)
world.barrier()
if world.rank == 0:
    with open(os.environ["MPIMLSYS_OUTCOME"], "w") as file:
        json.dump({"status": status}, file)
sys.exit(status)
"""


@pytest.fixture
def launch(tmp_path):
    """Start LAUNCH on RANK; the caller waits. Killed at the end of the test."""
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    started = []

    def start(what, grace_s=30.0):
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(grace_s), str(script), what, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MPIMLSYS_TEST": str(tmp_path)},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    kill_marked("MPIMLSYS_TEST", str(tmp_path))
    for process in started:
        process.communicate(timeout=10)


def wait_for(*paths, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, f"{paths} did not appear"
        time.sleep(0.02)


def assert_ranks_are_gone(folder):
    for rank in (0, 1):
        pid = (folder / f"pid-{rank}").read_text()
        stat = Path("/proc") / pid / "stat"
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("status", [0, 2, 7])
def test_the_exit_status_is_what_rank_0_reports(launch, tmp_path, status):
    process = launch(str(status))
    out, err = process.communicate(timeout=90)
    assert process.returncode == status, err
    shown = out.splitlines()[0]
    assert shown.startswith("$ ")
    assert shown.endswith(f"{tmp_path}/rank.py {status} {tmp_path}")
    assert_ranks_are_gone(tmp_path)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, USR1)]
)
def test_a_signal_reaches_every_rank_and_is_the_exit_status(launch, tmp_path, number, status):
    process = launch("wait")
    wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    for rank in (0, 1):
        assert (tmp_path / f"stopped-{rank}").read_text() == str(int(signal.SIGUSR1))
    assert "stopping after this step" in err
    assert_ranks_are_gone(tmp_path)


def test_nohup_is_respected(launch, tmp_path):
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = launch("wait")
    finally:
        signal.signal(signal.SIGHUP, previous)
    wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_second_ctrl_c_kills(launch, tmp_path):
    process = launch("stubborn")
    wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    process.send_signal(signal.SIGINT)
    assert "\n" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "the job was killed before it could stop by itself" in err
    assert_ranks_are_gone(tmp_path)


def test_the_grace_time_ends(launch, tmp_path):
    process = launch("stubborn", grace_s=0.5)
    wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert_ranks_are_gone(tmp_path)


def test_a_killed_rank_is_a_lost_job(launch, tmp_path):
    process = launch("crash")
    _, err = process.communicate(timeout=60)
    assert process.returncode in (137, 9, 255), err  # Open MPI, MPICH, Intel MPI
    assert "the job was lost: it ended (" in err
    assert "before rank 0 could report." in err
    assert_ranks_are_gone(tmp_path)


def test_no_report_is_no_success(launch):
    process = launch("silent")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "the job was lost: it ended (exit status 0) before rank 0 could report." in err


@pytest.fixture
def shared_files(tmp_path):
    """``(path, path, path, process)``: two files of MPI and one of the user; the first and the last
    are mapped by the process, which bears the mark of this test.
    """
    names = ("sm_segment.test", "mpich_shm_test", "data-of-the-user")
    used, unused, own = (Path(f"/dev/shm/{name}.{os.getpid()}") for name in names)
    for path in (used, unused, own):
        path.write_bytes(b"x" * 4096)
    map_both = (
        "import mmap, sys, time\n"
        "files = [open(name, 'r+b') for name in sys.argv[1:]]\n"
        "maps = [mmap.mmap(file.fileno(), 0) for file in files]\n"
        "print('mapped', flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", map_both, used, own],
        env={**os.environ, "MPIMLSYS_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"mapped\n"
    yield used, unused, own, process
    process.kill()
    process.communicate(timeout=10)
    for path in (used, unused, own):
        path.unlink(missing_ok=True)


def test_what_killed_ranks_leave_in_shared_memory_is_removed(shared_files, tmp_path):
    used, unused, own, process = shared_files
    kill_marked("MPIMLSYS_TEST", str(tmp_path))
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL
    assert not used.exists()
    assert unused.exists()
    assert own.exists()


def test_what_nobody_uses_in_shared_memory_is_removed(shared_files):
    used, unused, own, _ = shared_files
    found = segments()
    assert {used, unused} <= found
    assert own not in found
    remove_unused({used, unused})
    assert used.exists()
    assert not unused.exists()


@pytest.mark.parametrize(
    ("reported", "launcher", "stop", "killed", "status"),
    [
        (0, 0, 0, False, 0),
        (2, 2, 0, False, 2),
        (0, 1, 0, False, 0),  # the launcher itself stumbled after the job was done
        (2, 0, 0, False, 2),
        (USR1, USR1, signal.SIGINT, False, 130),
        (USR1, USR1, signal.SIGTERM, False, 143),
        (USR1, USR1, 0, False, USR1),  # somebody sent the ranks a signal themselves
        (0, 0, signal.SIGINT, False, 0),  # it was done before the signal arrived
        (2, 2, signal.SIGINT, False, 2),
        (USR1, -signal.SIGKILL, signal.SIGINT, True, 130),  # saved, then slow to end
        (None, -signal.SIGUSR1, signal.SIGINT, False, 130),
        (None, -signal.SIGKILL, signal.SIGHUP, True, 129),
        (None, -signal.SIGSEGV, 0, False, 139),
        (None, 139, 0, False, 139),
        (None, 3, 0, False, 3),
        (None, 0, 0, False, 1),
    ],
)
def test_verdicts(reported, launcher, stop, killed, status):
    found, remark = verdict(reported, launcher, stop, killed)
    assert found == status
    assert bool(remark) == (reported is None)
