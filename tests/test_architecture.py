"""Imports and includes go one way, as docs/architecture.md says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mpimlsys"

GROUND = {"errors", "types", "config", "jobfile", "roles"}
# each layer may import itself, the ground, and what is listed
ALLOWED = {
    "kernels": set(),
    "nn": {"kernels"},
    "optim": {"kernels"},
    "data": {"kernels"},
    "native": set(),
    "driver": set(),
    "network": {"native"},
    "choice": set(),
    "hangs": {"network"},
    "process_sets": {"network", "choice"},
    "device": {"context", "process_sets", "network", "native"},
    "context": {"native", "network", "process_sets", "choice", "hangs", "kernels"},
    "collectives": {"context", "process_sets", "device"},
    "compress": set(),
    "ps": {"compress", "context", "network", "native"},
    "exchange": {"compress", "collectives", "context", "native", "kernels", "ps", "device"},
    "timeline": {"context"},
    "train": {
        "exchange",
        "ps",
        "compress",
        "collectives",
        "context",
        "native",
        "nn",
        "optim",
        "data",
        "kernels",
    }
    | {"timeline"},
    "launch": {"train", "context", "native"},
    "doctor": {"launch", "context", "native", "device", "driver"},
    "bench": {
        "train",
        "compress",
        "ps",
        "nn",
        "optim",
        "data",
        "context",
        "choice",
        "native",
        "kernels",
        "device",
        "driver",
    },
    "cli": {"train", "launch", "doctor", "bench", "context"},
}
ONLY_GROUND = {"errors": set(), "types": set(), "config": {"errors"}, "jobfile": {"errors"}}
ONLY_GROUND |= {"roles": {"errors", "jobfile"}}
NN_OPTIM_DATA = {"kernels", "types", "errors"}

PYTHON = sorted(PACKAGE.rglob("*.py"))
NATIVE = sorted(
    path
    for path in (ROOT / "csrc").rglob("*")
    if path.suffix in {".cpp", ".hpp", ".inc", ".cu", ".cuh"}
)


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            names = [node.module or ""]
            if node.module == "mpimlsys":
                names = [f"mpimlsys.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("mpimlsys.")}
    return {
        name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()
    }


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    layer = layer_of(path)
    if layer in {"__init__", "__main__"}:
        return
    imported = imported_layers(path) - {layer}
    if layer in ONLY_GROUND:
        allowed = ONLY_GROUND[layer]
    elif layer in {"nn", "optim", "data"}:
        allowed = NN_OPTIM_DATA
    else:
        allowed = GROUND | ALLOWED[layer]
    assert imported <= allowed, f"{layer} imports {sorted(imported - allowed)}"


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_environment_is_read_in_one_place(path):
    reads = re.findall(r"os\.(?:environ|getenv)", path.read_text())
    if path.name not in {"config.py"} and layer_of(path) != "launch":
        assert not reads


@pytest.mark.parametrize("path", NATIVE, ids=lambda p: str(p.relative_to(ROOT)))
def test_includes_keep_to_their_folder(path):
    includes = re.findall(r'#\s*include\s*[<"]([^>"]+)[>"]', path.read_text())
    folder = path.relative_to(ROOT / "csrc").parts[0]
    for include in includes:
        if include == "mpi.h":
            assert path == ROOT / "csrc" / "comm" / "mpi.cpp"
        if include.startswith("pybind11") or include == "Python.h":
            assert folder == "bindings"
        if include.startswith("cuda/"):
            assert folder == "cuda" or (include, path.name) == ("cuda/device.hpp", "device.cpp")
        elif include.startswith("cuda"):  # of CUDA itself
            assert path.suffix == ".cu"
        if folder == "cuda":
            assert not include.startswith(("store/", "ps/", "bindings/"))
        if folder == "base":
            assert not include.startswith(
                ("comm/", "codec/", "store/", "ps/", "bindings/", "cuda/")
            )
        if folder in {"codec", "store"}:
            assert not include.startswith(("comm/", "ps/", "bindings/", "cuda/"))
        if folder == "comm":
            assert not include.startswith(("store/", "ps/", "bindings/", "cuda/"))
        if folder == "ps":
            assert not include.startswith(("bindings/", "cuda/"))


def test_there_is_native_code_to_check():
    assert len(NATIVE) > 5
    assert len(PYTHON) > 20
