"""The text of reports."""

import dataclasses
import time

import pytest

from mpimlsys.hangs.machine import Place
from mpimlsys.hangs.messages import NOTHING_YET, Answer, Elsewhere
from mpimlsys.hangs.report import Stall, name_of, report_of
from mpimlsys.hangs.verdict import Found

NOW = time.mktime((2026, 3, 1, 2, 30, 0, 0, 0, -1))
STUCK = dataclasses.replace(
    NOTHING_YET,
    operation="all-reduce",
    label="bucket 3",
    dtype="float32",
    axes=2,
    shape=(1250, 256),
    number=17,
    running=True,
    started_s=31.2,
    left_s=568.0,
)
BEFORE = dataclasses.replace(STUCK, label="bucket 2", number=16, running=False, ended_s=31.0)


def place(rank):
    return Place(f"n{rank // 2}", "boot", "net", "pid", 4700 + rank, 5, ())


def found(rank, standing, *elsewhere, stack=()):
    return Found(place(rank), Answer(standing, elsewhere, stack, 0), stack=stack)


def told(ranks, *, standing=STUCK, mine=None, background=False):
    return report_of(Stall(0, standing, background, ranks, mine or {}, NOW)).splitlines()


def test_a_late_rank():
    stack = ("/home/u/train.py:12 in load_shard", "/home/u/train.py:40 in <module>")
    ranks = {rank: found(rank, STUCK) for rank in (0, 1, 2, 4)}
    ranks[1] = found(1, dataclasses.replace(STUCK, started_s=40.0))
    ranks[3] = found(3, BEFORE, stack=stack)
    assert told(dict(sorted(ranks.items())), background=True) == [
        "mpimlsys: no progress for 40 s in all-reduce #17 of bucket 3, float32 (1250, 256), in the "
        "background among ranks 0-4 (since 02:29:20)",
        "  ranks 0-2, 4: waiting",
        "  rank 3 (n1, pid 4703): not arrived; ended all-reduce #16 of bucket 2, "
        "float32 (1250, 256) 31 s ago, and is now at",
        "      /home/u/train.py:12 in load_shard",
        "      /home/u/train.py:40 in <module>",
        "  See what rank 3 did there. Where such work may take that long, raise "
        "comm.stall_warning_s.",
        "  The job waits on, until a Timeout ends it at 02:39:28 (comm.timeout_s).",
    ]


def test_ranks_with_the_same_trouble_are_told_together():
    ranks = {rank: found(rank, STUCK) for rank in range(2)}
    ranks |= {rank: found(rank, NOTHING_YET) for rank in range(2, 6)}
    lines = told(ranks)
    assert "  ranks 2-5: not arrived; has called nothing here before" in lines
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("late", "wanted"),
    [
        (
            Found(place(1)),
            ("no answer; the machine is down or cannot be reached", "See whether n0 can be"),
        ),
        (
            Found(place(1), refused=True),
            ("no answer; its program has come to its end", "output of rank 1"),
        ),
        (
            Found(place(1), look="its process is stopped (SIGSTOP); 'kill -CONT 4701'"),
            ("no answer; its process is stopped (SIGSTOP); 'kill -CONT 4701'", ""),
        ),
        (
            Found(place(1), look="its process computes", stack=("a.py:1 in f",)),
            ("its process computes, at\n      a.py:1 in f", ""),
        ),
        (
            found(1, dataclasses.replace(BEFORE, failure="all-reduce #16: no answer")),
            ("gave up; all-reduce #16: no answer", "first error in its output"),
        ),
        (
            found(1, dataclasses.replace(STUCK, operation="broadcast", shape=(3, 4)), stack=("a",)),
            ("in another operation, broadcast #17 of bucket 3, float32 (3, 4), at", "All"),
        ),
        (
            found(1, dataclasses.replace(STUCK, number=16)),
            ("not arrived; still in all-reduce #16", ""),
        ),
        (found(1, dataclasses.replace(STUCK, running=False)), ("done with it", "")),
        (
            found(1, BEFORE, Elsewhere("b", "among ranks 0-1", STUCK)),
            ("for 31 s in all-reduce #17 of bucket 3, float32 (1250, 256), among ranks 0-1", ""),
        ),
    ],
)
def test_kinds_of_trouble(late, wanted):
    text = "\n".join(told({0: found(0, STUCK), 1: late}))
    for part in wanted:
        assert part in text
    assert "rank 0: waiting" in text


def test_ranks_that_wait_for_each_other():
    other = Elsewhere("b", "among ranks 0-1", dataclasses.replace(STUCK, number=5, label=""))
    text = "\n".join(told({0: found(0, STUCK), 1: found(1, BEFORE, other)}, mine={"b": 4}))
    assert "for 31 s in all-reduce #5, float32 (1250, 256), among ranks 0-1, which waits" in text
    assert "call their operations in the same order" in text


def test_all_ranks_are_there():
    standing = dataclasses.replace(STUCK, step=2, steps=6)
    ranks = {
        rank: found(rank, dataclasses.replace(standing, peer=(rank + 1) % 2)) for rank in range(2)
    }
    text = "\n".join(told(ranks))
    assert (
        "ranks 0-1: waiting, rank 0 for rank 1 at step 2 of 6, rank 1 for rank 0 at step 2 of 6"
        in text
    )
    assert "the network between them is slow or broken" in text


def test_a_thousand_ranks_fit_on_a_page():
    ranks = {rank: found(rank, STUCK) for rank in range(500)}
    ranks |= {rank: found(rank, BEFORE, stack=(f"a.py:{rank} in f",)) for rank in range(500, 1000)}
    lines = told(ranks)
    assert len(lines) < 30
    assert "  ranks 508-999: not here either" in lines


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "text"),
    [
        (-1, (), "", "barrier #1"),
        (0, (), "int64", "barrier #1, int64 ()"),
        (1, (7,), "float32", "barrier #1, float32 (7,)"),
        (2, (7, 0), "", "barrier #1, an array (7, 0)"),
        (6, (1, 2, 3, 4), "int8", "barrier #1, int8 (1, 2, 3, 4, ...)"),
    ],
)
def test_names_of_operations(axes, shape, dtype, text):
    standing = dataclasses.replace(
        NOTHING_YET, operation="barrier", number=1, axes=axes, shape=shape, dtype=dtype
    )
    assert name_of(standing) == text
