"""What ranks tell each other about hangs; what comes over the network is checked here."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from mpimlsys.errors import CorruptData

MOST_BYTES = 64 * 1024  # of a message
_MOST_ITEMS = 4096  # of a list
T = TypeVar("T")


@dataclass(frozen=True)
class Standing:
    """What a transport does or did last; see ``Transport.standing`` of the extension."""

    operation: str
    label: str
    dtype: str
    axes: int
    shape: tuple[int, ...]
    number: int
    running: bool
    started_s: float
    ended_s: float
    left_s: float
    step: int
    steps: int
    peer: int
    failure: str


@dataclass(frozen=True)
class Elsewhere:
    """What a rank does on a link that was not asked about.

    Attributes:
        link: its key.
        among: its members, in words.
        standing: of its running operation.
    """

    link: str
    among: str
    standing: Standing


@dataclass(frozen=True)
class Question:
    """What a rank asks of another.

    Attributes:
        link: which is stuck, or was given up.
        gave_up: why the asking rank gave the link up; the other shall do so too. Or empty.
        look_at: ranks of the other's machine that do not answer.
    """

    link: str
    gave_up: str = ""
    look_at: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a rank knows.

    Attributes:
        standing: of the link; number 0 where it has not been made yet.
        elsewhere: running operations of other links.
        stack: innermost first, of the main thread.
        reported: number of the operation that it reported last for this link, 0 for none.
        seen: what its machine knows of each of ``look_at``.
    """

    standing: Standing
    elsewhere: tuple[Elsewhere, ...]
    stack: tuple[str, ...]
    reported: int
    seen: tuple[str, ...] = ()


NOTHING_YET = Standing("", "", "", -1, (), 0, False, 0.0, 0.0, 0.0, 0, 0, -1, "")


def encode(message: Question | Answer) -> bytes:
    """The message as bytes."""
    return json.dumps(dataclasses.asdict(message)).encode()


def decode(kind: type[T], data: bytes) -> T:
    """A message of this kind.

    Raises:
        CorruptData: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"a message between ranks is not JSON: {error}") from error
    return checked(kind, value)


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def checked(kind: Any, value: Any) -> Any:
    """``value`` of JSON as a dataclass, a tuple or a plain value of this type.

    Raises:
        CorruptData: it is none.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        if isinstance(value, dict) and value.keys() == hints.keys():
            return kind(**{name: checked(hints[name], item) for name, item in value.items()})
    elif typing.get_origin(kind) is tuple:
        if isinstance(value, list) and len(value) <= _MOST_ITEMS:
            return tuple(checked(typing.get_args(kind)[0], item) for item in value)
    elif type(value) is kind:
        return value
    raise CorruptData(f"a message between ranks has {str(value)[:80]!r} in place of {kind}")
