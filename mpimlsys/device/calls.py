"""What is asked for of a GPU's arrays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """Of any collective.

    Attributes:
        label: for reports.
        timeout_s: longest wait for another rank or the GPU.
        background: whether it begins before somebody waits for it.
    """

    label: str
    timeout_s: float
    background: bool = True


@dataclass(frozen=True, kw_only=True)
class Reduction(Call):
    """Of one that combines numbers.

    Attributes:
        op: ``"sum"``, ``"average"``, ``"min"``, ``"max"`` or ``"product"``.
        algorithm, order: of the ranks' exchange on the host.
        check: whether ranks compare what they do.
    """

    op: str
    algorithm: str = "auto"
    order: str = "any"
    check: bool = True
