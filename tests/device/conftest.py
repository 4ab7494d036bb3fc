"""A GPU's stand-in for the tests of this folder, see standin.py."""

import os
from pathlib import Path

import pytest
import standin


@pytest.fixture(scope="session")
def standin_path(tmp_path_factory):
    """The compiled stand-in; ``MLS_STANDIN`` names one that was made before."""
    made = os.environ.get("MLS_STANDIN")
    return Path(made) if made else standin.build(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def on_ranks(mpirun, standin_path, tmp_path):
    """``on_ranks(count, body)`` runs a script whose GPU is the stand-in."""

    def run(ranks, body, **options):
        path = tmp_path / "script.py"
        path.write_text(
            f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"import standin\nstandin.use({str(standin_path)!r})\n"
            "import numpy as np, mpimlsys as mls\n"
            "from standin import Array\n" + body
        )
        return mpirun(ranks, [path], **options)

    return run
