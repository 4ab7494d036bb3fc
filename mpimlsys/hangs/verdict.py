"""Which rank reports a stuck operation, and in which state each rank is. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mpimlsys.hangs.machine import GONE, Place
from mpimlsys.hangs.messages import Answer, Elsewhere, Standing

_FIRST_ASKED = 8


@dataclass(frozen=True)
class Found:
    """What was found out about a rank.

    Attributes:
        place: where it runs.
        answer: its own; None where it gave none.
        refused: its machine answered in its stead that nobody listens.
        look: what its machine knows of its process when it does not answer.
        stack: innermost first; empty where nobody knows it.
    """

    place: Place
    answer: Answer | None = None
    refused: bool = False
    look: str = ""
    stack: tuple[str, ...] = ()


class State(enum.Enum):
    """Of a rank, seen from a stuck operation; in the order in which they are reported."""

    WAITS = enum.auto()
    DIFFERS = enum.auto()
    CROSSED = enum.auto()
    SEEN = enum.auto()
    CLOSED = enum.auto()
    SILENT = enum.auto()
    GAVE_UP = enum.auto()
    BEHIND = enum.auto()
    ELSEWHERE = enum.auto()
    AWAY = enum.auto()
    AHEAD = enum.auto()


def state_of(stuck: Standing, found: Found, mine: Mapping[str, int]) -> State:
    """The state of a rank.

    Args:
        stuck: the operation, as the reporting rank knows it.
        found: of the rank in question.
        mine: numbers of the reporting rank's last operations, by link.
    """
    answer = found.answer
    if answer is None:
        if found.refused or found.look == GONE:
            return State.CLOSED
        return State.SEEN if found.look else State.SILENT
    there = answer.standing
    if there.failure:
        return State.GAVE_UP
    if there.number > stuck.number or (there.number == stuck.number and not there.running):
        return State.AHEAD
    if there.number == stuck.number:
        return State.WAITS if same_call(stuck, there) else State.DIFFERS
    if there.running:
        return State.BEHIND
    if any(waits_for_me(other, mine) for other in answer.elsewhere):
        return State.CROSSED
    return State.ELSEWHERE if answer.elsewhere else State.AWAY


def same_call(one: Standing, other: Standing) -> bool:
    """Whether two ranks called the same; parts of a gathering may differ in their first axis."""
    same = (one.operation, one.dtype, one.axes) == (other.operation, other.dtype, other.axes)
    if one.operation in ("all-gather", "all-to-all"):
        return same and one.shape[1:] == other.shape[1:]
    return same and one.shape == other.shape


def waits_for_me(other: Elsewhere, mine: Mapping[str, int]) -> bool:
    """Whether the operation on another link cannot end before the reporting rank calls it."""
    return mine.get(other.link, other.standing.number) < other.standing.number


def speaks(
    rank: int,
    stuck: Standing,
    answers: Mapping[int, Answer],
    mine: Mapping[str, int],
    late_s: float,
) -> bool:
    """Whether this rank reports: the lowest of those that wait long in the earliest operation.

    Of ranks that wait for each other in different operations the lowest reports.

    Args:
        rank: this one.
        stuck: its operation.
        answers: of the other ranks, as far as there are any.
        mine: numbers of this rank's last operations, by link.
        late_s: how long a wait must last for its rank to report too.
    """
    for other, answer in answers.items():
        there = answer.standing
        if there.number == stuck.number and answer.reported == stuck.number:
            return False
        waits = there.running and there.started_s >= late_s
        if waits and (there.number, other) < (stuck.number, rank):
            return False
        crossed = any(
            waits_for_me(item, mine) and item.standing.started_s >= late_s
            for item in answer.elsewhere
        )
        if crossed and other < rank and there.number < stuck.number:
            return False
    return True


def batches(ranks: Sequence[int], rank: int) -> Iterator[tuple[int, ...]]:
    """Whom a rank asks, one batch after the other, until it knows whether it speaks.

    Mostly one of the lowest speaks, so that the others need not ask all.
    """
    start, length = 0, _FIRST_ASKED
    place = ranks.index(rank)
    while start < place:
        end = min(place, start + length)
        yield tuple(ranks[start:end])
        start, length = end, 2 * length
    yield tuple(ranks[place + 1 :])


def neighbours(ranks: Sequence[int], rank: int) -> tuple[int, ...]:
    """Whom a rank tells what all shall know: those 1, 2, 4, ... places away, on both sides.

    When each rank tells it on, all get to know it, even if some are dead, without anyone being
    asked by all.
    """
    place, size = ranks.index(rank), len(ranks)
    distances = [1 << k for k in range((size - 1).bit_length())]
    places = {(place + way * distance) % size for distance in distances for way in (1, -1)}
    return tuple(ranks[other] for other in sorted(places - {place}))


def words_of(ranks: Iterable[int]) -> str:
    """Ranks in words.

    Example:
        >>> words_of([0, 1, 2, 4]), words_of([3])
        ('ranks 0-2, 4', 'rank 3')
    """
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], rank]
        else:
            spans.append([rank])
    parts = [f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans]
    single = len(spans) == 1 and len(spans[0]) == 1
    return f"{'rank' if single else 'ranks'} {', '.join(parts)}"
