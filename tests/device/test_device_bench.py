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
    rows = {(row["codec"], row["operation"]): row for row in json.loads(done.stdout)}
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
    rows = {row["operation"]: row for row in json.loads(done.stdout)}
    drawn = round(0.01 * COUNT)
    sectors = rows["encode"]["bytes_moved"] - rows["encode"]["frame_bytes"]
    assert 0.9 * 32 * drawn < sectors <= 32 * drawn
    added = rows["add_8"]["bytes_moved"] - rows["add_8"]["frame_bytes"]
    assert 0.9 * 8 * 2 * 32 * drawn < added <= 8 * 2 * 32 * drawn


def test_a_wrong_frame_is_noted_and_the_others_are_timed(standin_path):
    done = bench(standin_path, "fp16,int8:stochastic", "wrong")
    assert done.returncode == 0, done.stderr
    rows = {(row["codec"], row["operation"]): row for row in json.loads(done.stdout)}
    for operation in ("encode", "encode_feedback"):
        row = rows["int8:stochastic", operation]
        assert row["wrong"] == "int8:stochastic: the device's frame is not the CPU's"
        assert (row["repeats"], row["median_s"], row["ratio_to_copy"]) == (0, None, None)
    for key in (("int8:stochastic", "decode"), ("fp16", "encode"), ("fp16", "encode_feedback")):
        assert rows[key]["wrong"] == ""
        assert rows[key]["median_s"] > 0


def test_an_error_of_the_gpu_ends_it_and_what_was_timed_stays(standin_path):
    done = bench(standin_path, "fp16", "broken")
    assert done.returncode == 1
    assert "an illegal memory access" in done.stderr
    rows = {row["operation"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"encode", "encode_feedback", "decode"}
    assert 1 <= rows["decode"]["repeats"] <= 3


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
        assert row["wrong"] == ""
        assert row["in_a_row"] == 8
        assert 0 < row["p10_s"] <= row["median_s"] <= row["p90_s"]
        moved = 2 * result["ranks_of_a_gpu"] * row["bytes"]
        assert row["moved_bytes_per_s"] == moved / row["in_a_row_s"]
        assert row["ratio_to_copy"] == row["moved_bytes_per_s"] / row["copy_bytes_per_s"]


WRONG_SUM = """
def one_off(self, algorithm, there=device_allreduce._Size._reduce):
    there(self, algorithm)
    if (self.nbytes, algorithm, mls.init().rank) == (4096, "auto", 1):
        ctypes.c_float.from_address(self.array.address + 4).value += 1
device_allreduce._Size._reduce = one_off
"""
FAILS_LATER = """
def fail(self, algorithms, there=device_allreduce._Size.rows):
    if self.nbytes == 8192:
        raise ConfigError("the GPU: an illegal memory access")
    return there(self, algorithms)
device_allreduce._Size.rows = fail
"""
RUN = """
import ctypes
from mpimlsys.bench import device_allreduce
from mpimlsys.errors import ConfigError
{mistake}
status = device_allreduce.run(sizes="4KiB,8KiB", algorithms="auto,staged", as_json=True)
sys.exit(status)
"""


def test_a_wrong_sum_of_any_rank_is_noted_and_the_other_sizes_go_on(on_ranks):
    done = on_ranks(2, RUN.format(mistake=WRONG_SUM))
    assert done.returncode == 1
    rows = json.loads(done.stdout.splitlines()[0])["rows"]  # mpirun comments on the status
    found = {(row["bytes"], row["algorithm"]): row["wrong"] for row in rows}
    assert found == {
        (4096, "auto"): "a wrong sum: auto",
        (4096, "staged"): "",
        (8192, "auto"): "",
        (8192, "staged"): "",
    }


def test_an_error_at_a_size_leaves_those_before(on_ranks):
    done = on_ranks(2, RUN.format(mistake=FAILS_LATER))
    assert done.returncode != 0
    assert "an illegal memory access" in done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["bytes"] for row in json.loads(lines[0])["rows"]] == [4096, 4096]


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
