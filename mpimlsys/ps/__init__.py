"""Parameter servers: tables on some ranks, which the others push gradients to and pull from."""

from mpimlsys.ps.client import Client
from mpimlsys.ps.server import serve
from mpimlsys.ps.snapshot import Snapshot
from mpimlsys.ps.table import Table
from mpimlsys.ps.wiring import decline

__all__ = ["Client", "Snapshot", "Table", "decline", "serve"]
