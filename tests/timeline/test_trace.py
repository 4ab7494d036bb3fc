"""A trace of ranks that are processes: whole, nested, with clocks that agree."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
from trace_file import check_nested, complete, load, waits

pytestmark = pytest.mark.mpi

COLLECTIVES = """
import sys
import numpy as np
import mpimlsys as mls

ctx = mls.init()
with mls.trace(sys.argv[1]):
    for algorithm in ("shared", "ring", "doubling", "halving", "hierarchical", "mpi"):
        mls.allreduce(np.ones(100_000, np.float32), algorithm=algorithm)
    mls.allreduce(np.ones(3))
    mls.allreduce_async(ctx.empty(100_000), op="sum").wait()
    mls.allgather(np.ones(9))
    mls.broadcast(np.ones(100_000), root=1)
    mls.alltoall(np.ones((ctx.size, 5)))
    mls.barrier()
"""
PHASES = {
    "ring": {"reduce-scatter", "all-gather"},
    "doubling": {"exchange"},
    "halving": {"exchange"},
    "shared": {"reduce and spread"},
    "mpi": set(),
}


def inside(outer, events):
    """Names of what happened meanwhile on the same thread."""
    end = outer["ts"] + outer["dur"]
    return {
        e["name"]
        for e in events
        if e is not outer and e["tid"] == outer["tid"] and outer["ts"] <= e["ts"] < end
    }


def check_met(content, ranks, error_us=0):
    """Nobody leaves an all-reduce before all have come; told by clocks that agree."""
    wholes = [
        [e for e in complete(content, rank) if e["name"] == "all-reduce" and e["tid"] == 1]
        for rank in range(ranks)
    ]
    for same in zip(*wholes, strict=True):
        assert len({e["args"]["number"] for e in same}) == 1
        assert max(e["ts"] for e in same) <= min(e["ts"] + e["dur"] for e in same) + 2 * error_us


def test_every_collective_of_every_rank_is_there_with_its_phases(mpirun, tmp_path):
    script, file = tmp_path / "script.py", tmp_path / "trace.json"
    script.write_text(COLLECTIVES)
    done = mpirun(3, [script, file])
    assert done.returncode == 0, done.stderr
    assert "events of 3 ranks; open it at ui.perfetto.dev" in done.stdout
    content = load(file)
    check_nested(content)
    ranks = content["otherData"]["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1, 2]
    for rank in ranks:
        events = complete(content, rank["rank"])
        assert rank["events_dropped"] == 0
        assert rank["events"] == len(events) + len(waits(content, rank["rank"]))
        for name, phases in PHASES.items():
            taken = [e for e in events if e["name"] == name]
            assert any(phases <= inside(e, events) for e in taken)
        whole = [e for e in events if "bytes" in e.get("args", {}) and "all-" in e["name"]]
        assert {"all-reduce", "all-gather", "all-to-all"} <= {e["name"] for e in whole}
        assert all(inside(e, events) & {"meeting", "agreement"} for e in whole)
        (wait,) = waits(content, rank["rank"])
        assert wait[0]["name"] == "all-reduce"
    check_met(content, ranks=3)


APART = (
    """
import os
import sys
from mpimlsys import config

command = ["unshare", "--fork", "--kill-child", "--time", "--monotonic", "5000"]
if config.environment().rank_hint == 1 and "APART" not in os.environ:
    os.environ["APART"] = "1"
    os.execvp(command[0], [*command, sys.executable, *sys.argv])
