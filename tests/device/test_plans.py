"""Which bytes of a GPU's arrays go where."""

import itertools

import numpy as np
import pytest

from mpimlsys.device import plans


@pytest.mark.parametrize("nbytes", [0, 1, 7, 8, 9, 100])
def test_a_cut_place_is_whole(nbytes):
    places = plans.cut((1000, nbytes), 8)
    lengths = [length for _, length in places]
    assert places == plans.consecutive(1000, lengths)
    assert sum(lengths) == nbytes
    assert all(length == 8 for length in lengths[:-1])
    assert all(0 < length <= 8 for length in lengths)


def test_slices_of_places_are_what_is_left_of_each():
    places = plans.consecutive(100, [10, 0, 3, 8])
    assert places == [(100, 10), (110, 0), (110, 3), (113, 8)]
    assert plans.slice_of(places, 0, 8) == [(100, 8), (110, 0), (110, 3), (113, 8)]
    assert plans.slice_of(places, 8, 8) == [(108, 2), (118, 0), (118, 0), (121, 0)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_what_is_pulled_is_what_is_sent(ranks):
    random = np.random.default_rng(ranks)
    lengths = random.integers(0, 5, (ranks, ranks)).tolist()
    sent = [np.arange(sum(row), dtype=np.uint8) + 35 * sender for sender, row in enumerate(lengths)]
    for rank in range(ranks):
        wanted = [
            np.split(sent[sender], np.cumsum(row))[rank] for sender, row in enumerate(lengths)
        ]
        memory = np.full(sum(row[rank] for row in lengths), 255, np.uint8)
        for pull in plans.pulls_of(lengths, rank, into=0):
            part = sent[pull.rank][pull.start : pull.start + pull.nbytes]
            memory[pull.into : pull.into + pull.nbytes] = part
        assert memory.tolist() == np.concatenate(wanted).tolist()


@pytest.mark.parametrize(
    ("rows", "row", "ranks"), list(itertools.product([1, 2, 3, 7, 12], [4, 20, 64], [1, 2, 3, 5]))
)
def test_rounds_bring_each_rank_its_share_once(rows, row, ranks):
    got = [[] for _ in range(ranks)]
    for start, length, count in plans.rounds(rows, row, ranks, most=16):
        assert 0 < length <= 16
        for rank in range(count):
            got[rank] += range(start, start + length)
    shares = plans.shares(rows, ranks)
    assert sum(shares) == rows
    assert [list(range(share * row)) for share in shares] == got


def test_neighbours_are_fused_up_to_a_limit():
    assert plans.fused([], 8) == []
    assert plans.fused([3, 5, 1], 8) == [range(2), range(2, 3)]
    assert plans.fused([9, 1, 0, 7, 1, 20], 8) == [range(1), range(1, 4), range(4, 5), range(5, 6)]
