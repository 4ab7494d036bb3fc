"""Emulated hosts and a Slurm for the tests of this folder, made once."""

import shutil
import tempfile
from pathlib import Path

import emulated_network
import emulated_slurm
import pytest
from hosts import Hosts


@pytest.fixture(scope="session")
def shared_folder():
    """A folder that all emulated hosts see, and that munge accepts: others may enter it."""
    folder = Path(tempfile.mkdtemp(prefix="mls-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def network(shared_folder):
    """Four emulated hosts with links of full speed."""
    if reason := emulated_network.missing():
        pytest.skip(f"no emulated hosts: {reason}")
    shared = emulated_network.shared_folders()
    with emulated_network.Network(shared_folder, 4, shared=shared) as network:
        yield network


@pytest.fixture(scope="session")
def slurm_daemons(network):
    """Slurm on the four hosts."""
    if reason := emulated_slurm.missing():
        pytest.skip(f"no Slurm: {reason}")
    with emulated_slurm.Slurm(network) as daemons:
        yield daemons


def _hosts(network, variables):
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=network.folder))
    hosts = Hosts(network, folder, variables)
    yield hosts
    hosts.end()


@pytest.fixture
def hosts(network):
    """:class:`Hosts` without Slurm: MPI's launchers reach the hosts by a stand-in for ssh."""
    yield from _hosts(network, network.mpi_variables())


@pytest.fixture
def cluster(network, slurm_daemons):
    """:class:`Hosts` with Slurm."""
    # ranks of several jobs share this machine's few cores
    yield from _hosts(network, {**slurm_daemons.variables, "OMPI_MCA_mpi_yield_when_idle": "1"})
