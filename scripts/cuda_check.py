"""Compiles the kernels for every target twice: with nvcc, and with clang against CUDA 12.

The second is for the oldest CUDA that is supported, of which PyPI has no nvcc, and lets another
compiler look at the sources.

usage: cuda_check.py NVCC CUDA_12    (as scripts/cuda_from_pypi.sh prints them)
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build_backend"))

import cuda_compiler  # noqa: E402

KERNELS = ROOT / "csrc" / "cuda" / "gpu.cu"
BUILT = ROOT / "build" / "cuda-check"
CLANG = ("clang++-19", "clang++-18", "clang++")
CLANG_FLAGS = [
    "-std=c++20",
    "-O3",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wno-unknown-pragmas",
    "-Wno-unknown-cuda-version",  # it says that it knows 12.5 in part only
    "-Werror",
]


def main(nvcc: str, cuda_12: str) -> None:
    clang = next(filter(None, map(shutil.which, CLANG)), None)
    if clang is None:
        raise SystemExit("there is no clang++ for the check with CUDA 12: apt-get install clang-19")
    os.environ |= {"NVCC": nvcc, "MPIMLSYS_CUDA": "1"}
    compiler = cuda_compiler.find()

    def with_nvcc() -> str:
        compiler.compile(KERNELS, BUILT / "gpu.o", [str(ROOT / "csrc")])
        return f"CUDA {'.'.join(map(str, compiler.version))}, nvcc: {compiler.targets}"

    def with_clang(part: list[str], name: str) -> str:
        command = [clang, "-x", "cuda", f"--cuda-path={cuda_12}", *CLANG_FLAGS, *part]
        command += [f"-I{ROOT / 'csrc'}", "-c", str(KERNELS), "-o", str(BUILT / f"{name}.o")]
        subprocess.run(command, check=True)
        return f"CUDA 12, {Path(clang).name}: {name}"

    BUILT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        started = [pool.submit(with_nvcc)]
        for number in cuda_compiler.ARCHITECTURES:
            target = f"sm_{number}"
            part = ["--cuda-device-only", f"--cuda-gpu-arch={target}"]
            started.append(pool.submit(with_clang, part, target))
        started.append(pool.submit(with_clang, ["--cuda-host-only"], "host"))
        for one in started:
            print(one.result(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
