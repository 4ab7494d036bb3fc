"""Tables as job files and scripts describe them."""

from pathlib import Path

import pytest

from mpimlsys.errors import ConfigError
from mpimlsys.ps import Table
from mpimlsys.ps.table import from_json, to_json


def test_tables_are_the_same_after_they_have_travelled():
    tables = [
        Table("w", count=10, rule="adam", numbers={"beta1": 0.8}, decayed=((0, 3), (5, 2))),
        Table("rows", count=7, width=3, consistency="ssp:4", initial="normal", scale=0.1, seed=5),
        Table("hot", count=9, width=2, hot=(1, 8), compress="fp16", error_feedback=False),
    ]
    assert from_json(to_json(tables)) == tables


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rule": "adm"}, "Did you mean 'adam'?"),
        ({"consistency": "ssp"}, "'ssp:3'"),
        ({"consistency": "ssp:-1"}, "'ssp:3'"),
        ({"count": 0}, "is empty"),
        ({"hot": (1,)}, "hot rows of 'w' must be"),
        ({"width": 2, "hot": (3, 1)}, "must be ascending"),
        ({"width": 2, "hot": (3, 10)}, "has 10 rows, and no hot row 10"),
        ({"compress": "int9"}, "unknown codec"),
        ({"compress": "power_sgd:2"}, "needs all-reduce"),
        ({"compress": "random_k:0.1:unbiased"}, "leave out 'unbiased'"),
        ({"width": 2, "hot": (1,), "compress": "int8"}, "another gradient of the hot rows"),
        ({"width": 2, "compress": "top_k:0.1"}, "leaves numbers out"),
    ],
)
def test_what_is_not_possible_is_said(fields, told):
    with pytest.raises(ConfigError, match=told.replace("?", r"\?")):
        Table(**{"name": "w", "count": 10} | fields)


def test_the_extension_refuses_numbers_that_a_rule_does_not_take(extension):
    for table, told in (
        (Table("w", count=3, numbers={"speed": 1.0}), "speed"),
        (Table("w", count=3, rule="row_adagrad"), "tables of rows only"),
        (Table("w", count=3, rule="momentum", numbers={"momentum": -1.0}), "momentum"),
    ):
        with pytest.raises(ConfigError, match=told):
            table.native(extension)


def test_the_documentation_has_every_request(extension):
    page = (Path(__file__).parent.parent.parent / "docs" / "parameter-server.md").read_text()
    for name, brings, gets, meaning in extension.ps_verbs():
        row = [f"`{name}`", "yes" * brings, "yes" * gets, meaning]
        line = "| " + " | ".join(row) + " |"
        assert line.replace("|  |", "| |").replace("|  |", "| |") in page
