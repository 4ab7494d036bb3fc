"""Alignment of clocks, on clocks made up for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpimlsys.timeline.clocks import Reading, aligned, reading

ECHO = [("sent", "i8"), ("answered", "i8"), ("received", "i8")]
HOUR_NS = 3600 * 10**9


def echoes(true_ns, clock, ways):
    """Of a rank whose clock shows ``clock(true time)``; rank 0's shows the true time."""
    rows, at = [], true_ns
    for out, back in ways:
        answered, received = at + out, at + out + back
        rows.append((clock(at), answered, clock(received)))
        at = received + 1000
    return np.array(rows, ECHO)


def clock_of(offset_ns, drift):
    return lambda true_ns: true_ns + offset_ns + round(true_ns * drift)


WAYS = st.lists(
    st.tuples(st.integers(500, 200_000), st.integers(500, 200_000)), min_size=1, max_size=20
)


@given(
    offset_ns=st.integers(-(10**15), 10**15),
    drift=st.floats(-1e-4, 1e-4),
    begin=WAYS,
    end=WAYS,
    length_ns=st.integers(10**6, HOUR_NS),
)
def test_times_are_right_within_the_error_of_the_readings(offset_ns, drift, begin, end, length_ns):
    clock = clock_of(offset_ns, drift)
    after = 10**9
    first = reading(echoes(after, clock, begin))
    after += sum(map(sum, begin)) + 20_000
    last = reading(echoes(after + length_ns, clock, end))
    true = np.linspace(after, after + length_ns, 50).astype(np.int64)
    mine = np.array([clock(time) for time in true.tolist()], np.int64)
    found = aligned(mine, first, last)
    assert (np.diff(found) >= 0).all()
    # where it cannot be told from an offset that stays, drift adds as much again
    allowed = 2 * (first.error_ns + last.error_ns) + 10
    assert np.abs(found - true).max() <= allowed


@given(begin=WAYS, end=WAYS)
def test_one_clock_is_left_alone(begin, end):
    def same(time):
        return time

    first, last = reading(echoes(0, same, begin)), reading(echoes(HOUR_NS, same, end))
    times = np.array([5, 6, 10**12, 2 * HOUR_NS])
    assert aligned(times, first, last).tolist() == times.tolist()


def test_the_fastest_echo_counts():
    found = reading(np.array([(0, 900, 1000), (2000, 2060, 2100), (3000, 3400, 3900)], ECHO))
    assert found == Reading(at_ns=2050, offset_ns=10, error_ns=50)


def test_rank_0_has_no_echoes_and_keeps_its_times():
    own = reading(np.empty(0, ECHO))
    assert aligned(np.array([3, 10**15]), own, own).tolist() == [3, 10**15]


@pytest.mark.parametrize("times", [[], [7]])
def test_few_times_are_no_special_case(times):
    first, last = Reading(0, 10**6, 10), Reading(10**9, 2 * 10**6, 10)
    assert len(aligned(np.array(times, np.int64), first, last)) == len(times)
