"""Which codec, with which options: what a job file writes as ``"top_k:0.01+int8"``. Pure.

The grammar is ``name[:amount][:option...][+name of the values' codec]``:

=================================  ==========================  ==================================
name                               amount                      options
=================================  ==========================  ==================================
``fp16 bf16 fp8_e4m3 fp8_e5m2``    none                        none
``int8 int4 int2``                 none                        ``stochastic``
``sign ternary natural``           none                        none
``top_k``                          share of the elements       ``sampled``
``random_k``                       share of the elements       ``unbiased``
``threshold``                      smallest magnitude          none
``power_sgd``                      rank                        none
=================================  ==========================  ==================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpimlsys.errors import ConfigError, nearest

CASTS = ("fp16", "bf16", "fp8_e4m3", "fp8_e5m2")
_DENSE = (*CASTS, "int8", "int4", "int2", "sign", "ternary", "natural")
_AMOUNTS = {
    "top_k": "the share of the elements that are kept, such as top_k:0.01",
    "random_k": "the share of the elements that are kept, such as random_k:0.01",
    "threshold": "the smallest magnitude that is kept, such as threshold:0.001",
    "power_sgd": "a rank, such as power_sgd:4",
}
_OPTIONS = {
    "int8": "stochastic",
    "int4": "stochastic",
    "int2": "stochastic",
    "top_k": "sampled",
    "random_k": "unbiased",
}
NAMES = (*_DENSE, *_AMOUNTS)
SPARSE = ("top_k", "random_k", "threshold")
RATIOS = ("top_k", "random_k")


@dataclass(frozen=True)
class Codec:
    """A codec with its options.

    Attributes:
        name: of the codec table, see docs/compression.md.
        amount: ratio, bound or rank; 0 where there is none.
        values: how the values of a sparse codec travel; ``"none"`` for float32.
        option: ``"stochastic"``, ``"sampled"``, ``"unbiased"`` or ``""``.
    """

    name: str
    amount: float = 0.0
    values: str = "none"
    option: str = ""

    def __str__(self) -> str:
        amount = f":{self.amount:g}" if self.amount else ""
        option = f":{self.option}" if self.option else ""
        values = f"+{self.values}" if self.values != "none" else ""
        return self.name + amount + option + values

    def native(self, extension: Any) -> Any:
        """The same for the extension."""
        options = {self.option: True} if self.option else {}
        return extension.Spec(self.name, amount=self.amount, values=self.values, **options)


DENSE = Codec("none")


def parse(text: str) -> Codec:
    """Read a codec as job files and command lines write it.

    Raises:
        ConfigError: an unknown name or option, or an amount that is missing or out of range; says
            what is right.

    Example:
        >>> parse("top_k:0.01+int8")
        Codec(name='top_k', amount=0.01, values='int8', option='')
    """
    whole = f"compress = {text!r}"
    main, plus, values = text.strip().partition("+")
    name, *rest = main.split(":")
    if name not in NAMES:
        raise ConfigError(f"{whole}: unknown codec {name!r}.{nearest(name, NAMES)}")
    amount = 0.0
    if name in _AMOUNTS:
        if not rest:
            raise ConfigError(f"{whole}: {name} needs {_AMOUNTS[name]}.")
        amount = _amount(whole, name, rest.pop(0))
    option = ""
    for word in rest:
        known = _OPTIONS.get(name)
        if word != known or option:
            takes = f"only {known!r}" if known else "none"
            raise ConfigError(f"{whole}: {word!r} is no option of {name}; it takes {takes}.")
        option = word
    if plus and name not in SPARSE:
        raise ConfigError(
            f"{whole}: only {', '.join(SPARSE)} have values that a second codec can encode."
        )
    if plus and values not in _DENSE:
        raise ConfigError(f"{whole}: values cannot be {values!r}.{nearest(values, _DENSE)}")
    return Codec(name, amount, values if plus else "none", option)


def _amount(whole: str, name: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        raise ConfigError(
            f"{whole}: {text!r} is no number; {name} needs {_AMOUNTS[name]}."
        ) from None
    fits = {
        "top_k": 0 < amount <= 1,
        "random_k": 0 < amount <= 1,
        "threshold": 0 < amount < float("inf"),
        "power_sgd": amount in range(1, 65),
    }[name]
    if not fits:
        limits = {"threshold": "above 0", "power_sgd": "a whole number from 1 to 64"}
        raise ConfigError(
            f"{whole}: {text} is out of range; it must be "
            f"{limits.get(name, 'above 0 and at most 1')}."
        )
    return amount
