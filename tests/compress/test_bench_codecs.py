"""The benchmark of the codecs: what it prints, and what it refuses."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.mpi

NAMES = "fp16,int8:stochastic,sign,top_k:0.01+int8"


def bench(*options):
    command = [sys.executable, "-m", "mpimlsys", "bench", "codecs", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_rows_of_every_case():
    done = bench("--codecs", NAMES, "--sizes", "4KiB,100KiB", "--threads", "1,2", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["bytes"], row["threads"], row["codec"]) for row in rows] == [
        (size, threads, name)
        for size in (4096, 102400)
        for threads in (1, 2)
        for name in NAMES.split(",")
    ]
    for row in rows:
        for key in ("encode_bytes_per_s", "decode_bytes_per_s", "memcpy_bytes_per_s"):
            assert row[key] > 0
        assert (row["reference_encode_bytes_per_s"] is None) == row["codec"].startswith("top_k")
        assert "torch_encode_bytes_per_s" in row
    frames = {(row["codec"], row["threads"]): row["frame_bytes"] for row in rows[4:]}
    assert frames["fp16", 1] == 32 + 51200
    assert frames["fp16", 2] == 2 * 32 + 51200


def test_a_table_is_printed():
    done = bench("--codecs", "natural", "--sizes", "4KiB", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "natural" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codecs", "fp17"], "unknown codec 'fp17'"),
        (["--codecs", "fp16", "--sizes", "1KB"], "'1KB' is not a size"),
        (["--codecs", "fp16", "--threads", "0"], "'0' is not a number of threads"),
    ],
)
def test_mistakes(options, message):
    done = bench(*options)
    assert done.returncode != 0
    assert message in done.stderr
