"""The decision of compress = "auto", and what takes it back."""

import math
from dataclasses import replace

import pytest

from mpimlsys.compress.auto import (
    CANDIDATES,
    Guard,
    Measured,
    Speed,
    at_ranks,
    decide,
    fastest,
    predict,
    table,
    traffic,
)

INT8 = next(codec for codec in CANDIDATES if codec.name == "int8")
SLOW_LINK = Measured(
    ranks=4,
    counts=(1_000_000, 1_000_000),
    ready_s=(0.05, 0.1),
    compute_s=0.1,
    step_s=1.1,
    dense_s=(0.5, 0.5),
    latency_s=1e-4,
    seconds_per_byte=8e-8,
    busy_cores=False,
    speeds={INT8: Speed(1e-9, 1e-9, 1.02)},
)


def test_a_slow_link_gets_a_codec_and_says_what_it_saves():
    decision = decide(SLOW_LINK)
    assert decision.chosen.codec == INT8
    assert decision.chosen.compressed == (True, True)
    assert "int8 for 2 of 2 buckets" in decision.why
    assert "% less" in decision.why
    assert len(table(decision)) == 2


def test_a_bucket_waits_for_the_one_before_it():
    dense = predict(SLOW_LINK, None)
    assert dense.step_s == pytest.approx(0.05 + 0.5 + 0.5)
    sent, messages, coding_s = traffic(SLOW_LINK.speeds[INT8], 1_000_000, 4)
    one_s = messages * 1e-4 + sent * 8e-8 + coding_s
    assert predict(SLOW_LINK, INT8).step_s == pytest.approx(0.05 + 2 * one_s)


def test_less_than_5_percent_is_not_worth_it():
    hidden = replace(SLOW_LINK, compute_s=2.0, step_s=2.0, ready_s=(0.9, 1.0))
    decision = decide(hidden)
    assert decision.chosen.codec is None
    assert decision.why.startswith("none: dense steps of 2e+03 ms wait 0%")


def test_slow_coding_on_busy_cores_counts_as_computing():
    slow = {INT8: Speed(1e-7, 1e-8, 1.02)}
    idle = predict(replace(SLOW_LINK, speeds=slow), INT8)
    busy = predict(replace(SLOW_LINK, speeds=slow, compute_s=1.0, busy_cores=True), INT8)
    assert busy.step_s > 1.0 + 0.2
    assert idle.step_s < busy.step_s


def test_a_bucket_that_is_faster_dense_stays_dense():
    mixed = replace(SLOW_LINK, counts=(1_000_000, 10), dense_s=(0.5, 1e-6))
    assert predict(mixed, INT8).compressed == (True, False)


def test_two_ranks_send_whole_frames_and_more_ranks_parts():
    assert traffic(Speed(0, 0, 1.0), 1000, 2)[0] == 1000
    assert traffic(Speed(0, 0, 1.0), 1000, 4)[0] == 1500
    assert at_ranks(SLOW_LINK, 8).dense_s[0] > SLOW_LINK.dense_s[0] / 2


def test_the_guard_goes_back_when_the_loss_rises():
    guard = Guard(dense_loss=1.0)
    assert not any(guard.loss_of_step(0.9) for _ in range(100))
    told = [guard.loss_of_step(3.0) for _ in range(100)]
    assert "the loss rose to" in next(filter(None, told))


def test_a_loss_below_zero_is_no_rise():
    guard = Guard(dense_loss=-2.0)
    assert not any(guard.loss_of_step(-2.1) for _ in range(100))
    assert any(guard.loss_of_step(0.0) for _ in range(100))


def test_the_guard_does_not_judge_by_a_few_steps():
    guard = Guard(dense_loss=1.0)
    assert not any(guard.loss_of_step(3.0) for _ in range(19))


@pytest.mark.parametrize("error", [1.0, math.nan, 5.0])
def test_the_guard_goes_back_when_frames_hold_nothing(error):
    guard = Guard(1.0)
    assert not guard.error_of_step(error)
    assert not guard.error_of_step(error)
    assert "next to nothing" in guard.error_of_step(error)


def test_errors_in_between_are_forgiven_and_unmeasured_ones_passed_over():
    guard = Guard(1.0)
    assert not any(guard.error_of_step(error) for error in (1.0, 1.0, -1.0, 0.5, 1.0, 1.0))


def test_close_candidates_are_tried_and_far_ones_are_not():
    fp16 = next(codec for codec in CANDIDATES if codec.name == "fp16")
    slow = next(codec for codec in CANDIDATES if codec.name == "int4")
    speeds = {
        INT8: Speed(1e-9, 1e-9, 1.02),
        fp16: Speed(1e-9, 1e-9, 1.1),
        slow: Speed(1e-7, 1e-7, 1.0),
    }
    decision = decide(replace(SLOW_LINK, speeds=speeds))
    assert [p.codec for p in decision.contenders()] == [INT8, fp16]
    assert decide(replace(SLOW_LINK, compute_s=2.0)).contenders() == []


def test_of_equal_steps_the_shorter_exchange_is_taken():
    fp16 = next(codec for codec in CANDIDATES if codec.name == "fp16")
    speeds = {fp16: Speed(1e-9, 1e-9, 2.0), INT8: Speed(1e-9, 1e-9, 1.02)}
    hidden = replace(SLOW_LINK, compute_s=0.9, speeds=speeds, busy_cores=False)
    assert predict(hidden, fp16).step_s == predict(hidden, INT8).step_s
    assert decide(hidden).chosen.codec == INT8


def test_what_was_measured_decides_between_the_tried():
    fp16 = next(codec for codec in CANDIDATES if codec.name == "fp16")
    assert fastest({INT8: 0.5, fp16: 0.4}, 1.0)[0] == fp16
    codec, why = fastest({INT8: 0.97, fp16: 1.2}, 1.0)
    assert codec is None
    assert why == "none: steps took int8 970 ms, fp16 1.2e+03 ms; dense ones 1e+03 ms"
