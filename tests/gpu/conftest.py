"""The stand-in for CuPy in the place of the module."""

import sys

import pytest
import strict


@pytest.fixture
def cupy(monkeypatch):
    """``sys.modules["cupy"]`` that needs no GPU, see ``strict.py``."""
    module = strict.Namespace()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(strict.Counter, "waits", 0)
    return module
