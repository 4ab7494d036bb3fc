"""Emulated hosts on this machine, joined by a switch whose links have a limited bandwidth.

Each host has its own network, name, processes, IPC, ``/dev/shm``, ``/tmp`` and ``/etc/hosts``, so
that MPI and Slurm see different machines. ``head`` is one more, for the commands of a user; it
sees the processes of all (one can enter only the process name spaces of descendants).

Guarantees: the machine's own network is not touched. Name spaces have no names: each is held by
one child process, which ends when this process does, whatever ends it, and everything inside ends
with it. Nothing is left but the folder, which the caller removes.

Needs root, unshare, nsenter (util-linux), ip and tc (iproute2).
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HEAD = "head"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_HOST = """
set -e
hostname {name}
mount -t tmpfs -o size=4g tmpfs /dev/shm
mount --bind {hosts} /etc/hosts
mount -t tmpfs tmpfs /mnt
for folder in {shared}; do  # they may lie in /tmp
    mkdir -p "/mnt$folder"
    mount --bind "$folder" "/mnt$folder"
done
mount -t tmpfs -o size=2g,mode=1777 tmpfs /tmp
for folder in {shared}; do
    mkdir -p "$folder"
    mount --move "/mnt$folder" "$folder"
done
umount /mnt
ip link set lo up
# not what this machine prefers: bbr and cubic find a tenth less on such short and narrow links
echo reno > /proc/sys/net/ipv4/tcp_congestion_control
echo ready
read -r end  # until this host's owner ends; bash meanwhile reaps what becomes its child
"""
_RSH = """#!/bin/sh
# in place of ssh: HOST COMMAND...
while [ "${1#-}" != "$1" ]; do shift; done
host=${1#*@}
shift
exec nsenter -t "$(cat %s/"$host".pid)" -n -u -i -m -p -- \\
    /bin/sh -c "cd '$PWD' && $*" </dev/null
"""


def missing():
    """Why there can be no emulated hosts here, empty when there can."""
    absent = [name for name in ("ip", "tc", "unshare", "nsenter", "setpriv") if not _which(name)]
    if absent:
        return f"{', '.join(absent)} not found (apt-get install iproute2 util-linux)"
    probe = ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "true"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        return f"name spaces cannot be made: {done.stderr.strip()} (needs root)"
    return ""


class Network:
    """Hosts ``n0`` to ``n(count-1)`` at 10.77.0.10 and on, and ``head`` at 10.77.0.9.

    Args:
        folder: an absolute path that exists, for what the hosts need; seen by all of them.
        count: of hosts besides ``head``.
        rate: of each host's link in both directions, as tc writes it (``"100mbit"``), empty for
            no limit.
        shared: further folders that all hosts see at the same path.
    """

    def __init__(self, folder, count, *, rate="", shared=()):
        self.folder = folder
        self.names = [f"n{index}" for index in range(count)]
        self._holders = {}
        self._inits = {}
        try:
            self._build([folder, *shared])
            if rate:
                self.limit(rate)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def limit(self, rate):
        """Give every link the same bandwidth in both directions."""
        for name in self.names:
            for holder, device in ((name, "eth0"), ("switch", f"p{name}")):
                # with a burst of 64 kB both directions at once fall to half of the rate
                shape = f"tc qdisc replace dev {device} root tbf rate {rate} burst 256kb"
                self._in_net(holder, f"{shape} latency 20ms")

    def command(self, host, argv, *, variables=None, cwd=None):
        """``argv`` as a command of this machine that runs on ``host``."""
        pid = self._inits[host]
        # of its own process name space, which nsenter can only enter from outside of it
        process = [] if host == HEAD else ["-p"]
        assignments = [f"{name}={value}" for name, value in (variables or {}).items()]
        folder = shlex.quote(str(cwd or self.folder))
        inner = ["sh", "-c", f'cd {folder} && exec "$@"', "sh", "env", *assignments]
        enter = ["nsenter", "-t", str(pid), "-n", "-u", "-i", "-m", *process, "--"]
        return [*enter, *inner, *map(str, argv)]

    def mpi_variables(self):
        """What the launchers of Open MPI and MPICH need to reach the hosts from ``head``."""
        return {
            "PRTE_MCA_plm_ssh_agent": self.rsh,
            "PRTE_MCA_plm_ssh_no_tree_spawn": "1",
            "PRTE_MCA_prte_if_include": "10.77.0.0/24",
            "OMPI_MCA_plm_rsh_agent": self.rsh,  # Open MPI 4
            "OMPI_MCA_btl": "tcp,self",
            "OMPI_MCA_btl_tcp_if_include": "10.77.0.0/24",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",  # emulating hosts needs root
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_mpi_yield_when_idle": "1",  # the hosts share this machine's few cores
            "HYDRA_LAUNCHER": "ssh",
            "HYDRA_LAUNCHER_EXEC": self.rsh,
        }

    def close(self):
        """End every host and what runs there."""
        for holder in reversed(self._holders.values()):
            holder.stdin.close()
            holder.kill()  # kills what it has forked, and with that the host
        for holder in self._holders.values():
            holder.wait(timeout=10)
            holder.stdout.close()
        self._holders.clear()

    def _build(self, shared):
        hosts = self.folder / "etc-hosts"
        lines = ["127.0.0.1 localhost", f"10.77.0.9 {HEAD}"]
        lines += [f"10.77.0.{10 + index} {name}" for index, name in enumerate(self.names)]
        hosts.write_text("\n".join(lines) + "\n")
        self.rsh = self.folder / "rsh"
        self.rsh.write_text(_RSH % shlex.quote(str(self.folder)))
        self.rsh.chmod(0o755)
        self._hold("switch", ["--net"], "ip link set lo up\necho ready\nread -r end\n")
        bridge = "ip link add br0 type bridge forward_delay 0 && ip link set br0 up"
        self._in_net("switch", bridge)
        for index, name in enumerate([HEAD, *self.names]):
            script = _HOST.format(
                name=name, hosts=shlex.quote(str(hosts)), shared=shlex.join(map(str, shared))
            )
            spaces = ["--net", "--uts", "--ipc", "--mount", "--propagation", "private"]
            spaces += [] if name == HEAD else ["--pid", "--mount-proc"]
            self._hold(name, spaces, script)
            (self.folder / f"{name}.pid").write_text(str(self._inits[name]))
            switch = self._inits["switch"]
            self._in_net(
                name,
                f"ip link add eth0 type veth peer name p{name} netns {switch} && "
                f"ip address add 10.77.0.{9 + index}/24 dev eth0 && ip link set eth0 up",
            )
            self._in_net("switch", f"ip link set p{name} master br0 up")

    def _hold(self, name, spaces, script):
        holder = subprocess.Popen(
            ["unshare", *spaces, "--fork", "--kill-child", "bash", "-c", script],
            env={"PATH": _PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._holders[name] = holder
        if holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"the emulated host {name} did not start")
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        self._inits[name] = int(children[0])

    def _in_net(self, name, script):
        enter = ["nsenter", "-t", str(self._inits[name]), "-n", "sh", "-c", script]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: {script}: {done.stderr.strip()}")


def _which(name):
    return shutil.which(name, path=_PATH)


def shared_folders():
    """The project and its Python environment, which every host must see."""
    project = Path(__file__).resolve().parent.parent.parent
    prefix = Path(sys.prefix)
    return [project] if prefix.is_relative_to(project) else [project, prefix]
