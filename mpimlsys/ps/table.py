"""Tables that parameter servers hold: what is in them and how they change."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mpimlsys.compress.codec import CASTS, DENSE, SPARSE, parse
from mpimlsys.errors import ConfigError, nearest

Initial = Literal["zeros", "uniform", "normal"]

RULES = ("sgd", "momentum", "adagrad", "adam", "ftrl", "row_adagrad", "lazy_adam")
_SSP = re.compile(r"ssp:(\d{1,6})")


@dataclass(frozen=True)
class Table:
    """A dense array of parameters, or rows of which a step touches some.

    Args:
        name: for reports.
        count: elements of the array, or rows of the table.
        width: 0 for a dense array; float32 numbers in a row.
        rule: the optimiser at the servers: ``sgd``, ``momentum``, ``adagrad``, ``adam``, ``ftrl``,
            and for rows also ``row_adagrad`` and ``lazy_adam``; csrc/store/rule.hpp has the
            formulas.
        numbers: its numbers by name, such as ``{"momentum": 0.9}``.
        consistency: ``"bsp"``, ``"ssp:S"`` or ``"asp"``.
        decayed: (start, length) of what weight decay applies to, ascending; of dense arrays.
        spread: rows go to servers by ``"hash"`` or in ranges.
        initial: first values of rows; a dense array begins with zeros, see
            :meth:`mpimlsys.ps.Client.write`.
        scale: ``uniform``: within it; ``normal``: its standard deviation.
        seed: of both.
        hot: rows that many workers read, ascending: all servers have them, and pulls of them are
            spread. Pushes of them go to all servers, which with ``"ssp"`` and ``"asp"`` may apply
            them in different orders.
        urgency: of tables that are asked for at the same time, the highest travels first.
        compress: codec of what travels, such as ``"int8"``, ``"top_k:0.01"`` or ``"none"``; for
            rows one that keeps all numbers, such as ``"fp16"``. docs/parameter-server.md says
            what is sent.
        error_feedback: what pushes of a dense array leave out goes into the next one.

    Raises:
        ConfigError: something that is not possible.
    """

    name: str
    count: int
    width: int = 0
    rule: str = "sgd"
    numbers: Mapping[str, float] = field(default_factory=dict)
    consistency: str = "bsp"
    decayed: Sequence[tuple[int, int]] = ()
    spread: Literal["hash", "range"] = "hash"
    initial: Initial = "zeros"
    scale: float = 0.0
    seed: int = 0
    hot: Sequence[int] = ()
    urgency: int = 0
    compress: str = "none"
    error_feedback: bool = True

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"no server has a rule {self.rule!r}.{nearest(self.rule, RULES)}")
        if self.consistency not in ("bsp", "asp") and not _SSP.fullmatch(self.consistency):
            raise ConfigError(
                f"consistency = {self.consistency!r}; use 'bsp', 'asp' or, to let workers be up to "
                "3 steps ahead of the slowest, 'ssp:3'."
            )
        if self.count < 1 or self.width < 0:
            raise ConfigError(f"the table {self.name!r} is empty.")
        rows = [int(row) for row in self.hot]
        object.__setattr__(self, "hot", tuple(rows))
        if rows and (self.is_dense or rows != sorted(set(rows)) or not rows[0] >= 0):
            raise ConfigError(f"hot rows of {self.name!r} must be ascending numbers of its rows.")
        if rows and rows[-1] >= self.count:
            raise ConfigError(f"{self.name!r} has {self.count} rows, and no hot row {rows[-1]}.")
        self._check_codec()

    @property
    def is_dense(self) -> bool:
        """Whether it is one array."""
        return self.width == 0

    def _check_codec(self) -> None:
        if self.compress == "none":
            return
        codec = parse(self.compress)
        if codec.name == "power_sgd":
            raise ConfigError(
                f"compress = {self.compress!r} needs all-reduce; servers take every other codec."
            )
        if codec.option == "unbiased" and self.is_dense:
            raise ConfigError(
                f"compress = {self.compress!r}: what servers send are differences, which have "
                "error feedback; leave out 'unbiased'."
            )
        if self.hot and codec.name not in CASTS:
            raise ConfigError(
                f"compress = {self.compress!r} would give each server another gradient of the hot "
                f"rows of {self.name!r}; use {', '.join(CASTS)}."
            )
        if not self.is_dense and codec.name in SPARSE:
            raise ConfigError(
                f"compress = {self.compress!r} leaves numbers out, which rows cannot make up for; "
                "use 'fp16', or 'int8:stochastic'."
            )

    def native(self, native: Any) -> Any:
        """The same for the extension.

        Raises:
            ConfigError: numbers that the rule does not take.
        """
        ssp = _SSP.fullmatch(self.consistency)
        codec = DENSE if self.compress == "none" else parse(self.compress)
        return native.Table(
            self.name,
            kind="dense" if self.is_dense else "rows",
            count=self.count,
            width=self.width or 1,
            rule=self.rule,
            numbers=dict(self.numbers),
            consistency="ssp" if ssp else self.consistency,
            staleness=int(ssp[1]) if ssp else 0,
            decayed=list(self.decayed),
            spread=self.spread,
            initial=self.initial,
            scale=self.scale,
            seed=self.seed,
            urgency=self.urgency,
            codec=codec.native(native),
            hot=list(self.hot),
            feedback=self.error_feedback,
        )


def to_json(tables: Sequence[Table]) -> bytes:
    """Tables as all ranks tell them each other."""
    return json.dumps([asdict(table) for table in tables], sort_keys=True).encode()


def from_json(text: bytes) -> list[Table]:
    """The same, back."""
    tables = []
    for fields in json.loads(text):
        fields["decayed"] = tuple((start, length) for start, length in fields["decayed"])
        fields["hot"] = tuple(fields["hot"])
        tables.append(Table(**fields))
    return tables
