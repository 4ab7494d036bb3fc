"""What compressed exchanges keep in a checkpoint, and what of it belongs to which rank. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpimlsys.compress import FEEDBACKS, Feedback
from mpimlsys.errors import ConfigError
from mpimlsys.types import Array, State

# sums over the ranks that keep their meaning whoever has them
_ADDITIVE = ("residual", "velocity")
# the same on all ranks
_COMMON = ("carried",)


def common(steps: int, nodes: Array, feedback: Feedback) -> State:
    """What all ranks have alike: exchanged steps, ranks that share buckets out, and feedback."""
    return {
        "steps": np.array(steps, np.int64),
        "nodes": nodes,
        "feedback": np.array(FEEDBACKS.index(feedback), np.int64),
    }


def steps_of(state: Mapping[str, Array], feedback: Feedback) -> int:
    """The steps of such a state.

    Raises:
        ConfigError: it is that of another feedback, or none.
    """
    if not {"steps", "nodes", "feedback"} <= state.keys():
        raise ConfigError(
            "this checkpoint was written without compression; use the job it was written with."
        )
    before = FEEDBACKS[int(state["feedback"])]
    if before != feedback:
        raise ConfigError(
            f"this checkpoint was written with error_feedback = {before!r}, whose residuals "
            f"mean nothing to {feedback!r}; use --set exchange.error_feedback={before}."
        )
    return int(state["steps"])


def handed_out(own: Mapping[str, Array], before: Array, rank: int, nodes: Array) -> State:
    """A rank's own state, as ``"rank.bucket.name"``.

    Args:
        own: the same of all ranks that wrote.
        before: the node of each of them where these shared buckets out among them, or else 0.
        rank: of the run that goes on.
        nodes: what ``before`` is of its ranks.

    Returns:
        For the ranks that wrote what this rank had, bit by bit. For another number an equal share
        of the residuals of error feedback and of their momentum, while what owners of parts kept
        is lost; ``ef21`` begins anew, as the ranks' states hang together, and so do ranks that
        have other slices of the buckets than before.
    """
    if np.array_equal(before, nodes):
        return {name: value for name, value in own.items() if name.startswith(f"{rank}.")}
    if before.any() or nodes.any():
        return {}
    found: dict[str, list[Array]] = {}
    for name, value in own.items():
        found.setdefault(name.partition(".")[2], []).append(value)
    share: State = {}
    for name, values in found.items():
        bucket, _, kind = name.partition(".")
        if f"{bucket}.estimate" in found or len({value.size for value in values}) > 1:
            continue
        if kind in _ADDITIVE:
            share[f"{rank}.{name}"] = _share(values, len(nodes))
        elif kind in _COMMON:
            share[f"{rank}.{name}"] = values[0]
    return share


def _share(values: list[Array], ranks: int) -> Array:
    total = np.zeros(values[0].size)
    for value in values:
        total += value
    return (total / ranks).astype(np.float32)
