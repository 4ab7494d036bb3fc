"""The algorithms in a simulated network: costs as predicted, and what docs/scaling.md says."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from simulator import STUDY, TESTS, build

ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
    pytest.mark.timeout(900),  # the first test compiles
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return build({"tests": TESTS, "scaling": STUDY}, ["-O0"], tmp_path_factory.mktemp("sim"))


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("scaling", ROOT / "benchmarks" / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_simulator_counts_what_the_model_predicts(programs):
    done = subprocess.run(
        [programs["tests"]], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " tests, 0 failed" in done.stdout


@pytest.mark.parametrize("network", ["fat_tree", "star"])
def test_the_page_says_what_the_simulator_gives(network, programs, benchmark):
    cases = benchmark.study(programs["scaling"], network, most_ranks=32)
    page = (ROOT / "docs" / "scaling.md").read_text()
    own = page.split(f"**{benchmark.NETWORKS[network]}**")[1]
    rows = "\n".join(benchmark.table(cases))
    assert own.lstrip().startswith(f"{rows}\n| 64 |"), "what changed? `make scaling`, and read it"


def test_the_tables_go_between_the_marks_of_the_page(benchmark):
    page = f"before\n{benchmark.BEGIN}\nold\n{benchmark.END}\nafter\n"
    wanted = f"before\n{benchmark.BEGIN}\n\nnew\n\n{benchmark.END}\nafter\n"
    assert benchmark.replaced(page, ["new"]) == wanted
    assert benchmark.replaced(wanted, ["new"]) == wanted


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5e-6, "1.50 µs"), (950e-6, "950 µs"), (0.013, "13.0 ms"), (1.0727, "1.07 s")],
)
def test_a_duration_has_three_digits(seconds, text, benchmark):
    assert benchmark.duration(seconds) == text