"""
    + COLLECTIVES
)
_UNSHARE = ["unshare", "--fork", "--time", "--monotonic", "5000", "true"]


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(_UNSHARE, capture_output=True, timeout=20).returncode != 0,
    reason="needs to be root on Linux 5.6 or newer, to give a process another clock",
)
def test_clocks_that_differ_are_aligned(mpirun, tmp_path):
    script, file = tmp_path / "script.py", tmp_path / "trace.json"
    script.write_text(APART)
    done = mpirun(2, [script, file])
    assert done.returncode == 0, done.stderr
    content = load(file)
    check_nested(content)
    first, second = content["otherData"]["ranks"]
    assert first["clock_offset_us"] == [0, 0]
    assert [round(us / 1e6) for us in second["clock_offset_us"]] == [-5000, -5000]
    check_met(content, ranks=2, error_us=second["clock_error_us"])


def launch(job, *options):
    command = [sys.executable, "-m", "mpimlsys", "launch", "-n", "2", str(job), *map(str, options)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def job(tmp_path, write_job):
    return write_job(
        f"[job]\nout = '{tmp_path / 'run'}'\nmax_steps = 6\nepochs = 1000\n[model]\nname = 'cnn'\n"
    )


def test_a_run_has_the_parts_of_its_steps(job, tmp_path):
    file = tmp_path / "trace.json.gz"
    process = launch(job, "--trace", file)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert f"trace {file}: " in out
    content = load(file)
    check_nested(content)
    tracks = {
        (e["pid"], e["args"]["name"])
        for e in content["traceEvents"]
        if e["name"] == "thread_name"
    }  # fmt: skip
    for rank in (0, 1):
        assert {(rank, "main"), (rank, "exchange")} <= tracks
        events = complete(content, rank)
        steps = [e for e in events if e["name"] == "step"]
        assert [e["args"]["number"] for e in steps] == [1, 2, 3, 4, 5, 6]
        parts = {"data", "forward", "backward", "exchange", "optimizer"}
        assert all(parts <= inside(step, events) for step in steps)
        assert {"evaluation", "copy checkpoint"} <= {e["name"] for e in events}
        buckets = [e for e in events if "of bucket" in e["name"]]
        pairs = waits(content, rank)
        assert len(buckets) == len(pairs) >= len(steps)
        for (queued, begun), bucket in zip(pairs, buckets, strict=True):
            assert queued["name"] == begun["name"] == bucket["name"]
            assert queued["ts"] <= begun["ts"] <= bucket["ts"]
    named = [e for e in content["traceEvents"] if e["name"] == "process_name"]
    assert [e["args"]["name"].split(" (")[0] for e in named] == ["rank 0", "rank 1"]


def test_a_run_that_is_asked_to_stop_writes_its_trace(job, tmp_path):
    file = tmp_path / "trace.json"
    process = launch(job, "--trace", file, "--set", "job.max_steps=0")
    deadline = time.monotonic() + 60
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert f"trace {file}: " in out
    content = load(file)
    check_nested(content)
    assert complete(content, 0)
    assert complete(content, 1)


MISTAKES = """
import sys
from pathlib import Path
import numpy as np
import mpimlsys as mls
from mpimlsys.errors import ConfigError

folder = Path(sys.argv[1])
ctx = mls.init()

def message(path, act=lambda: None, kind=ConfigError):
    try:
        with mls.trace(path):
            act()
    except kind as error:
        return str(error)
    raise AssertionError("no error")

def again():
    with mls.trace(folder / "second.json"):
        pass

def crash():
    raise KeyError("crash")

with mls.trace(folder / "short.json", limit=4):
    for _ in range(5):
        mls.allreduce(np.ones(3))
assert not ctx.trace.on
assert "No such file" in message(folder / "none" / "trace.json")
assert "recorded already" in message(folder / "first.json", again)
assert "crash" in message(folder / "crash.json", crash, KeyError)
assert not ctx.trace.on
with mls.trace(str(folder / "empty.json")):
    pass
"""


def test_bounds_and_mistakes(mpirun, tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "traces"
    folder.mkdir()
    script.write_text(MISTAKES)
    done = mpirun(2, [script, folder])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["empty.json", "short.json"]
    for rank in load(folder / "short.json")["otherData"]["ranks"]:
        assert rank["events"] == 4
        assert rank["events_dropped"] > 0
    assert "short.json: 8 events of 2 ranks; " in done.stdout
    assert " later ones found no room; open it at" in done.stdout
    content = load(folder / "empty.json")
    assert [rank["events"] for rank in content["otherData"]["ranks"]] == [0, 0]


def test_a_file_that_cannot_be_written_is_told_before_training(job, tmp_path):
    process = launch(job, "--trace", tmp_path / "none" / "trace.json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count("cannot write the trace") == 1
    assert "epoch 1" not in out
