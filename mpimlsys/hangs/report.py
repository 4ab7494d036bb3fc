"""The report of a stuck operation, as whoever reads it at night wants it. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpimlsys.hangs.machine import GONE
from mpimlsys.hangs.messages import Standing
from mpimlsys.hangs.verdict import Found, State, state_of, waits_for_me, words_of

_MOST_GROUPS = 8
_ENDED = "its program has come to its end"
_REMEDIES = {
    State.DIFFERS: "All ranks must call the same operation with arrays of one shape and dtype.",
    State.CROSSED: "All ranks must call their operations in the same order.",
    State.CLOSED: "Look for an error or the end of the program in the output of {ranks}.",
    State.SILENT: "See whether {hosts} can be reached; else end the job and leave it out.",
    State.GAVE_UP: "The job cannot go on; the first error in its output is the cause.",
    State.AWAY: "See what {ranks} did there. Where such work may take that long, raise "
    "comm.stall_warning_s.",
}


@dataclass(frozen=True)
class Stall:
    """An operation that waits too long.

    Attributes:
        rank: that reports.
        standing: of the operation there.
        background: whether a thread of its own runs it.
        found: what was found out about its ranks, by rank.
        mine: numbers of the reporting rank's last operations, by link.
        now: seconds since 1970.
    """

    rank: int
    standing: Standing
    background: bool
    found: Mapping[int, Found]
    mine: Mapping[str, int]
    now: float


def report_of(stall: Stall) -> str:
    """The report; several lines."""
    states = {
        rank: state_of(stall.standing, found, stall.mine) for rank, found in stall.found.items()
    }
    waiting = [rank for rank, state in states.items() if state is State.WAITS]
    waited_s = max(_waited_s(stall, rank) for rank in waiting)
    lines = [
        f"mpimlsys: no progress for {waited_s:.0f} s in {name_of(stall.standing)}, "
        f"{among(stall.found, background=stall.background)} "
        f"(since {_clock(stall.now - waited_s)})",
        f"  {words_of(waiting)}: waiting{_where(stall, waiting)}",
    ]
    groups: dict[tuple[State, str, tuple[str, ...]], list[int]] = {}
    for rank, found in stall.found.items():
        if states[rank] is not State.WAITS:
            told = _told(stall, states[rank], found)
            groups.setdefault((states[rank], told, _stack(found)), []).append(rank)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0].value, item[1]))
    for (_, told, stack), ranks in ordered[:_MOST_GROUPS]:
        lines.append(f"  {_names(stall, ranks)}: {told}")
        lines += [f"      {call}" for call in stack]
    if rest := [rank for _, ranks in ordered[_MOST_GROUPS:] for rank in ranks]:
        lines.append(f"  {words_of(rest)}: not here either")
    return "\n".join([*lines, *_remedies(stall, states), _end(stall)])


def name_of(standing: Standing) -> str:
    """The operation, with its array.

    Example:
        >>> name_of(Standing("all-reduce", "bucket 3", "float32", 1, (7,), 17, *[0] * 7, ""))
        'all-reduce #17 of bucket 3, float32 (7,)'
    """
    name = f"{standing.operation} #{standing.number}"
    if standing.label:
        name += f" of {standing.label}"
    if standing.axes >= 0:
        more = ", ..." if standing.axes > len(standing.shape) else ""
        one = "," if standing.axes == 1 else ""
        lengths = ", ".join(map(str, standing.shape))
        name += f", {standing.dtype or 'an array'} ({lengths}{one}{more})"
    return name


def among(ranks: Iterable[int], *, background: bool) -> str:
    """The ranks of an operation, and where it runs.

    Example:
        >>> among([0, 1], background=True)
        'in the background among ranks 0-1'
    """
    return f"{'in the background ' if background else ''}among {words_of(ranks)}"


def _told(stall: Stall, state: State, found: Found) -> str:
    """What a rank does that does not wait in the operation."""
    answer = found.answer
    if answer is None:
        if state is State.CLOSED:
            return f"no answer; {found.look if found.look == GONE else _ENDED}"
        if found.look:
            return f"no answer; {found.look}{', at' if found.stack else ''}"
        return "no answer; the machine is down or cannot be reached"
    there = answer.standing
    at = ", at" if answer.stack else ""
    now_at = ", and is now at" if answer.stack else ""
    if state is State.GAVE_UP:
        return f"gave up; {there.failure}"
    if state is State.DIFFERS:
        return f"in another operation, {name_of(there)}{at}"
    if state is State.AHEAD:
        return f"done with it{now_at}"
    if state is State.BEHIND:
        return f"not arrived; still in {name_of(there)}{at}"
    if state in (State.CROSSED, State.ELSEWHERE):
        crossed = [item for item in answer.elsewhere if waits_for_me(item, stall.mine)]
        item = (crossed or list(answer.elsewhere))[0]
        whom = f", which waits for rank {stall.rank}" if crossed else ""
        return (
            f"not arrived; for {item.standing.started_s:.0f} s in {name_of(item.standing)}, "
            f"{item.among}{whom}{at}"
        )
    if there.number:
        return f"not arrived; ended {name_of(there)} {there.ended_s:.0f} s ago{now_at}"
    return f"not arrived; has called nothing here before{now_at}"


def _stack(found: Found) -> tuple[str, ...]:
    return found.answer.stack if found.answer is not None else found.stack


def _waited_s(stall: Stall, rank: int) -> float:
    answer = stall.found[rank].answer
    return answer.standing.started_s if answer is not None else 0.0


def _where(stall: Stall, waiting: Sequence[int]) -> str:
    """How far the operation is, where all ranks are in it."""
    if len(waiting) < len(stall.found):
        return ""
    members = sorted(stall.found)
    told = []
    for rank in waiting[:_MOST_GROUPS]:
        answer = stall.found[rank].answer
        if answer is None or not 0 <= answer.standing.peer < len(members):
            continue
        there = answer.standing
        step = f" at step {there.step} of {there.steps}" if there.steps else ""
        told.append(f"rank {rank} for rank {members[there.peer]}{step}")
    return f", {', '.join(told)}" if told else ""


def _names(stall: Stall, ranks: Sequence[int]) -> str:
    hosts = {stall.found[rank].place.host for rank in ranks}
    if len(hosts) > 1:
        return words_of(ranks)
    pid = f", pid {stall.found[ranks[0]].place.pid}" if len(ranks) == 1 else ""
    return f"{words_of(ranks)} ({hosts.pop()}{pid})"


def _remedies(stall: Stall, states: Mapping[int, State]) -> list[str]:
    """What to do, one line for each kind of trouble."""
    lines = []
    for state, remedy in _REMEDIES.items():
        ranks = [rank for rank, found in states.items() if found is state]
        if ranks:
            hosts = sorted({stall.found[rank].place.host for rank in ranks})
            lines.append("  " + remedy.format(ranks=words_of(ranks), hosts=", ".join(hosts)))
    if all(state is State.WAITS for state in states.values()):
        lines.append("  All ranks are there, so the network between them is slow or broken.")
    return lines


def _end(stall: Stall) -> str:
    at = _clock(stall.now + stall.standing.left_s)
    return f"  The job waits on, until a Timeout ends it at {at} (comm.timeout_s)."


def _clock(now: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(now))
