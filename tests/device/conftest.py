"""The stand-in for a GPU, compiled once."""

import pytest
import standin


@pytest.fixture(scope="session")
def standin_path(tmp_path_factory):
    """The extension for GPUs with its kernels compiled for the host."""
    return standin.build(tmp_path_factory.mktemp("standin"))
