"""Ranks that are late, stopped, or somewhere else are reported, and nothing hangs."""

import os
import re

import pytest

pytestmark = pytest.mark.mpi

# whoever reads from `told` is late until the first report has been written
BEGIN = """
import ctypes, os, signal, sys, time
import numpy as np, mpimlsys as mls

told = os.open({told!r}, os.O_RDWR)

class Listened:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        self.stream.write(text)
        if "no progress" in text:
            os.write(told, b"!")
    def flush(self):
        self.stream.flush()

sys.stderr = Listened(sys.stderr)
ctx = mls.init(comm=mls.CommSection(stall_warning_s={stall}, timeout_s={timeout}))
mls.allreduce(np.ones(3))
"""


@pytest.fixture
def script(tmp_path):
    """``script(body, stall=1, timeout=30)`` writes a program."""

    def write(body, *, stall=1, timeout=30):
        path, told = tmp_path / "script.py", tmp_path / "told"
        os.mkfifo(told)
        path.write_text(BEGIN.format(told=str(told), stall=stall, timeout=timeout) + body)
        return path

    return write


def reports_in(done):
    """Every report of a run, whole."""
    return re.findall(r"mpimlsys: no progress.*?\(comm\.timeout_s\)\.", done.stderr, re.DOTALL)


def seconds(text):
    """A duration as errors tell it, with three digits: never less than it was set to be."""
    return float(re.search(r"after (\S+) s", text)[1])


def test_a_late_rank_is_reported_once_and_the_job_goes_on(mpirun, script):
    body = """
def load_shard():
    os.read(told, 1)
if ctx.rank == 1:
    load_shard()
mls.allreduce(np.ones((4, 5), np.float32))
print("went on", flush=True)
"""
    done = mpirun(3, [script(body)], timeout_s=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("went on") == 3
    (report,) = reports_in(done)
    assert re.search(r"in all-reduce #\d+, float32 \(4, 5\), among ranks 0-2", report)
    assert "ranks 0, 2: waiting" in report
    assert re.search(
        r"rank 1 \(.*, pid \d+\): not arrived; ended all-reduce #\d+, float64 \(3,\)", report
    )
    assert re.search(r"script\.py:\d+ in load_shard", report)


@pytest.mark.one_mpi
def test_no_report_when_all_is_well(mpirun, script):
    body = """
end = time.monotonic() + 2.5
more = np.ones(1)
while more[0]:
    more[0] = time.monotonic() < end
    mls.allreduce(more, "min")
    mls.allreduce_async(np.ones(5)).wait()
"""
    done = mpirun(3, [script(body)], timeout_s=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stopped_rank_is_reported_and_the_job_ends(mpirun, script):
    body = """
if ctx.rank == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
mls.allreduce(np.ones(4))
"""
    done = mpirun(3, [script(body, stall=0.5, timeout=4)], timeout_s=60)
    assert done.returncode != 0
    (report, *_) = reports_in(done)
    assert re.search(r"rank 1 .* is stopped .*'kill -CONT \d+'", report)
    error = re.search(r"Timeout: all-reduce #\d+ on rank [02] after .*", done.stderr)
    assert seconds(error[0]) >= 4


@pytest.mark.one_mpi
def test_a_rank_that_holds_the_lock_is_reported_with_its_stack(mpirun, script):
    body = """
def hold_the_lock():
    ctypes.PyDLL(None).read(told, ctypes.create_string_buffer(1), 1)
if ctx.rank == 1:
    hold_the_lock()
mls.allreduce(np.ones(4))
"""
    done = mpirun(2, [script(body, stall=0.5)], timeout_s=60)
    assert done.returncode == 0, done.stderr
    (report, *_) = reports_in(done)
    assert "does not let Python's other threads run" in report
    assert "in hold_the_lock" in report


@pytest.mark.one_mpi
def test_operations_in_different_order_are_reported_as_such(mpirun, script):
    body = """
works = [lambda: mls.allreduce(np.ones(3)), lambda: mls.allreduce_async(np.ones(5)).wait()]
for work in works if ctx.rank else works[::-1]:
    work()
"""
    done = mpirun(2, [script(body, stall=1.5, timeout=2.8)], timeout_s=60)
    assert done.returncode != 0
    (report,) = reports_in(done)
    assert re.search(
        r"no progress for \d+ s in all-reduce #1, float64 \(5,\), in the background", report
    )
    assert re.search(
        r"for \d+ s in all-reduce #\d+, float64 \(3,\), among ranks 0-1, which waits for rank 0",
        report,
    )
    assert "must call their operations in the same order" in report


def test_all_ranks_get_the_timeout_of_the_first(mpirun, script):
    body = """
if ctx.rank == 1:
    time.sleep(1.5)
if ctx.rank == 2:
    time.sleep(3)
try:
    mls.allreduce(np.ones(4))
except mls.errors.Timeout as error:
    print(f"rank {ctx.rank}: {error}", flush=True)
time.sleep(2)  # others may still have to hear of it
"""
    done = mpirun(3, [script(body, stall=0, timeout=2)], timeout_s=60)
    assert reports_in(done) == []
    # a launcher may run lines of several ranks together
    told = sorted(re.findall(r"rank \d: .*?no answer(?=\n|rank \d: )", done.stdout))
    assert len(told) == 3, done.stdout + done.stderr
    first = told[0].removeprefix("rank 0: ")
    assert re.fullmatch(
        r"all-reduce #\d+ on rank 0 after \S+ s: receive from rank 2: no answer", first
    )
    assert seconds(first) >= 2
    assert f"rank 0 gave up: {first}" in told[1]
    assert f"rank 0 gave up: {first}" in told[2]


@pytest.mark.one_mpi
def test_a_training_run_keeps_the_report(mpirun, tmp_path, write_job):
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from mpimlsys import context, nn\n"
        "log = Path('run/stalls.log')\n"
        "class Slow(nn.Linear):\n"
        "    def forward(self, inputs, phase):\n"
        "        if phase.training and context.current().rank == 1:\n"
        "            while not log.exists() or 'Slow.forward' not in log.read_text():\n"
        "                time.sleep(0.02)\n"
        "        return super().forward(inputs, phase)\n"
        "def build(*args, **options):\n"
        "    model = nn.Sequential(Slow(13, 1))\n"
        "    model.loss = nn.MSELoss()\n"
        "    return model\n"
    )
    job = write_job(
        f"[job]\nout = '{tmp_path}/run'\nmax_steps = 1\n[data]\nsource = 'boston'\n"
        "standardise = true\ntargets = 'numbers'\n"
        "[model]\nname = 'slow:build'\n[comm]\nstall_warning_s = 1\n"
    )
    done = mpirun(2, ["-m", "mpimlsys", "train", job], cwd=tmp_path, timeout_s=60)
    assert done.returncode == 0, done.stderr
    # kernels that have to be compiled first may take long enough for another one
    (report,) = [report for report in reports_in(done) if "in Slow.forward" in report]
    assert "of bucket 0" in report
    assert report in (tmp_path / "run" / "stalls.log").read_text()
