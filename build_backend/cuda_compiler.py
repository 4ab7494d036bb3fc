"""Find CUDA's compiler and compile what runs on GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# machine code for these, and PTX of the last for what comes after
ARCHITECTURES = (80, 90)
FLAGS = [
    "-std=c++20",
    "-O3",
    "-fmad=false",  # as on the host: -ffp-contract=off
    "--threads=0",  # all architectures at the same time
    "-Werror=all-warnings",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wshadow,-Wno-unknown-pragmas",
]
OLDEST = (12, 5)


@dataclass(frozen=True)
class CudaCompiler:
    """CUDA's compiler.

    Attributes:
        nvcc: the program.
        version: such as (13, 0).
        library_dir: where ``libcudart_static.a`` is.
    """

    nvcc: str
    version: tuple[int, int]
    library_dir: str

    @property
    def targets(self) -> str:
        """What it compiles for, in words."""
        names = [f"sm_{number}" for number in ARCHITECTURES]
        return ", ".join([*names, f"compute_{ARCHITECTURES[-1]}"])

    def compile(self, source: Path, into: Path, include_dirs: list[str]) -> bool:
        """Make an object file of a ``.cu``; False where that fails, as the compiler has said.

        Raises:
            SystemExit: it failed, and ``MPIMLSYS_CUDA=1`` demands it.
        """
        codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
        codes.append(f"-gencode=arch=compute_{ARCHITECTURES[-1]},code=compute_{ARCHITECTURES[-1]}")
        includes = [f"-I{folder}" for folder in include_dirs]
        into.parent.mkdir(parents=True, exist_ok=True)
        ccache = [found] if (found := shutil.which("ccache")) else []
        command = [self.nvcc, *FLAGS, *codes, *includes, "-c", str(source), "-o", str(into)]
        if subprocess.run([*ccache, *command], check=False).returncode == 0:
            return True
        if os.environ.get("MPIMLSYS_CUDA") == "1":
            raise SystemExit(f"MPIMLSYS_CUDA: {self.nvcc} fails at {source.name}, see above.")
        print(
            f"{self.nvcc} fails at {source.name}: mpimlsys is built without kernels for GPUs. "
            "Set NVCC to one that works, or MPIMLSYS_CUDA=0 to leave them out.",
            file=sys.stderr,
        )
        return False


def find() -> CudaCompiler | None:
    """``$NVCC``, else ``nvcc`` on PATH, else that of ``$CUDA_HOME`` or ``/usr/local/cuda``.

    ``MPIMLSYS_CUDA=0`` leaves GPUs out, ``MPIMLSYS_CUDA=1`` demands them.

    Raises:
        SystemExit: it is demanded and not to be had, or too old.
    """
    wish = os.environ.get("MPIMLSYS_CUDA", "")
    if wish == "0":
        return None
    home = os.environ.get("CUDA_HOME") or "/usr/local/cuda"
    chosen = os.environ.get("NVCC") or shutil.which("nvcc") or shutil.which(f"{home}/bin/nvcc")
    found = chosen and shutil.which(chosen)
    if not found:
        if wish == "1" or chosen:
            raise SystemExit(
                f"MPIMLSYS_CUDA: there is no {chosen or 'nvcc'}: install CUDA's compiler (pip "
                "install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl), put it on PATH "
                "or name it in NVCC; or set MPIMLSYS_CUDA=0."
            )
        return None
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"release (\d+)\.(\d+)", told)
    version = (int(number[1]), int(number[2])) if number else (0, 0)
    if version < OLDEST:
        if wish == "1":
            raise SystemExit(
                f"MPIMLSYS_CUDA: {found} is of CUDA {_text(version)}; {_text(OLDEST)} is needed."
            )
        return None
    # it may be a wrapper in another folder, so it is asked
    plan = [found, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull]
    plan_text = subprocess.run(plan, capture_output=True, text=True, check=True).stderr
    top = re.search(r"^#\$ TOP=(.*)$", plan_text, re.MULTILINE)
    root = Path(top[1].strip()) if top else Path(found).resolve().parent.parent
    for folder in (root / "lib64", root / "lib", root / "targets/x86_64-linux/lib"):
        if (folder / "libcudart_static.a").exists():
            return CudaCompiler(found, version, str(folder.resolve()))
    if wish == "1":
        raise SystemExit(f"MPIMLSYS_CUDA: there is no libcudart_static.a in {root}.")
    return None


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
