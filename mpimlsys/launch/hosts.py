"""Host files: what is wrong with them, said before the launcher says it in more words.

Both formats are read: ``NAME slots=N`` of Open MPI and ``NAME:N`` of MPICH and Intel MPI.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from mpimlsys.errors import ConfigError

_LINE = re.compile(
    r"(?P<name>[\w.-]+)(?::(?P<count>\d+))?(?:\s+slots\s*=\s*(?P<slots>\d+))?(?:\s.*)?"
)

Hosts = Sequence[tuple[str, int | None]]


def read(path: Path) -> Hosts:
    """The names in a host file, and how many ranks each takes; None where it does not say.

    Raises:
        ConfigError: it cannot be read, names no host, or has a line that names none.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--hosts {path}: {getattr(error, 'strerror', error)}.") from error
    hosts = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        match = _LINE.fullmatch(content)
        if match is None:
            raise ConfigError(
                f"--hosts {path}, line {number}: {content!r} names no host. Write 'NAME slots=N' "
                "(Open MPI) or 'NAME:N' (MPICH, Intel MPI)."
            )
        count = match["slots"] or match["count"]
        hosts.append((match["name"], int(count) if count else None))
    if not hosts:
        raise ConfigError(f"--hosts {path}: there is no host in it.")
    return hosts


def check_room(hosts: Hosts, path: Path, ranks: int) -> None:
    """Check that the hosts take so many ranks, where the file says how many they take.

    Raises:
        ConfigError: they do not.
    """
    slots = [count for _, count in hosts]
    if None not in slots and ranks > (room := sum(count or 0 for count in slots)):
        raise ConfigError(
            f"-n {ranks}: the hosts in {path} take {room}. Start {room} ranks at most, or give the "
            "hosts more slots."
        )


def without_address(
    hosts: Hosts, resolve: Callable[[str], object] = socket.gethostbyname
) -> list[str]:
    """The hosts whose names this machine does not know.

    Args:
        hosts: of :func:`read`.
        resolve: gives a name's address; OSError when there is none.
    """
    unknown = []
    for name in dict(hosts):
        try:
            resolve(name)
        except OSError:
            unknown.append(name)
    return unknown
