"""The factor of the loss in float16 follows PyTorch's rules, and is kept."""

import pytest

from mpimlsys.errors import Diverged
from mpimlsys.train.lossscale import LossScale


def test_it_is_halved_at_once_and_doubled_after_2000_good_steps():
    scale = LossScale()
    assert scale.factor == 2**16
    assert not scale.may_update(False, 1, 0.1)
    assert scale.factor == 2**15
    assert all(scale.may_update(True, step, 0.1) for step in range(1999))
    assert scale.factor == 2**15
    assert scale.may_update(True, 2001, 0.1)
    assert scale.factor == 2**16


def test_a_step_that_is_left_out_begins_the_count_again():
    scale = LossScale()
    for finite in [True] * 1999 + [False] + [True] * 1999:
        scale.may_update(finite, 1, 0.1)
    assert scale.factor == 2**15
    scale.may_update(True, 1, 0.1)
    assert scale.factor == 2**16


def test_its_state_goes_round():
    scale, other = LossScale(), LossScale()
    for finite in [False] * 30 + [True] * 7 + [False]:
        scale.may_update(finite, 1, 0.1)
    other.load_state_dict(scale.state_dict())
    assert other.state_dict() == scale.state_dict()
    other.load_state_dict({})
    assert other.factor == scale.factor


def test_it_gives_up():
    scale = LossScale()
    for step in range(1, 50):
        scale.may_update(False, step, 0.1)
    with pytest.raises(Diverged, match="in 50 steps up to 50"):
        scale.may_update(False, 50, 0.1)
