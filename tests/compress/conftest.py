"""The same call on every instruction set that the machine has."""

import pytest


@pytest.fixture
def on_every_isa(extension):
    """``on_every_isa(call)`` calls it on each, and checks that the bytes returned are the same."""
    before = extension.isa()

    def run(call):
        results = []
        for level in extension.isa_levels():
            extension.set_isa(level)
            results.append(call())
        for level, result in zip(extension.isa_levels(), results, strict=True):
            assert result.tobytes() == results[0].tobytes(), level
        return results[0]

    yield run
    extension.set_isa(before)
