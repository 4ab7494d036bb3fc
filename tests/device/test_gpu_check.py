"""The checks of benchmarks/gpu_check.py on the stand-in: they hold, and notice what is wrong."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAM = HERE / "laws_on_standin.py"


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(HERE.parent.parent / "benchmarks")
    return importlib.import_module("gpu_check")


def laws(standin_path, *mistake):
    return subprocess.run(
        [sys.executable, PROGRAM, standin_path, *mistake],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.mpi
@pytest.mark.one_mpi
def test_every_law_holds(standin_path):
    done = laws(standin_path)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    wanted = ["frames", "unusual_numbers", "damaged_frames", "reductions", "norms", "streams"]
    assert names == wanted


@pytest.mark.mpi
@pytest.mark.one_mpi
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("draw", "the frame is not the CPU's"),
        ("residual", "the residual is not the CPU's"),
        ("behind", "something was written behind the frame"),
        ("factor", "added to something else"),
        ("order", "not NumPy's"),
        ("squares", "other squares"),
        ("clip", "other numbers"),
    ],
)
def test_a_mistake_is_noticed(standin_path, mistake, words):
    done = laws(standin_path, mistake)
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stdout


COLLECTIVES = """
from standin import ROOT, host
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_collectives
gpu_collectives.ROUNDS = 1
{mistake}
def spoil(array):
    array._values[...] = -2
broken = gpu_collectives.check(mls.init(), gpu_collectives.Kind(Array, spoil, host))
print(f"[{{' and '.join(broken)}}]", flush=True)
"""
LOST = """
from mpimlsys.device import memory, staging
def lose(gpu, packed, places, stream, *, back=False):
    memory.pack(gpu, packed, places[: len(places) - back], stream, back=back)
staging.pack = lose
"""


@pytest.mark.mpi
@pytest.mark.one_mpi
def test_collectives_hold_and_a_lost_segment_is_noticed(on_ranks):
    done = on_ranks(2, COLLECTIVES.format(mistake=""))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[]", "[]"]
    done = on_ranks(2, COLLECTIVES.format(mistake=LOST))
    assert done.returncode == 0, done.stderr
    for name in ("broadcast", "all-gather", "all-to-all", "reduce-scatter"):
        assert f"{name} of 1000 elements through the host" in done.stdout


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        ("print('all is well')", "ok", "all is well"),
        ("raise OSError('no room')", "failed", "exit status 1: OSError: no room"),
        (
            "print('mpimlsys: error: no GPU\\nmpirun says more'); raise SystemExit(2)",
            "failed",
            "exit status 2: mpimlsys: error: no GPU",
        ),
        ("import time; time.sleep(100)", "too slow", "ended after 1 s"),
    ],
)
def test_how_a_part_goes(gpu_check, tmp_path, code, status, why):
    part = gpu_check.Part("part", [sys.executable, "-c", code], 1)
    outcome = gpu_check.carry_out(part, tmp_path, 100)
    assert (outcome.status, outcome.why) == (status, why)
    assert (tmp_path / "part.out").exists()


def test_parts_that_cannot_run_are_skipped(gpu_check, tmp_path):
    missing = gpu_check.Part("part", [], 1, missing="no such program")
    assert gpu_check.carry_out(missing, tmp_path, 100).why == "no such program"
    late = gpu_check.Part("part", [sys.executable], 1)
    assert gpu_check.carry_out(late, tmp_path, 0).status == "skipped"


def row(codec, operation, ratio, to_topk=None):
    return {
        "codec": codec,
        "operation": operation,
        "bytes": 1 << 28,
        "repeats": 16,
        "median_s": 1e-3,
        "bytes_per_s": ratio * 1e12,
        "copy_bytes_per_s": 1e12,
        "ratio_to_copy": ratio,
        "ratio_to_torch_topk": to_topk,
    }


def test_the_summary_has_all_parts_and_the_goals(gpu_check, tmp_path):
    codecs = {
        "benchmark": "device codecs",
        "device": "a GPU",
        "rows": [
            row("fp16", "encode_feedback", 0.8),
            row("fp16", "encode", 0.1),
            row("top_k:0.01:sampled", "encode_feedback", 0.3, 12.0),
        ],
    }
    reduced = {"algorithm": "auto", "bytes": 1 << 26, "median_s": 2e-3, "ratio_to_copy": 0.7}
    reduced["in_a_row_s"] = 1e-3
    host = {"to_host_s": 1e-3, "from_host_s": 2e-3, "host_s": 4e-3, "ratio_to_slower_of_host": 2.0}
    sums = {
        "benchmark": "allreduce",
        "ranks": 2,
        "nodes": 1,
        "ranks_of_a_gpu": 2,
        "device": "a GPU",
        "rows": [reduced | host, reduced | host | {"algorithm": "staged"}],
    }
    outcomes = [
        gpu_check.Outcome("laws", "failed", 1, "exit status 1: a | b"),
        gpu_check.Outcome("codecs", "ok", 2, "", codecs),
        gpu_check.Outcome("allreduce-2", "ok", 3, "", sums),
    ]
    gpu_check.write(outcomes, tmp_path)
    text = (tmp_path / "summary.md").read_text()
    assert "| laws | failed | 1 | exit status 1: a / b |" in text
    assert "| fp16 | encode_feedback | 256 | 1.000 | 800 of 1000 | 80.0% | 75%: met |  |  |" in text
    assert "| fp16 | encode | 256 | 1.000 | 100 of 1000 | 10.0% |  |  |  |" in text
    assert "| 30.0% | 40%: missed | 12.0 x | 10 x: met |" in text
    host_part = "1.000, 2.000, 4.000 | 200% |"
    assert f"| 67108864 | auto | 2.000 | 1.000 | 70% | 60%: met | {host_part}  |" in text
    assert f"| 67108864 | staged | 2.000 | 1.000 | 70% |  | {host_part} 80%: met |" in text
    assert [one["name"] for one in json.loads((tmp_path / "summary.json").read_text())] == [
        "laws",
        "codecs",
        "allreduce-2",
    ]
