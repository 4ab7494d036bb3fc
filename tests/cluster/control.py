"""Emulated hosts and a Slurm that stay up: ``make slurm-up``, ``make net-up`` and their ends.

A keeper process in the background owns everything; it is known by its process id and start time in
``.cluster.json`` of the project, so that nothing else is ever ended. When it ends, all that it
made ends.

Usage: control.py up [--rate RATE] [--hosts N] [--slurm] | down | exec HOST COMMAND...
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import emulated_slurm
from emulated_network import HEAD, Network, missing, shared_folders

STATE = Path(__file__).resolve().parent.parent.parent / ".cluster.json"
_READY_S = 30.0
_END_S = 15.0


def main(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "keep"):
        one = commands.add_parser(name)
        one.add_argument("--rate", default="", help="of each link, such as 1gbit")
        one.add_argument("--hosts", type=int, default=4)
        one.add_argument("--slurm", action="store_true")
    commands.add_parser("down")
    one = commands.add_parser("exec")
    one.add_argument("host")
    one.add_argument("argv", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(arguments)
    if chosen.command == "up":
        return up(chosen)
    if chosen.command == "keep":
        return keep(chosen)
    if chosen.command == "down":
        return down()
    return inside(chosen.host, chosen.argv)


def up(chosen):
    """Start a keeper and wait until it is ready."""
    reason = emulated_slurm.missing() if chosen.slurm else missing()
    if reason:
        return _refuse(f"cannot start: {reason}")
    if _keeper():
        return _refuse("a cluster of this project is up already; end it first: make slurm-down")
    STATE.unlink(missing_ok=True)
    options = ["--rate", chosen.rate, "--hosts", str(chosen.hosts)]
    options += ["--slurm"] if chosen.slurm else []
    keeper = subprocess.Popen(
        [sys.executable, __file__, "keep", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + _READY_S
    while not STATE.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            keeper.terminate()
            return _refuse("the cluster did not start; its reason stands above")
        time.sleep(0.05)
    state = json.loads(STATE.read_text())
    print(f"{chosen.hosts} hosts and {HEAD} are up. {state['folder']} is shared by all. Try:")
    print(f"  python {os.path.relpath(__file__)} exec n0 hostname")
    if chosen.slurm:
        print(f"  python {os.path.relpath(__file__)} exec {HEAD} sinfo")
    return 0


def keep(chosen):
    """Own the cluster until SIGTERM."""
    folder = Path(tempfile.mkdtemp(prefix="mls-cluster-"))
    folder.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with ExitStack() as stack:
            network = stack.enter_context(
                Network(folder, chosen.hosts, rate=chosen.rate, shared=shared_folders())
            )
            variables = network.mpi_variables()
            if chosen.slurm:
                variables |= stack.enter_context(emulated_slurm.Slurm(network)).variables
            commands = {
                host: network.command(host, [], variables=variables, cwd=folder)
                for host in (HEAD, *network.names)
            }
            state = {
                "keeper": os.getpid(),
                "started": _started(os.getpid()),
                "folder": str(folder),
                "commands": commands,
            }
            fresh = STATE.with_suffix(".new")
            fresh.write_text(json.dumps(state, default=str))
            fresh.replace(STATE)
            while True:
                signal.pause()
    finally:
        STATE.unlink(missing_ok=True)
        shutil.rmtree(folder)


def down():
    """End the keeper and wait for it."""
    state = _keeper()
    if state is None:
        STATE.unlink(missing_ok=True)
        return _refuse("no cluster of this project is up")
    os.kill(state["keeper"], signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while _keeper():
        if time.monotonic() > deadline:
            return _refuse(f"process {state['keeper']} does not end")
        time.sleep(0.05)
    return 0


def inside(host, argv):
    """Run a command on a host."""
    state = _keeper()
    if state is None or host not in state["commands"]:
        return _refuse(f"no host {host} is up; make net-up, or make slurm-up")
    command = state["commands"][host] + argv
    return subprocess.run(command, check=False).returncode


def _keeper():
    """The state, if the keeper that wrote it still runs."""
    try:
        state = json.loads(STATE.read_text())
    except FileNotFoundError:
        return None
    return state if _started(state["keeper"]) == state["started"] else None


def _started(process):
    """When a process started, in clock ticks since boot; None when there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _refuse(reason):
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
