"""The tree of errors: what went wrong, for whom, and whether the run may go on.

==================  ==========================  ===========  ===========
error               whose                       recoverable  exit status
==================  ==========================  ===========  ===========
``ConfigError``     the user's input            no           2
``RankFailed``      another rank died           yes          1
``Timeout``         a wait reached its limit    yes          1
``CorruptData``     a checksum or a format      no           1
``Diverged``        the loss is not finite      no           1
``Interrupted``     a signal asked to stop      by resuming  128+signal
==================  ==========================  ===========  ===========

Anything else that escapes is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MpimlsysError(Exception):
    """Root of the errors that this package raises on purpose.

    Attributes:
        exit_status: what a command ends with.
        on_all_ranks: whether every rank raises the same error, so that one of them reports it.
    """

    exit_status = 1
    on_all_ranks = False


class ConfigError(MpimlsysError, ValueError):
    """The user's input cannot be used: a job file, an argument, a data file."""

    exit_status = 2


class RankFailed(MpimlsysError):
    """Other ranks are gone.

    Args:
        message: the operation, the peer, the bucket and the elapsed time.
        ranks: the failed ranks, as far as known.
    """

    def __init__(self, message: str, ranks: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.ranks = tuple(ranks)


class Timeout(MpimlsysError, TimeoutError):
    """A wait reached its deadline."""


class CorruptData(MpimlsysError):
    """A checksum, a header or a format does not hold."""


class Diverged(MpimlsysError):
    """The loss or the parameters are no longer finite."""

    on_all_ranks = True


class Interrupted(MpimlsysError):
    """A signal asked the run to stop; it stopped at a step boundary with a checkpoint.

    Args:
        message: what was saved and how to go on.
        signal_number: the signal that was received.
    """

    on_all_ranks = True

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"``, or the known names when none is close.

    Example:
        >>> nearest("adma", ["sgd", "adam"])
        " Did you mean 'adam'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(names)}."
