"""Which extension fits the MPI that runs, and what is said when there is none."""

import ast
import importlib.util
from pathlib import Path

import pytest

from mpimlsys import __version__, config, native
from mpimlsys.errors import ConfigError

pytestmark = pytest.mark.mpi

PACKAGE = Path(native.__file__).parent


@pytest.mark.parametrize(
    ("vendor", "handle_size", "flavour"),
    [
        ("Open MPI", 8, "openmpi"),
        ("Spectrum MPI", 8, "openmpi"),
        ("MPICH", 4, "mpich"),
        ("MPICH2", 4, "mpich"),
        ("Intel MPI", 4, "mpich"),
        ("MVAPICH", 4, "mpich"),
        ("MVAPICH2", 4, "mpich"),
        ("Cray MPICH", 4, "mpich"),
        ("Another MPI", 8, "openmpi"),
        ("Another MPI", 4, "mpich"),
    ],
)
def test_the_flavour_follows_the_vendor_or_else_the_handles(vendor, handle_size, flavour):
    assert native.flavour_for(vendor, handle_size) == flavour


def test_the_extension_says_what_it_was_built_with(extension):
    info = extension.build_info()
    assert info["flavour"] in native.built_flavours()
    assert info["handle_size"] == {"openmpi": 8, "mpich": 4}[info["flavour"]]
    assert info["version"] == __version__
    assert info["cxx_standard"] >= 202002
    assert info["isa_levels"] == extension.isa_levels()


def test_a_missing_flavour_says_how_to_rebuild(monkeypatch):
    monkeypatch.setattr(native, "flavour_for", lambda *_: "of_another_kind")
    with pytest.raises(ConfigError, match=r"was built for (openmpi|mpich).*Rebuild it.*MPICC="):
        native.load()


def test_handles_that_do_not_fit_say_how_to_rebuild(extension, monkeypatch):
    info = extension.build_info() | {"handle_size": 3}
    monkeypatch.setattr(extension, "build_info", lambda: info)
    with pytest.raises(ConfigError, match=r"handles of \d bytes.*with 3\. Rebuild it.*MPICC="):
        native.load()


def test_an_extension_of_another_version_says_how_to_rebuild(extension, monkeypatch):
    info = extension.build_info() | {"version": "0.0.1"}
    monkeypatch.setattr(extension, "build_info", lambda: info)
    with pytest.raises(ConfigError, match=r"an extension that was built from 0\.0\.1\. Rebuild it"):
        native.load()


def test_the_stub_names_what_the_extension_has(extension):
    stub = ast.parse((PACKAGE / "_native_openmpi.pyi").read_text())

    def names(body):
        kinds = (ast.FunctionDef, ast.ClassDef)
        return {node.name for node in body if isinstance(node, kinds) and node.name[0] != "_"}

    def public(thing):
        return {name for name in dir(thing) if not name.startswith("_")}

    assert names(stub.body) == public(extension)
    for node in stub.body:
        if isinstance(node, ast.ClassDef) and node.name[0] != "_":
            assert names(node.body) == public(getattr(extension, node.name))


def test_only_built_flavours_are_offered():
    for flavour in native.FLAVOURS:
        built = importlib.util.find_spec(f"mpimlsys._native_{flavour}") is not None
        assert (flavour in native.built_flavours()) == built


@pytest.mark.parametrize("vendor", ["MPICH", "Intel MPI"])
def test_mpich_is_not_started_by_the_launcher_of_open_mpi(vendor):
    inside = config.environment({"OMPI_COMM_WORLD_SIZE": "2"})
    with pytest.raises(
        ConfigError, match=rf"the mpirun of Open MPI, but the MPI in use is {vendor}"
    ):
        native.check_launcher(vendor, inside)
    native.check_launcher("Open MPI", inside)
    native.check_launcher("Another MPI", inside)
    native.check_launcher(vendor, config.environment({"PMI_SIZE": "2", "PMI_RANK": "0"}))
