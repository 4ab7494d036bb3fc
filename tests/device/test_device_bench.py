"""The benchmark of codecs on a GPU: its rows, and that it notices wrong frames, on the stand-in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mpimlsys.bench import device_codecs

PROGRAM = Path(__file__).with_name("bench_on_standin.py")
COUNT = 20001  # its last sector is not whole
BYTES = 4 * COUNT

pytestmark = [pytest.mark.mpi, pytest.mark.one_mpi]


def bench(standin_path, codecs, *wrong):
    return subprocess.run(
        [sys.executable, PROGRAM, standin_path, codecs, str(BYTES), *wrong],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_rows_of_every_codec_and_operation(standin_path):
    done = bench(standin_path, device_codecs.DEFAULT)
    assert done.returncode == 0, done.stderr
    rows = {(row["codec"], row["operation"]): row for row in json.loads(done.stdout)["rows"]}
    names = device_codecs.DEFAULT.split(",")
    sparse = [name for name in names if name.startswith(("top_k", "random_k"))]
    operations = ("encode", "encode_feedback", "decode")
    assert set(rows) == {(name, operation) for name in names for operation in operations} | {
        (name, "add_8") for name in sparse
    }
    for (name, operation), row in rows.items():
        assert 0 < row["p10_s"] <= row["median_s"] <= row["p90_s"]
        assert row["bytes_per_s"] == row["bytes_moved"] / row["median_s"]
        assert row["ratio_to_copy"] == row["bytes_per_s"] / row["copy_bytes_per_s"]
        array = {"encode": BYTES, "encode_feedback": 3 * BYTES, "decode": BYTES}.get(operation)
        if array is not None and (name, operation) != ("random_k:0.01", "encode"):
            assert row["bytes_moved"] == array + row["frame_bytes"]


def test_sectors_of_sparse_frames(standin_path):
    """One element of a hundred, each in a sector of its own, as strata are longer than sectors."""
    done = bench(standin_path, "random_k:0.01")
    assert done.returncode == 0, done.stderr
    rows = {row["operation"]: row for row in json.loads(done.stdout)["rows"]}
    drawn = round(0.01 * COUNT)
    sectors = rows["encode"]["bytes_moved"] - rows["encode"]["frame_bytes"]
    assert 0.9 * 32 * drawn < sectors <= 32 * drawn
    added = rows["add_8"]["bytes_moved"] - rows["add_8"]["frame_bytes"]
    assert 0.9 * 8 * 2 * 32 * drawn < added <= 8 * 2 * 32 * drawn


def test_a_wrong_frame_is_noticed(standin_path):
    done = bench(standin_path, "int8:stochastic", "wrong")
    assert done.returncode == 1
    assert "the device's frame is not the CPU's" in done.stderr


def test_rows_of_all_reduce(on_ranks):
    done = on_ranks(
        2,
        "from mpimlsys.bench import device_allreduce\n"
        "device_allreduce.run(sizes='4KiB,5MiB', algorithms='auto,staged,ring', as_json=True)\n",
    )
    result = json.loads(done.stdout)
    rows = result["rows"]
    assert [(row["bytes"], row["algorithm"]) for row in rows] == [
        (size, algorithm) for size in (4096, 5 << 20) for algorithm in ("auto", "staged", "ring")
    ]
    for row in rows:
        assert row["in_a_row"] == 8
        assert 0 < row["p10_s"] <= row["median_s"] <= row["p90_s"]
        moved = 2 * result["ranks_of_a_gpu"] * row["bytes"]
        assert row["moved_bytes_per_s"] == moved / row["in_a_row_s"]
        assert row["ratio_to_copy"] == row["moved_bytes_per_s"] / row["copy_bytes_per_s"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threads", "2"], "--threads are of the CPU"),
        (["--codecs", "fp61"], "unknown codec 'fp61'"),
        (["--sizes", "1"], "is not a size"),
    ],
)
def test_mistakes(options, words):
    done = subprocess.run(
        [sys.executable, "-m", "mpimlsys", "bench", "codecs", "--device", "cuda", *options],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
