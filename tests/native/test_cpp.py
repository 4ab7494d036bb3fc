"""The C++ tests, compiled with the sanitizers and run; ranks are threads, so no MPI is needed."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
SOURCES = [
    *sorted((CSRC / "base").glob("*.cpp")),
    *sorted((CSRC / "codec").glob("*.cpp")),
    *sorted((CSRC / "store").glob("*.cpp")),
    *sorted((CSRC / "ps").glob("*.cpp")),
    *sorted(path for path in (CSRC / "comm").glob("*.cpp") if path.name != "mpi.cpp"),
]
TESTS = sorted(HERE.glob("*.cpp"))
# what a test with several threads has in it: others would tell the thread sanitizer nothing
THREADS = ("on_ranks", "std::thread", "ps_cluster.hpp")
FLAGS = ["-std=c++20", "-g1", "-ffp-contract=off", f"-I{CSRC}", f"-I{HERE}"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wno-unknown-pragmas", "-Werror"]
SANITIZERS = {
    "address and undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def call(command, timeout_s, **options):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, **options
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def compiled(source, flags, folder):
    target = folder / f"{source.parent.name}-{source.stem}.o"
    call(["g++", *FLAGS, *WARNINGS, *flags, "-c", source, "-o", target], timeout_s=400)
    return target


def has_threads(source):
    text = source.read_text()
    return source.name == "main.cpp" or any(word in text for word in THREADS)


def build(tests, flags, folder):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda one: compiled(one, flags, folder), [*SOURCES, *tests]))
    program = folder / "native_tests"
    call(["g++", *flags, "-pthread", *objects, "-o", program], timeout_s=120)
    return program


@pytest.mark.timeout(1800)  # compiles everything
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_native_tests_pass_under_a_sanitizer(sanitizer, tmp_path):
    tests = [one for one in TESTS if sanitizer != "thread" or has_threads(one)]
    program = build(tests, ["-O1", *SANITIZERS[sanitizer]], tmp_path)
    options = {"ASAN_OPTIONS": "detect_leaks=1", "TSAN_OPTIONS": "halt_on_error=1"}
    out = call([program], timeout_s=900, env=os.environ | options)
    count, failed = out.splitlines()[-1].split(" tests, ")
    assert int(count) > 0
    assert failed == "0 failed"


@pytest.mark.parametrize("optimisation", ["-O0", "-O2"])
@pytest.mark.parametrize("level", ["avx2", "avx512"])
@pytest.mark.parametrize("kernels", ["base/reduce", "codec/kernels"])
def test_code_of_an_instruction_set_cannot_replace_another(kernels, level, optimisation, tmp_path):
    """A weak symbol of these files could be linked into code that runs on any machine."""
    target = compiled(CSRC / f"{kernels}_{level}.cpp", [optimisation], tmp_path)
    symbols = call(["nm", "--defined-only", target], timeout_s=60)
    assert [line for line in symbols.splitlines() if line.split()[-2] in {"W", "V", "u"}] == []
