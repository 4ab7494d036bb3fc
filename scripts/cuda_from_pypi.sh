#!/bin/sh
# Makes FOLDER: a virtual environment with a compiler for GPUs from PyPI, for machines that have
# none, and prints what to use of it:
#   13   the nvcc of CUDA 13.0
#   12   a folder for clang's --cuda-path: headers, libdevice and ptxas of CUDA 12.5, the oldest
#        that is supported. No wheel has the nvcc of CUDA 12.
# usage: cuda_from_pypi.sh FOLDER 13|12 [PYTHON]
set -e
folder=$1
version=$2
python=${3:-python3}
case $version in
13)
    packages="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88"
    packages="$packages nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
    ;;
12) packages="nvidia-cuda-nvcc-cu12==12.5.82 nvidia-cuda-runtime-cu12==12.5.82" ;;
*)
    echo "there is no CUDA '$version' to install: cuda_from_pypi.sh FOLDER 13|12 [PYTHON]" >&2
    exit 1
    ;;
esac

if [ ! -f "$folder/.installed" ]; then
    "$python" -m venv "$folder"
    # shellcheck disable=SC2086 # several words
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check $packages >&2
fi
folder=$(cd "$folder" && pwd -P)
nvidia=$(echo "$folder"/lib/python3*/site-packages/nvidia)
if [ "$version" = 13 ]; then
    result=$nvidia/cu13/bin/nvcc
else
    # what CUDA has in one folder is in several wheels
    result=$folder/cuda
    mkdir -p "$result"
    cp -rsf "$nvidia"/cuda_nvcc/. "$nvidia"/cuda_runtime/. "$result"
    # clang includes it for whoever draws random numbers
    touch "$result/include/curand_mtgp32_kernel.h"
fi
[ -e "$result" ] || {
    echo "$result is not there: the wheels for CUDA $version have changed" >&2
    exit 1
}
touch "$folder/.installed"
echo "$result"
