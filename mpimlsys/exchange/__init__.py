"""Exchanges: what turns each rank's gradients into the global ones (decision D4)."""

from mpimlsys.exchange.allreduce import AllReduce, AllReduceExchange
from mpimlsys.exchange.servers import ParameterServers

__all__ = ["AllReduce", "AllReduceExchange", "ParameterServers"]
