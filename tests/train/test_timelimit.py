"""A run stops at the last checkpoint that fits, or else at the last moment."""

import math

import pytest

from mpimlsys.train.timelimit import should_stop


@pytest.mark.parametrize(
    ("left_s", "due", "stops"),
    [
        (math.inf, True, False),
        (1000, True, False),
        (331, True, False),  # the next checkpoint, in 300 s, is on the disk in time
        (329, True, True),
        (329, False, False),  # what was done since the last checkpoint would be lost
        (31, False, False),
        (29, False, True),  # the last moment
    ],
)
def test_stops_at_the_last_checkpoint_that_fits(left_s, due, stops):
    assert should_stop(left_s=left_s, due=due, interval_s=300, saving_s=10) == stops
