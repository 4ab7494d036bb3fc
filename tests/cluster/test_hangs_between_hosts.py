"""A rank on another host that is stopped, and a host that cannot be reached any more."""

import os
import re
import sys
import threading

import pytest

from mpimlsys.launch import command

SCRIPT = """
import os, signal, subprocess, time
import numpy as np, mpimlsys as mls
ctx = mls.init(comm=mls.CommSection(stall_warning_s=1, timeout_s=8))
mls.allreduce(np.ones(3))
if ctx.rank == 2:
    os.kill(os.getpid(), signal.SIGSTOP)
if ctx.rank == 3:
    subprocess.run(["ip", "link", "set", "eth0", "down"])
    time.sleep(30)
mls.allreduce(np.ones((4, 5), np.float32))
"""


@pytest.fixture
def mended(hosts):
    """The host that the script cuts off, back on the network afterwards."""
    watchdog = threading.Timer(60, hosts.end)
    watchdog.start()
    yield
    watchdog.cancel()
    hosts.end()
    hosts.run(["ip", "link", "set", "eth0", "up"], host="n2", timeout_s=20)


@pytest.mark.usefixtures("mended")
def test_what_is_known_of_ranks_on_other_hosts(hosts, mpi_launcher):
    slots = {"n0": 1, "n1": 2, "n2": 1}
    form = "{}:{}\n" if mpi_launcher.family == "hydra" else "{} slots={}\n"
    (hosts.folder / "hosts").write_text("".join(form.format(*item) for item in slots.items()))
    (hosts.folder / "script.py").write_text(SCRIPT)
    built = command.build(
        mpi_launcher,
        [sys.executable, str(hosts.folder / "script.py")],
        ranks=4,
        cores=0,
        hosts=hosts.folder / "hosts",
        root=True,
        environment=os.environ,
    )
    process = hosts.start(built.argv, variables=built.additions)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "(comm.timeout_s)." in line:
            break
    report = "".join(lines)
    assert re.search(r"in all-reduce #\d+, float32 \(4, 5\), among ranks 0-3", report)
    assert "ranks 0-1: waiting" in report
    assert re.search(
        r"rank 2 \(n1, pid (\d+)\): no answer; .* is stopped .*'kill -CONT \1' on n1", report
    )
    assert re.search(r"rank 3 \(n2, .*\): no answer; the machine is down or cannot", report)
    assert "See whether n2 can be reached" in report
