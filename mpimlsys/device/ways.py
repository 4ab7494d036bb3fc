"""How arrays of GPUs travel between ranks."""

from __future__ import annotations

from dataclasses import dataclass

from mpimlsys.device.direct import Direct
from mpimlsys.device.peer_memory import PeerMemory
from mpimlsys.device.staged import Staged


@dataclass(frozen=True)
class Ways:
    """Those of one queue.

    Attributes:
        staged: through host memory.
        peers: in the memory of the node's GPUs; None where some rank cannot.
        direct: by the MPI; None where that is not CUDA-aware.
    """

    staged: Staged
    peers: PeerMemory | None
    direct: Direct | None
