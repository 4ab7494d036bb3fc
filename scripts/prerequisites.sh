#!/bin/sh
# Says what is missing to build mpimlsys, and the command that installs it.
# usage: prerequisites.sh PYTHON
python=$1
missing=""

if ! command -v "$python" >/dev/null 2>&1; then
    echo "missing: $python (3.11 or newer)" >&2
    missing="$missing python3 python3-venv python3-dev"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "too old: $("$python" --version) ($(command -v "$python")); 3.11 or newer is needed." >&2
    echo "With a newer one elsewhere: make PYTHON=/path/to/python3.12" >&2
    exit 1
else
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "missing: the venv module of $python" >&2
        missing="$missing python3-venv"
    fi
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    if [ ! -f "$header" ]; then
        echo "missing: the C headers of $python ($header)" >&2
        missing="$missing python3-dev"
    fi
fi
if ! command -v "${CXX:-c++}" >/dev/null 2>&1 && ! command -v g++ >/dev/null 2>&1; then
    echo "missing: a C++ compiler (g++ or clang++)" >&2
    missing="$missing g++"
fi

[ -z "$missing" ] && exit 0
echo "On Debian and Ubuntu: sudo apt-get install$missing" >&2
echo "On Fedora and RHEL:   sudo dnf install python3-devel gcc-c++" >&2
exit 1
