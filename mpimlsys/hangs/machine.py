"""Where a rank runs: how others reach it, and what its machine knows of it when it is silent.

A rank that holds Python's lock cannot answer. For that case each rank leaves its stack in a file
without a name, which others of its machine read through ``/proc``: a thread of ``faulthandler``,
which needs no lock, writes it when :class:`Trace` was not wound up for a while.
"""

from __future__ import annotations

import array
import contextlib
import faulthandler
import fcntl
import os
import re
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_MOST_FRAMES = 12
_MOST_TRACE_BYTES = 32 * 1024
_SIOCGIFCONF = 0x8912  # ioctl: the IPv4 addresses of all interfaces that are up
_MOST_INTERFACES = 64
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')
GONE = "its process is gone"
_STATES = {
    "T": "its process is stopped (SIGSTOP, Ctrl-Z); 'kill -CONT {pid}' on {host} lets it go on",
    "t": "its process is stopped by a debugger",
    "D": "its process waits for a disk or a file system{where}",
    "R": "its process computes, but does not let Python's other threads run",
    "S": "its process sleeps{where}, but does not let Python's other threads run",
    "Z": GONE,
    "X": GONE,
}


@dataclass(frozen=True)
class Place:
    """Where a rank runs.

    Attributes:
        host: name for reports.
        machine, network, processes: ranks with the same ones share a kernel, its network, and
            its view of processes.
        pid: of the process.
        trace: descriptor of the file where its stack is left.
        addresses: under which other machines may reach it.
    """

    host: str
    machine: str
    network: str
    processes: str
    pid: int
    trace: int
    addresses: tuple[str, ...]

    def sees_process_of(self, other: Place) -> bool:
        """Whether the other's process is in ``/proc`` here."""
        return (self.machine, self.processes) == (other.machine, other.processes)

    def ways_to(self, other: Place) -> tuple[str, ...]:
        """Addresses under which the other may be reached from here."""
        if (self.machine, self.network) == (other.machine, other.network):
            return ("127.0.0.1",)
        return tuple(address for address in other.addresses if address not in self.addresses)


def here(trace: Trace) -> Place:
    """The place of this process. Asks no name server."""
    return Place(
        host=socket.gethostname(),
        machine=_read("/proc/sys/kernel/random/boot_id") or socket.gethostname(),
        network=_link("/proc/self/ns/net"),
        processes=_link("/proc/self/ns/pid"),
        pid=os.getpid(),
        trace=trace.descriptor,
        addresses=_addresses(),
    )


def stack_of_main_thread() -> tuple[str, ...]:
    """The calls of this process's main thread, innermost first. Reads no source files."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    calls: list[str] = []
    while frame is not None and len(calls) < _MOST_FRAMES:
        code = frame.f_code
        if not code.co_filename.startswith("<frozen"):  # how Python started the program
            calls.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}")
        frame = frame.f_back
    return tuple(calls)


class Trace:
    """Leaves this process's stack in a file, ``after_s`` seconds after the last :meth:`wind`."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self.descriptor = os.memfd_create("mpimlsys-trace")

    def wind(self) -> None:
        """Start the time again, and forget what was left."""
        faulthandler.cancel_dump_traceback_later()
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        faulthandler.dump_traceback_later(self._after_s, file=self.descriptor)

    def close(self) -> None:
        """Leave nothing from now on."""
        faulthandler.cancel_dump_traceback_later()


def look_at(place: Place) -> tuple[str, tuple[str, ...]]:
    """What this machine knows of a process that does not answer: its state, and its stack."""
    folder = Path("/proc") / str(place.pid)
    status = _read(str(folder / "stat"))
    if not status:
        return GONE, ()
    state = status.rpartition(")")[2].split()[0]
    channel = _read(str(folder / "wchan"))
    where = f" (in {channel} of the kernel)" if channel not in ("", "0") else ""
    text = _STATES.get(state, f"its process is in state {state}")
    try:
        with (folder / "fd" / str(place.trace)).open("rb") as file:
            left = file.read(_MOST_TRACE_BYTES).decode(errors="replace")
    except OSError:
        left = ""
    return text.format(pid=place.pid, host=place.host, where=where), frames_of(left)


def frames_of(trace: str) -> tuple[str, ...]:
    """The calls of the main thread, which ``faulthandler`` writes last; innermost first."""
    last = trace.rpartition("Thread 0x")[2]
    found = (_FRAME.fullmatch(line) for line in last.splitlines())
    calls = [f"{match['file']}:{match['line']} in {match['function']}" for match in found if match]
    return tuple(calls[:_MOST_FRAMES])


def _addresses() -> tuple[str, ...]:
    """Of the interfaces that are up, without loopback."""
    size = struct.calcsize("16s24x") if sys.maxsize > 2**32 else struct.calcsize("16s16x")
    buffer = array.array("B", bytes(size * _MOST_INTERFACES))
    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        request = struct.pack("iL", len(buffer), buffer.buffer_info()[0])
        used = struct.unpack("iL", fcntl.ioctl(probe, _SIOCGIFCONF, request))[0]
        found = [
            socket.inet_ntoa(buffer[start + 20 : start + 24].tobytes())
            for start in range(0, used, size)
        ]
    for line in _read("/proc/net/if_inet6").splitlines():
        digits, _, _, scope, _, _ = line.split()
        if scope == "00":  # global
            found.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    return tuple(address for address in found if not address.startswith("127."))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
