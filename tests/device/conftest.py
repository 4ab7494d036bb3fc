"""The stand-in for CuPy in the place of the module."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def cupy(monkeypatch):
    """``sys.modules["cupy"]`` that needs no GPU, see ``strict.py``."""
    import strict

    module = strict.Namespace()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(strict.Counter, "waits", 0)
    return module
