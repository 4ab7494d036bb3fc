"""A Slurm of several nodes: a slurmd on each emulated host, slurmctld on ``head``.

Partitions ``low`` (the default) and ``high``, whose jobs pre-empt those of ``low``: these get
SIGUSR1, have 20 s, and are queued again. Two GPUs of each node are files that pretend.

Guarantees: the daemons are children of this process, run in the foreground, and end with it. All
files are in the network's folder.

Needs what the network needs, and slurmctld, slurmd, srun, sbatch and munged.
"""

import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

from emulated_network import HEAD
from emulated_network import missing as network_missing

CORES = 8  # that Slurm believes each node to have
_NEEDED = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "sinfo", "munged")
_DEBIAN = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
_READY_S = 20.0
_CONFIGURATION = """
ClusterName=test
SlurmctldHost=head(10.77.0.9)
AuthType=auth/munge
# a requeued job waits until its credential has expired, two minutes unless said otherwise
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.id
SlurmdPidFile={folder}/slurmd-%n.id
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=3
SlurmdTimeout=10
MinJobAge=300
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName={nodes} NodeAddr={addresses} CPUs={cores} Boards=1 SocketsPerBoard=1 \
CoresPerSocket={cores} ThreadsPerCore=1 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes={nodes} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 \
PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes={nodes} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing():
    """Why there can be no Slurm here, empty when there can."""
    absent = [name for name in _NEEDED if not shutil.which(name)]
    if absent:
        return f"{', '.join(absent)} not found (apt-get install {_DEBIAN})"
    return network_missing()


class Slurm:
    """Slurm on every host of a network.

    Args:
        network: a :class:`~emulated_network.Network`; its folder must be one that others can enter.

    Raises:
        RuntimeError: a daemon ended, or the nodes were not idle in time; says what its log says.
    """

    def __init__(self, network):
        self.network = network
        self.folder = network.folder / "slurm"
        self.variables = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons = {}
        try:
            self._configure()
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End the daemons, and with those of the nodes all that runs there."""
        for name, daemon in reversed(self._daemons.items()):
            # to enter a node's process name space, nsenter had to fork
            forked = _children(daemon.pid) if name.startswith("slurmd") else []
            for process in forked or [daemon.pid]:
                os.kill(process, signal.SIGTERM)
        for daemon in self._daemons.values():
            try:
                daemon.wait(timeout=5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(timeout=5)
        self._daemons.clear()

    def _configure(self):
        count = len(self.network.names)
        for name in ("log", "state", "munge", *(f"spool/{node}" for node in self.network.names)):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name).chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for index in range(2):
            os.mknod(self.folder / f"gpu{index}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        nodes = f"n[0-{count - 1}]"
        text = _CONFIGURATION.format(
            folder=self.folder,
            nodes=nodes,
            addresses=f"10.77.0.[10-{9 + count}]",
            cores=CORES,
        )
        (self.folder / "slurm.conf").write_text(text)
        gpus = f"NodeName={nodes} Name=gpu File={self.folder}/gpu[0-1]\n"
        (self.folder / "gres.conf").write_text(gpus)
        # not found by itself: /sys/fs/cgroup is not mounted in the name spaces
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _start(self):
        munge = self.folder / "munge"
        files = {"socket": "socket", "key-file": "key", "pid-file": "id", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        self._daemon("munged", ["munged", "--foreground", *options, f"--log-file={munge}/log"])
        self._await("munged", lambda: (munge / "socket").exists())
        configuration = self.variables["SLURM_CONF"]
        on_head = self.network.command(HEAD, ["slurmctld", "-D", "-c", "-f", configuration])
        self._daemon("slurmctld", on_head)
        for node in self.network.names:
            on_node = self.network.command(node, ["slurmd", "-D", "-c", "-f", configuration])
            self._daemon(f"slurmd-{node}", on_node)
        self._await("the nodes", self._idle)

    def _daemon(self, name, argv):
        with (self.folder / "log" / f"{name}.out").open("w") as output:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # its children must not find the Python environment of the tests by chance
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **self.variables},
            )

    def _await(self, what, ready):
        deadline = time.monotonic() + _READY_S
        while not ready():
            for name, daemon in self._daemons.items():
                if daemon.poll() is not None:
                    raise RuntimeError(f"{name} ended at its start: {self._log(name)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} not ready after {_READY_S:g} s: {self._log()}")
            time.sleep(0.05)

    def _idle(self):
        states = subprocess.run(
            self.network.command(
                HEAD, ["sinfo", "-h", "-N", "-p", "low", "-o", "%T"], variables=self.variables
            ),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return states.stdout.split() == ["idle"] * len(self.network.names)

    def _log(self, name="slurmctld"):
        texts = [path.read_text() for path in sorted((self.folder / "log").glob(f"{name}*"))]
        return "\n".join(texts)[-2000:]


def _children(process):
    try:
        return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))
    except FileNotFoundError:
        return []
