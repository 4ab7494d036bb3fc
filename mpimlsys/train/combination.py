"""Which optimisers, exchanges, devices and numbers go together. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mpimlsys.compress import Codec, Compression
from mpimlsys.errors import ConfigError
from mpimlsys.exchange import AllReduce, ParameterServers


def exchange_for(
    exchange: AllReduce | ParameterServers,
    optimizer: Any,
    *,
    clip_norm: float,
    dtype: str,
    device: str,
    precision: str,
) -> AllReduce | ParameterServers:
    """The exchange of a trainer, with the compression that a compressed optimiser is made for.

    Raises:
        ConfigError: there is no such combination.
    """
    if precision != "float32" and dtype != "float32":
        raise ConfigError(
            f"precision = {precision!r} keeps its parameters in float32, and dtype is {dtype!r}: "
            "set job.dtype = 'float32', or job.precision = 'float32'."
        )
    if isinstance(exchange, ParameterServers):
        _check_servers(exchange, clip_norm, device, precision)
        return exchange
    dense_at = getattr(optimizer, "dense_at", None)
    if dense_at is not None:
        if exchange.compress is not None:
            raise ConfigError(
                f"{type(optimizer).__name__} compresses its momentum by itself; leave out "
                "exchange.compress."
            )
        exchange = replace(
            exchange, compress=Compression(Codec("sign"), "classic", dense_at=dense_at)
        )
    if precision == "fp16" and exchange.compress is not None:
        raise ConfigError(_left_out("compressed gradients"))
    return exchange


def _check_servers(
    exchange: ParameterServers, clip_norm: float, device: str, precision: str
) -> None:
    if clip_norm:
        raise ConfigError(
            "a limit on the global norm (clip_norm) needs all gradients in one place, which "
            "parameter servers do not have; leave it out."
        )
    if device != "cpu":
        raise ConfigError(
            f"device = {device!r} does not go with parameter servers, nor with models whose rows "
            "they hold: servers and rows are in the memory of the host. Set exchange.kind = "
            "'allreduce' and cluster.servers = 0, or cluster.device = 'cpu'."
        )
    if precision == "fp16":
        raise ConfigError(_left_out("parameter servers"))
    if precision != "float32" and exchange.embeddings:
        raise ConfigError(
            f"precision = {precision!r} does not go with models whose rows are at parameter "
            "servers, which are float32. Set job.precision = 'float32'."
        )


def _left_out(who: str) -> str:
    return (
        "precision = 'fp16' leaves out steps whose gradients overflow, which "
        f"{who} do not know of. Set job.precision = 'bf16', which has the range of float32."
    )
