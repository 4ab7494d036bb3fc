"""When a checkpoint is due."""

import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.train.cadence import Cadence, parse_cadence


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30s", Cadence(seconds=30)),
        ("5min", Cadence(seconds=300)),
        ("1.5 h", Cadence(seconds=5400)),
        ("100 steps", Cadence(steps=100)),
        ("1 step", Cadence(steps=1)),
        ("2 epochs", Cadence(epochs=2)),
        ("end", Cadence()),
    ],
)
def test_what_can_be_said(text, wanted):
    assert parse_cadence(text) == wanted


@pytest.mark.parametrize("text", ["", "5", "min", "0s", "0 steps", "1.5 epochs", "-3 steps", "5 m"])
def test_what_cannot(text):
    with pytest.raises(ConfigError, match=r"checkpoint\.every"):
        parse_cadence(text)


def test_when_it_is_due():
    def due(cadence, elapsed_s=0.0, steps_done=1, epochs_done=0):
        return cadence.due(elapsed_s=elapsed_s, steps_done=steps_done, epochs_done=epochs_done)

    assert [due(Cadence(seconds=10), elapsed_s=t) for t in (9.9, 10)] == [False, True]
    assert [due(Cadence(steps=3), steps_done=n) for n in (1, 2, 3, 6)] == [False, False, True, True]
    assert [due(Cadence(epochs=2), epochs_done=n) for n in (0, 1, 2)] == [False, False, True]
    assert not due(Cadence(), elapsed_s=1e9, steps_done=100, epochs_done=100)
