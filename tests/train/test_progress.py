"""Progress: what is shown and when, with a clock of the tests' own; once on a real terminal."""

import fcntl
import io
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

from mpimlsys.train.progress import Lines, Moment, Pace, Progress, display_for, duration, line


class Run:
    """A run whose steps take as long as the test says."""

    def __init__(self, total=100, first=0, epochs=2, per_epoch=50):
        self.now, self.step, self.per_epoch = 1000.0, first, per_epoch
        self.stream = io.StringIO()
        self.progress = Progress(
            "images", display=Lines(self.stream, "images"), clock=lambda: self.now
        )
        self.progress.start(total, first, epochs)

    def steps(self, count, seconds):
        for _ in range(count):
            self.now += seconds
            self.step += 1
            epoch = (self.step - 1) // self.per_epoch
            self.progress.step(self.step, epoch, 1 / self.step, 64)
        return self

    @property
    def shown(self):
        return [int(found) for found in re.findall(r"step +(\d+)/", self.stream.getvalue())]


def test_a_line():
    moment = Moment(120, 468, 0, 3, 0.3124, 12345.4, 41.8)
    assert line(moment, "images") == (
        "epoch 1/3  step 120/468  loss 0.3124   12,345 images/s  00:42 left"
    )
    unknown = Moment(1, 468, 0, 3, float("nan"), None, None)
    assert line(unknown, "samples") == (
        "epoch 1/3  step   1/468  loss nan          -- samples/s  --:-- left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00"), (59.6, "01:00"), (3599, "59:59"), (3723, "1:02:03"), (183_840, "2 d 03:04")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_lines_come_every_two_seconds_at_first_and_every_ten_later():
    assert Run(total=1000, per_epoch=1000).steps(50, 1.0).shown == [2, 4, 6, 8, 10, 20, 30, 40, 50]


def test_lines_of_slow_steps_come_with_each_step():
    assert Run().steps(3, 60.0).shown == [1, 2, 3]


def test_the_ends_of_epochs_are_shown():
    run = Run(per_epoch=35, epochs=3).steps(100, 1.0)
    assert {35, 70, 100} <= set(run.shown)


def test_short_epochs_do_not_flood():
    run = Run(total=10_000, per_epoch=1, epochs=10_000).steps(10_000, 0.001)
    assert len(run.shown) <= 10
    assert run.shown[-1] == 10_000


def test_the_last_step_is_shown_at_once():
    assert Run(total=3).steps(3, 0.001).shown == [3]


def test_speed_and_time_left():
    text = Run(total=100, per_epoch=100, epochs=1).steps(10, 1.0).stream.getvalue()
    assert text.splitlines()[-1] == (
        "epoch 1/1  step  10/100  loss 0.1          64 images/s  01:30 left"
    )


def test_a_resumed_run_counts_its_own_steps():
    text = Run(total=100, first=60).steps(10, 1.0).stream.getvalue()
    assert "step  70/100" in text
    assert text.splitlines()[-1].endswith("    64 images/s  00:30 left")


def test_a_note_ends_the_line_of_the_epoch_and_its_time_does_not_count():
    run = Run(total=100, per_epoch=11).steps(11, 1.0)
    run.now += 500.0  # an evaluation
    run.progress.note("epoch 1: test accuracy 97 %")
    lines = run.stream.getvalue().splitlines()
    assert lines[-1] == "epoch 1: test accuracy 97 %"
    assert lines[-2].endswith("    64 images/s  01:29 left")
    assert "step  11/100" in lines[-2]
    run.steps(10, 1.0)
    assert run.shown[-2:] == [11, 21]
    assert run.stream.getvalue().splitlines()[-1].endswith("    64 images/s  01:19 left")


def test_closing_shows_where_it_ended():
    run = Run().steps(5, 1.0)
    with run.progress:
        pass
    assert run.shown == [2, 4, 5]


def test_a_clock_that_stands_still():
    run = Run(total=2).steps(2, 0.0)
    assert "-- images/s  --:-- left" in run.stream.getvalue()


def test_the_pace_is_that_of_the_last_seconds():
    pace = Pace()
    pace.restart(0.0, 0, 0)
    assert pace.left_s(10) is None
    for now in range(1, 11):
        pace.add(float(now), now, 10 * now)
    assert (pace.samples_per_s, pace.left_s(10)) == (10.0, 10.0)
    for now in range(11, 21):
        pace.add(float(now), 10 + (now - 10) * 4, 100 + (now - 10) * 40)
    assert pace.samples_per_s == 40.0


def test_a_file_gets_lines(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        assert isinstance(display_for(stream, "images"), Lines)


CHILD = """
import time
from mpimlsys.train.progress import Progress
with Progress("images") as progress:
    progress.start(40, 0, 2)
    for step in range(1, 41):
        time.sleep(0.01)
        progress.step(step, (step - 1) // 20, 1 / step, 64)
        if step == 20:
            progress.note("epoch 1: test accuracy [97 %]")
            print("printed meanwhile")
print("after")
"""


def on_terminal(columns, term):
    """What a child writes to a terminal of its own."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": term},
    )
    os.close(follower)
    written, deadline = b"", time.monotonic() + 60
    try:
        while select.select([leader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                data = os.read(leader, 65536)
            except OSError:  # the child has closed its end
                break
            if not data:
                break
            written += data
        errors = child.communicate(timeout=10)[1]
    finally:
        child.kill()
        os.close(leader)
    assert child.returncode == 0, errors.decode()
    return written.decode()


def test_a_terminal_gets_a_bar():
    text = on_terminal(100, "xterm")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    frames = plain.split("\r")
    assert any("━" in frame and "step  1/40" in frame for frame in frames)
    assert any("━" in frame and "epoch 2/2" in frame and "step 40/40" in frame for frame in frames)
    assert "epoch 1: test accuracy [97 %]\r\n" in plain
    assert "printed meanwhile\r\n" in plain
    assert plain.endswith("after\r\n")
    lines = text.split("\r\n")
    bars = [index for index, line in enumerate(lines) if "━" in line]
    # every frame is a whole line; all but the first, and the one below a note, erase the one above
    redrawn = [index for index in bars if lines[index].startswith("\x1b[1A\x1b[2K")]
    assert len(redrawn) >= len(bars) - 2 > 0
    assert "\x1b[?25l" not in text  # the cursor is never hidden, so nothing can lose it


@pytest.mark.parametrize(("columns", "term"), [(0, "xterm"), (100, "dumb")])
def test_a_terminal_that_nobody_watches_gets_lines(columns, term):
    text = on_terminal(columns, term)
    assert "\x1b" not in text
    assert "step 40/40" in text
