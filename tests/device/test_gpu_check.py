"""The checks of benchmarks/gpu_check.py on the stand-in: they hold, and notice what is wrong."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mpimlsys.bench import device_codecs

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROGRAM = HERE / "laws_on_standin.py"


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu_check")


@pytest.fixture
def gpu_parts(gpu_check):
    return gpu_check.gpu_parts


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
    wanted = ["reductions", "norms", "streams", "frames", "unusual_numbers", "damaged_frames"]
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


@pytest.mark.mpi
@pytest.mark.one_mpi
def test_an_error_of_the_gpu_is_told_with_where_it_was_met(standin_path):
    done = laws(standin_path, "fault", "norms")
    assert done.returncode == 1
    # 0 elements and 1 each have their squares and are clipped twice
    told = "norms: 6 checked, 0 failed; ended after '1 elements clipped at "
    assert done.stdout.startswith(told)
    assert "an illegal memory access" in done.stdout


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


def test_what_a_part_measured_before_it_failed_is_kept(gpu_check, tmp_path):
    printed = json.dumps({"rows": [{"wrong": ""}, {"wrong": "a wrong sum: auto"}]})
    for then, status, why in (
        ("raise SystemExit(1)", "failed", "exit status 1: 1 rows are wrong: a wrong sum: auto"),
        ("import time; time.sleep(100)", "too slow", "ended after 1 s"),
    ):
        code = f"print({printed!r}, flush=True); print('mpirun says more', flush=True); {then}"
        outcome = gpu_check.attempt(
            gpu_check.Part("part", [sys.executable, "-c", code], 1), tmp_path, 100
        )
        assert (outcome.status, outcome.why) == (status, why)
        assert outcome.result == json.loads(printed)


def test_half_a_result_is_none(gpu_check):
    assert gpu_check.result_of('{"rows": [\n') is None
    assert gpu_check.result_of("") is None


def test_whatever_goes_wrong_with_a_part_is_its_failure(gpu_check, tmp_path):
    nowhere = gpu_check.Part("part", [str(tmp_path / "nothing")], 1)
    outcome = gpu_check.attempt(nowhere, tmp_path, 100)
    assert (outcome.status, outcome.why.partition(":")[0]) == ("failed", "FileNotFoundError")


def test_parts_find_the_package_of_this_folder(gpu_check, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    code = "import os; print(os.environ['PYTHONPATH'])"
    outcome = gpu_check.attempt(
        gpu_check.Part("part", [sys.executable, "-c", code], 10), tmp_path, 100
    )
    assert outcome.why == f"{ROOT}{os.pathsep}/elsewhere"


def test_all_results_are_in_one_file(gpu_check, tmp_path, capsys):
    outcomes = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.out").write_text(name)
        outcomes.append(gpu_check.Outcome(name, "ok", 1))
        gpu_check.told(outcomes, tmp_path)
    assert "two: ok" in capsys.readouterr().out
    with tarfile.open(tmp_path / "results.tar.gz") as packed:
        names = {"one.out", "two.out", "summary.json", "summary.md"}
        assert set(packed.getnames()) == {f"results/{name}" for name in names}
        assert len(json.load(packed.extractfile("results/summary.json"))) == 2


def test_what_cannot_be_written_costs_no_part(gpu_check, tmp_path, capsys):
    gpu_check.told([gpu_check.Outcome("one", "ok", 1)], tmp_path / "gone")
    assert "not written: FileNotFoundError" in capsys.readouterr().out


def test_a_result_without_what_the_table_shows_has_none(gpu_check):
    unknown = gpu_check.Outcome("codecs", "ok", 1, "", {"benchmark": "device codecs"})
    text = gpu_check.gpu_tables.summary([gpu_check.asdict(unknown)])
    assert "No table: KeyError: 'rows'" in text


def test_what_runs(gpu_parts):
    """All laws and codecs that there are, by programs that are there; each once."""
    stages = gpu_parts.checking()
    commands = {part.name: list(part.command) for parts in stages for part in parts}
    assert len(commands) == sum(map(len, stages))
    laws = importlib.import_module("gpu_laws").LAWS
    assert list(laws) == list(gpu_parts.LAW_NAMES)
    for name in laws:
        assert commands[f"law-{name}"][-2:] == ["--law", name]
    assert ",".join(gpu_parts.CODECS.values()) == device_codecs.DEFAULT
    assert {"doctor", "codecs-dense", "codecs-sparse", "allreduce-2", "allreduce-4"} < set(commands)
    for command in filter(None, commands.values()):
        assert shutil.which(command[0])


def test_an_interpreter_that_has_all_builds_in_place(gpu_parts, monkeypatch):
    monkeypatch.setattr(gpu_parts, "python", lambda: sys.executable)
    monkeypatch.setattr(gpu_parts, "holds", lambda _, code: code == gpu_parts.FITS)
    ((part,),) = gpu_parts.building()
    assert part.command == [sys.executable, "setup.py", "build_ext", "--inplace"]
    assert dict(part.additions)["MPIMLSYS_CUDA"] == "1"
    monkeypatch.setattr(gpu_parts, "holds", lambda *_: False)
    ((part,),) = gpu_parts.building()
    assert part.command[:2] == ["make", "install"]


def test_an_interpreter_that_lacks_something_does_not_fit(gpu_parts, tmp_path, monkeypatch):
    assert gpu_parts.holds(sys.executable, gpu_parts.FITS)
    (tmp_path / "threadpoolctl.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert not gpu_parts.holds(sys.executable, gpu_parts.FITS)
    assert not gpu_parts.holds(str(tmp_path / "nothing"), "")


def test_built_is_what_can_be_imported(gpu_parts, tmp_path, monkeypatch):
    (tmp_path / "mpi4py.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert not gpu_parts.is_built()


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
        "wrong": "",
        "repeats": 16,
        "median_s": 1e-3,
        "bytes_per_s": ratio and ratio * 1e12,
        "copy_bytes_per_s": 1e12,
        "ratio_to_copy": ratio,
        "ratio_to_torch_topk": to_topk,
        "torch_topk_s": to_topk and to_topk * 1e-3,
    }


def test_the_summary_has_all_parts_and_the_goals(gpu_check, tmp_path):
    not_timed = {"median_s": None, "bytes_per_s": None, "repeats": 0}
    codecs = {
        "benchmark": "device codecs",
        "device": "a GPU",
        "rows": [
            row("fp16", "encode_feedback", 0.8),
            row("fp16", "encode", 0.1),
            row("top_k:0.01:sampled", "encode_feedback", 0.3, 12.0),
            row("int8", "encode_feedback", None) | not_timed | {"wrong": "int8: not the CPU's"},
        ],
    }
    reduced = {"algorithm": "auto", "bytes": 1 << 26, "median_s": 2e-3, "ratio_to_copy": 0.7}
    reduced |= {"in_a_row_s": 1e-3, "copy_bytes_per_s": 4e12, "wrong": ""}
    host = {"to_host_s": 1e-3, "from_host_s": 2e-3, "host_s": 4e-3, "ratio_to_slower_of_host": 2.0}
    sums = {
        "benchmark": "allreduce",
        "ranks": 2,
        "nodes": 1,
        "ranks_of_a_gpu": 2,
        "device": "a GPU",
        "rows": [
            reduced | host,
            reduced | host | {"algorithm": "staged"},
            reduced | host | {"wrong": "a wrong sum: auto"},
        ],
    }
    outcomes = [
        gpu_check.Outcome("laws", "failed", 1, "exit status 1: a | b"),
        gpu_check.Outcome("codecs", "failed", 2, "exit status 1: 1 rows are wrong", codecs),
        gpu_check.Outcome("allreduce-2", "ok", 3, "", sums),
    ]
    gpu_check.write(outcomes, tmp_path)
    text = (tmp_path / "summary.md").read_text()
    assert "| laws | failed | 1 | exit status 1: a / b |" in text
    assert "| fp16 | encode_feedback | 256 | 1.000 | 800 of 1000 | 80.0% | 75%: met |  |  |" in text
    assert "| fp16 | encode | 256 | 1.000 | 100 of 1000 | 10.0% |  |  |  |" in text
    assert "| 30.0% | 40%: missed | 12.0 x (of 12.000 ms) | 10 x: met |" in text
    assert "| int8 | encode_feedback | 256 | int8: not the CPU's |" in text
    assert "| 75%: wrong |" in text
    assert "| codecs | failed | 2 | exit status 1: 1 rows are wrong |" in text
    host_part = "1.000, 2.000, 4.000 | 200% |"
    assert f"| 67108864 | auto | 2.000 | 1.000 | 4000 | 70% | 60%: met | {host_part}  |" in text
    assert f"| 67108864 | staged | 2.000 | 1.000 | 4000 | 70% |  | {host_part} 80%: met |" in text
    assert "| auto | a wrong sum: auto | 1.000 | 4000 | 70% | 60%: wrong |" in text
    assert [one["name"] for one in json.loads((tmp_path / "summary.json").read_text())] == [
        "laws",
        "codecs",
        "allreduce-2",
    ]
