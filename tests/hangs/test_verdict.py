"""Which rank reports, and in which state ranks are."""

import dataclasses

import pytest

from mpimlsys.hangs.machine import Place
from mpimlsys.hangs.messages import NOTHING_YET, Answer, Elsewhere
from mpimlsys.hangs.verdict import Found, State, batches, neighbours, speaks, state_of, words_of

PLACE = Place("n1", "boot", "net", "pid", 4711, 5, ())
STUCK = dataclasses.replace(
    NOTHING_YET,
    operation="all-reduce",
    dtype="float32",
    axes=1,
    shape=(7,),
    number=17,
    running=True,
    started_s=31.0,
)
BEFORE = dataclasses.replace(STUCK, number=16, running=False, ended_s=31.0)
ON_OTHER_LINK = Elsewhere("other", "among ranks 0-1", dataclasses.replace(STUCK, number=4))


def answer(standing, *elsewhere, reported=0):
    return Answer(standing, elsewhere, (), reported)


def changed(**values):
    return dataclasses.replace(STUCK, **values)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (answer(STUCK), State.WAITS),
        (answer(changed(started_s=0.1)), State.WAITS),
        (answer(changed(operation="broadcast")), State.DIFFERS),
        (answer(changed(shape=(8,))), State.DIFFERS),
        (answer(changed(dtype="float64")), State.DIFFERS),
        (answer(changed(number=16)), State.BEHIND),
        (answer(changed(number=18)), State.AHEAD),
        (answer(changed(running=False)), State.AHEAD),
        (answer(changed(running=False, failure="no answer")), State.GAVE_UP),
        (answer(BEFORE), State.AWAY),
        (answer(NOTHING_YET), State.AWAY),
        (answer(BEFORE, ON_OTHER_LINK), State.CROSSED),
    ],
)
def test_states_of_ranks_that_answer(told, state):
    assert state_of(STUCK, Found(PLACE, told), {"other": 3}) is state


def test_an_operation_that_does_not_wait_for_this_rank_is_no_crossing():
    found = Found(PLACE, answer(BEFORE, ON_OTHER_LINK))
    assert state_of(STUCK, found, {"other": 4}) is State.ELSEWHERE
    assert state_of(STUCK, found, {}) is State.ELSEWHERE


def test_parts_of_a_gathering_may_differ_in_length():
    stuck = changed(operation="all-gather", axes=2, shape=(7, 3))
    longer = Found(PLACE, answer(dataclasses.replace(stuck, shape=(9, 3))))
    wider = Found(PLACE, answer(dataclasses.replace(stuck, shape=(7, 4))))
    assert state_of(stuck, longer, {}) is State.WAITS
    assert state_of(stuck, wider, {}) is State.DIFFERS


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (Found(PLACE), State.SILENT),
        (Found(PLACE, refused=True), State.CLOSED),
        (Found(PLACE, look="its process is gone"), State.CLOSED),
        (Found(PLACE, look="its process sleeps"), State.SEEN),
    ],
)
def test_states_of_ranks_that_do_not_answer(found, state):
    assert state_of(STUCK, found, {}) is state


@pytest.mark.parametrize(
    ("rank", "others", "told"),
    [
        (0, {}, True),
        (0, {1: answer(STUCK)}, True),
        (1, {0: answer(STUCK)}, False),
        (1, {0: answer(changed(started_s=3.0))}, True),  # it came late itself
        (1, {0: answer(BEFORE)}, True),
        (1, {2: answer(STUCK, reported=17)}, False),
        (1, {2: answer(STUCK, reported=16)}, True),
        (0, {1: answer(changed(number=16))}, False),  # the earlier operation is the cause
        (1, {0: answer(changed(number=18))}, True),
        (1, {0: answer(BEFORE, ON_OTHER_LINK)}, False),  # each waits for the other
        (0, {1: answer(BEFORE, ON_OTHER_LINK)}, True),
    ],
)
def test_one_rank_speaks(rank, others, told):
    assert speaks(rank, STUCK, others, {"other": 3}, late_s=29.0) is told


@pytest.mark.parametrize("size", [2, 3, 4, 7, 64, 1000])
def test_one_of_all_that_wait_speaks(size):
    """Whatever each hears of the others, if they wait equally long."""
    all_told = {rank: answer(changed(number=17 - rank % 2)) for rank in range(size)}
    speakers = [
        rank
        for rank, told in all_told.items()
        if speaks(
            rank,
            told.standing,
            {other: said for other, said in all_told.items() if other != rank},
            {},
            29.0,
        )
    ]
    assert speakers == [1]


@pytest.mark.parametrize(
    ("rank", "below"),
    [(0, []), (1, [1]), (8, [8]), (9, [8, 1]), (25, [8, 16, 1]), (99, [8, 16, 32, 43])],
)
def test_all_others_are_asked_the_lowest_first(rank, below):
    asked = list(batches(range(100), rank))
    assert [other for batch in asked for other in batch] == [r for r in range(100) if r != rank]
    assert [len(batch) for batch in asked] == [*below, 99 - rank]


@pytest.mark.parametrize("size", [2, 3, 4, 7, 64, 100])
@pytest.mark.parametrize("dead", [0, 1])
def test_what_neighbours_tell_on_reaches_all(size, dead):
    ranks = tuple(range(10, 10 + size))
    silent = set(ranks[1 : 1 + dead])
    told, new = {ranks[0]}, [ranks[0]]
    while new:
        others = set(neighbours(ranks, new.pop())) - told - silent
        told |= others
        new += others
    assert told == set(ranks) - silent
    assert max(len(neighbours(ranks, rank)) for rank in ranks) <= 2 * size.bit_length()
    assert all(rank not in neighbours(ranks, rank) for rank in ranks)


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([3], "rank 3"),
        ([1, 0], "ranks 0-1"),
        ([0, 2], "ranks 0, 2"),
        ([4, 0, 1, 2], "ranks 0-2, 4"),
        (range(100), "ranks 0-99"),
    ],
)
def test_ranks_in_words(ranks, words):
    assert words_of(ranks) == words
