"""What comes over the network is a message of the right shape, or CorruptData."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpimlsys.errors import CorruptData
from mpimlsys.hangs.messages import NOTHING_YET, Answer, Elsewhere, Question, decode, encode

STANDING = dataclasses.replace(
    NOTHING_YET, operation="all-reduce", label="bucket 3", dtype="float32", shape=(4, 7), number=9
)
ANSWER = Answer(
    STANDING, (Elsewhere("k-0", "among ranks 0-1", STANDING),), ("a.py:1 in f",), 0, ("x",)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("message", [ANSWER, Question("k-0", "why", (1, 2)), Question("")])
def test_messages_arrive_as_they_were_sent(message):
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("reported"),
        lambda told: told.update(more=1),
        lambda told: told.update(reported="1"),
        lambda told: told.update(reported=True),
        lambda told: told.update(stack="a"),
        lambda told: told.update(stack=[1]),
        lambda told: told.update(stack=["a"] * 5000),
        lambda told: told.update(standing=None),
        lambda told: told["standing"].update(running=0),
        lambda told: told["elsewhere"][0]["standing"].pop("number"),
    ],
)
def test_a_message_of_another_shape_is_corrupt(change):
    told = json.loads(encode(ANSWER))
    change(told)
    with pytest.raises(CorruptData, match="a message between ranks"):
        decode(Answer, json.dumps(told).encode())


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_nothing_else_than_corrupt_data_is_raised(data):
    with pytest.raises(CorruptData):
        decode(Answer, data)


def test_nesting_without_end_is_corrupt():
    with pytest.raises(CorruptData):
        decode(Answer, b"[" * 60_000)
