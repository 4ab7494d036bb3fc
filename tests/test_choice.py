"""What auto stands for: pure decisions, and a table that all ranks share and that a file keeps."""

import json
import threading

import numpy as np
import pytest

from mpimlsys import choice

ONE, APART, MIXED = [0, 0], [0, 1, 2], [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("nodes", "usual"), [(ONE, "shared"), (APART, "ring"), (MIXED, "hierarchical")]
)
def test_candidates_begin_with_the_usual_one(nodes, usual):
    assert choice.usual(nodes) == usual
    names = choice.candidates(nodes, 16 << 10)
    assert names[0] == usual
    assert {"ring", "halving", "mpi", "doubling"} <= set(names)
    assert len(set(names)) == len(names)
    assert "doubling" not in choice.candidates(nodes, 1 << 20)


def test_another_algorithm_must_be_clearly_faster():
    measured = {
        16 << 10: {"ring": 10.0, "doubling": 5.0, "mpi": 9.0},
        64 << 10: {"ring": 10.0, "doubling": 9.6, "mpi": 9.8},
        256 << 10: {"ring": 10.0, "doubling": 20.0, "mpi": 9.0},
    }
    assert choice.table_of(measured, "ring") == [
        (32 << 10, "doubling"),
        (128 << 10, "ring"),
        (512 << 10, "mpi"),
        (choice.FOREVER, "ring"),
    ]


def test_the_largest_size_speaks_for_all_above_it():
    measured = {choice.SIZES[-1]: {"ring": 10.0, "mpi": 5.0}}
    assert choice.table_of(measured, "ring") == [(choice.FOREVER, "mpi")]
    measured = {size: {"ring": 1.0} for size in choice.SIZES}
    assert choice.table_of(measured, "ring") == [(choice.FOREVER, "ring")]


RUNG = json.dumps({"measured": {str(choice.SIZES[0]): {"ring": 1.0, "rung": 0.1}}})


def chosen(extension, folder, nodes, machine="a machine"):
    world = extension.ThreadWorld(len(nodes))
    found = [None] * len(nodes)

    def rank(number):
        transport = world.transport(number)
        extension.place(transport, nodes)
        found[number] = choice.choose(extension, transport, nodes, machine, folder / str(number))
        extension.choose(transport, found[number].table)
        array = np.ones(100_000)
        extension.all_reduce(transport, array)
        assert (array == len(nodes)).all()

    threads = [threading.Thread(target=rank, args=(i,)) for i in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(one is not None for one in found)
    assert all((one.table, one.measured) == (found[0].table, found[0].measured) for one in found)
    return found[0]


@pytest.mark.parametrize("nodes", [APART, MIXED])
def test_all_ranks_hold_what_rank_0_measured_or_read(extension, tmp_path, nodes):
    first = chosen(extension, tmp_path, nodes)
    assert first.source == "measured now"
    assert set(first.measured[choice.SIZES[0]]) == set(choice.candidates(nodes, choice.SIZES[0]))
    # how fast the link is seen to be is part of the file's name, and may differ by a step
    for _ in range(10):
        second = chosen(extension, tmp_path, nodes)
        if second.source != "measured now":
            break
    (path,) = [p for p in (tmp_path / "0").iterdir() if str(p) == second.source]
    assert json.loads(path.read_text())["key"]["machine"] == "a machine"
    assert second.table == choice.table_of(second.measured, second.usual)
    assert [p.name for p in tmp_path.iterdir()] == ["0"], "only rank 0 writes"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"measured": {}}',
        '{"measured": {"7": {"ring": 1}}}',
        '{"measured": 3}',
        RUNG,
    ],
)
def test_a_file_that_cannot_be_used_is_measured_anew(tmp_path, content):
    path = tmp_path / "allreduce.json"
    path.write_text(content)
    assert choice._read(path, APART) is None


def test_a_folder_that_cannot_be_written_does_no_harm(extension, tmp_path):
    (tmp_path / "0").write_text("a file where the folder should be")
    assert chosen(extension, tmp_path, APART).source == "measured now"
