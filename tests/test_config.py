"""The environment is read once, by names; the package sets only what the user left open."""

import subprocess
import sys

import pytest

from mpimlsys import config


@pytest.mark.parametrize(
    ("variables", "launcher", "rank"),
    [
        ({}, "none", None),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}, "mpirun", 2),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, "hydra", 1),
        ({"SLURM_PROCID": "3", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}, "srun", 3),
        ({"SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291", "SLURM_JOB_ID": "9"}, "none", 0),
    ],
)
def test_the_launcher_is_recognised(variables, launcher, rank):
    found = config.environment(variables)
    assert (found.launcher, found.rank_hint) == (launcher, rank)


def test_blas_threads_of_the_user():
    assert config.environment({}).blas_threads is None
    assert config.environment({"OPENBLAS_NUM_THREADS": "3"}).blas_threads == 3
    assert config.environment({"OMP_NUM_THREADS": "4,2"}).blas_threads == 4


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, mpimlsys, mpimlsys.cli; "
        "print([m for m in ('numpy', 'numba', 'mpi4py', 'matplotlib', 'torch', 'rich') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
