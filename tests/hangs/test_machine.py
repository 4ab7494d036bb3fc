"""What a machine knows of its processes."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from mpimlsys.hangs import machine

PLACE = machine.Place("n1", "boot", "net:[1]", "pid:[1]", os.getpid(), 0, ("10.0.0.1", "10.9.9.9"))
HOLDS_THE_LOCK = """
import ctypes, time
from mpimlsys.hangs.machine import Trace
trace = Trace(0.1)
trace.wind()
print(trace.descriptor, flush=True)
def hold_the_lock():
    ctypes.PyDLL(None).sleep(60)
def compute():
    hold_the_lock()
compute()
"""
TRACE = """Timeout (0:00:00.500000)!
Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3.11/selectors.py", line 468 in select
  File "/home/u/watch.py", line 7 in look

Thread 0x00007f02 (most recent call first):
  File "/home/u/train.py", line 12 in load shard
  File "/home/u/train.py", line 40 in <module>
"""


@pytest.fixture
def child():
    """``child(code)`` runs Python code and returns its process."""
    started = []

    def start(code):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def looked_at(place, wanted):
    """What is known of a process, as soon as that has ``wanted`` in it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        look, stack = machine.look_at(place)
        if any(wanted in text for text in (look, *stack)):
            return look, stack
        time.sleep(0.05)
    return pytest.fail(f"{look} {stack}")


def test_where_the_main_thread_is():
    first, second, *_ = machine.stack_of_main_thread()
    assert "machine.py" in first
    assert "test_machine.py" in second
    assert second.endswith("in test_where_the_main_thread_is")


def test_a_stack_is_that_of_the_main_thread():
    assert machine.frames_of(TRACE) == (
        "/home/u/train.py:12 in load shard",
        "/home/u/train.py:40 in <module>",
    )


@pytest.mark.parametrize("text", ["", "Timeout (0:00", '  File "x", line', "\0\xff"])
def test_a_stack_that_is_not_there_is_empty(text):
    assert machine.frames_of(text) == ()


def test_a_stopped_process_is_seen(child):
    process = child("import time; time.sleep(60)")
    process.send_signal(signal.SIGSTOP)
    look, _ = looked_at(dataclasses.replace(PLACE, pid=process.pid), "stopped")
    assert f"'kill -CONT {process.pid}' on n1" in look


def test_a_process_that_has_ended_is_gone(child):
    process = child("")
    process.communicate(timeout=20)
    place = dataclasses.replace(PLACE, pid=process.pid)
    assert machine.look_at(place) == ("its process is gone", ())


def test_who_holds_the_lock_leaves_a_stack(child):
    process = child(HOLDS_THE_LOCK)
    descriptor = int(process.stdout.readline())
    place = dataclasses.replace(PLACE, pid=process.pid, trace=descriptor)
    look, stack = looked_at(place, "in compute")
    assert "does not let Python's other threads run" in look
    assert [call.rpartition(" in ")[2] for call in stack] == [
        "hold_the_lock",
        "compute",
        "<module>",
    ]


def test_a_trace_that_is_wound_up_is_forgotten(child):
    process = child(
        "import os, time\n"
        "from mpimlsys.hangs.machine import Trace\n"
        "trace = Trace(0.05)\n"
        "trace.wind()\n"
        "size = lambda: os.fstat(trace.descriptor).st_size\n"
        "end = time.monotonic() + 15\n"
        "while not size() and time.monotonic() < end:\n"
        "    time.sleep(0.01)\n"
        "before = size()\n"
        "trace._after_s = 60\n"
        "trace.wind()\n"
        "print(before > 0, size())\n"
        "trace.close()\n"
    )
    assert process.communicate(timeout=20)[0] == "True 0\n"


def test_ways_between_machines():
    other = dataclasses.replace(PLACE, machine="boot 2", addresses=("10.0.0.2", "10.9.9.9"))
    assert PLACE.ways_to(PLACE) == ("127.0.0.1",)
    assert PLACE.ways_to(other) == ("10.0.0.2",)  # the same bridge is on both machines
    container = dataclasses.replace(PLACE, network="net:[2]", addresses=("10.0.0.3",))
    assert PLACE.ways_to(container) == ("10.0.0.3",)
    assert PLACE.sees_process_of(container)
    assert not PLACE.sees_process_of(other)


def test_this_machine_has_a_place():
    trace = machine.Trace(60.0)
    place = machine.here(trace)
    os.close(trace.descriptor)
    assert place.pid == os.getpid()
    assert place.sees_process_of(place)
    assert all(not address.startswith("127.") for address in place.addresses)
