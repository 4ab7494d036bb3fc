#!/bin/sh
# Launches a short job with the MPI of .venv-mpi-MPI, and runs the MPI part of the tests there.
# usage: test_mpi.sh MPI [ARGUMENTS OF PYTEST]
set -e
cd ".venv-mpi-$1" # not the clone, whose package would be imported in place of the installed one
shift
bin/mpimlsys doctor
rm -rf run
bin/mpimlsys launch -n 2 ../examples/mnist_cnn.toml --set job.max_steps=40 --set job.out=run
exec bin/python -m pytest -c ../pyproject.toml --rootdir .. -m "mpi and not one_mpi" "$@" ../tests
