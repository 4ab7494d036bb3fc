"""The thread that watches what its rank waits in, answers other ranks, and reports.

Guarantees: it never ends a job by a report; when an operation of this rank fails so that its link
is broken, all ranks of the link fail soon, those too that arrive later; it touches no MPI.
Refusals: what it does not see: waits inside MPI that are not an operation of the extension.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import math
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mpimlsys.errors import CorruptData
from mpimlsys.hangs import channel, machine
from mpimlsys.hangs.messages import (
    NOTHING_YET,
    Answer,
    Elsewhere,
    Question,
    Standing,
    checked,
    decode,
    encode,
)
from mpimlsys.hangs.report import Stall, among, report_of
from mpimlsys.hangs.verdict import Found, batches, neighbours, speaks
from mpimlsys.network import Link, Network

_LOOK_S = 1.0  # between two looks, and shorter where stalls are told sooner
_AFTER_S = 0.05  # from a deadline to the next look
_LOOKS = 10  # at least, before a stall is told
_AT_ONCE = 200  # connections
_END_S = 3.0
_MOST_REASON, _MOST_WORDS = 2000, 200  # characters


class Sentinel:
    """Made by the context, on all ranks. Collective.

    Args:
        network: whose links are watched.
        rank: of this process in the world.
        stall_warning_s: how long an operation may last before it is reported; 0: for ever.
        gather_bytes: gives every rank's bytes, in the order of ranks.
    """

    def __init__(
        self,
        network: Network,
        rank: int,
        stall_warning_s: float,
        gather_bytes: Callable[[bytes], list[bytes]],
    ) -> None:
        self._network, self._rank, self._stall_s = network, rank, stall_warning_s
        self._look_s = min(_LOOK_S, stall_warning_s / _LOOKS) if stall_warning_s else _LOOK_S
        self._trace = machine.Trace(max(3 * self._look_s, stall_warning_s / 2))
        self._places, self._key = _meet(machine.here(self._trace), gather_bytes)
        listener = _listen(self._places)
        port = listener.getsockname()[1] if listener else 0
        self._ports = [int(text) for text in gather_bytes(str(port).encode())]
        self._due: dict[str, tuple[int, float]] = {}  # by link: operation, seconds after its start
        self._reported: dict[str, int] = {}  # by link: operation
        self._given_up: set[str] = set()  # links
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log: Path | None = None
        self._stop: Callable[[], object] = _nothing
        self._begun = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener)), name="mpimlsys-sentinel", daemon=True
        )
        self._thread.start()
        self._begun.wait(_END_S)

    def log_to(self, path: Path) -> None:
        """Append the reports of this rank to a file too, which several ranks may share."""
        self._log = path

    def close(self) -> None:
        """End the thread; ranks that ask from now on are refused."""
        with contextlib.suppress(RuntimeError):  # the thread has ended
            self._stop()
        self._thread.join(_END_S)
        self._trace.close()

    async def _run(self, listener: socket.socket | None) -> None:
        stop = asyncio.Event()
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
        self._begun.set()
        server = None
        if listener is not None:
            server = await channel.serve(listener, self._key, self._answer)
        while not stop.is_set():
            self._trace.wind()
            next_s = self._look_s
            for link in list(self._network.links):
                if len(link.ranks) > 1:
                    standing = self._look_at(link)
                    if standing.running:  # others hear of a failure soon after it
                        next_s = min(next_s, standing.left_s + _AFTER_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), next_s)
        if server is not None:
            server.close()

    def _look_at(self, link: Link) -> Standing:
        standing = _standing(link)
        if standing.failure:
            self._give_up(link, f"rank {self._rank} gave up: {standing.failure}")
        if not standing.running or not self._stall_s:
            return standing
        number, due_s = self._due.get(link.key, (0, 0.0))
        if standing.started_s >= (due_s if number == standing.number else self._stall_s):
            self._due[link.key] = (standing.number, math.inf)
            self._beside(self._look_into(link, standing))
        return standing

    def _give_up(self, link: Link, why: str) -> None:
        """Let this rank's operations on the link fail, and those of all others."""
        if link.key in self._given_up:
            return
        self._given_up.add(link.key)
        link.transport.abandon(why)
        question = Question(link.key, gave_up=why[:_MOST_REASON])
        self._beside(self._ask_all(neighbours(link.ranks, self._rank), question))

    def _beside(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin what asks others, which may be slow to answer."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_into(self, link: Link, standing: Standing) -> None:
        """Look into an operation that waits too long, and say when to do so again."""
        begun = time.monotonic()
        await self._report(link, standing)
        lasts_s = standing.started_s + time.monotonic() - begun
        self._due[link.key] = (standing.number, 2 * lasts_s)

    async def _report(self, link: Link, standing: Standing) -> None:
        """Report an operation that waits too long, unless another rank does."""
        mine = {known.key: _standing(known).number for known in list(self._network.links)}
        question = Question(link.key)
        found: dict[int, Found] = {}
        for ranks in batches(link.ranks, self._rank):
            found |= await self._ask_all(ranks, question)
            answers = {rank: told.answer for rank, told in found.items() if told.answer is not None}
            late_s = self._stall_s - 2 * self._look_s
            if not speaks(self._rank, standing, answers, mine, late_s):
                return
        found = await self._with_looks(link, found)
        now = _standing(link)
        if now.number != standing.number or not now.running:
            return
        own = Answer(now, (), (), 0)
        found[self._rank] = Found(self._places[self._rank], own)
        self._reported[link.key] = standing.number
        found = {rank: found[rank] for rank in sorted(found)}
        stall = Stall(self._rank, now, link.background, found, mine, time.time())
        self._tell(report_of(stall))

    def _tell(self, report: str) -> None:
        with contextlib.suppress(OSError):  # nobody may read it any more
            sys.stderr.write(f"{report}\n")
            sys.stderr.flush()
        if self._log is not None:
            entry = f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{report}\n\n"
            # a file system that hangs must not keep this rank from answering
            threading.Thread(target=_append, args=(self._log, entry), daemon=True).start()

    async def _with_looks(self, link: Link, found: Mapping[int, Found]) -> dict[int, Found]:
        """For the ranks that did not answer: what their machines know of them."""
        complete = dict(found)
        witnesses: dict[int, list[int]] = {}
        able = [self._rank, *(rank for rank, told in found.items() if told.answer is not None)]
        for rank, told in found.items():
            if told.answer is None:
                for witness in able:
                    if self._places[witness].sees_process_of(told.place):
                        witnesses.setdefault(witness, []).append(rank)
                        break
        for witness, ranks in witnesses.items():
            if witness == self._rank:
                seen = _seen(self._places[rank] for rank in ranks)
            else:
                question = Question(link.key, look_at=tuple(ranks))
                answer = (await self._ask_all([witness], question))[witness].answer
                seen = answer.seen if answer is not None else ()
            for rank, (look, *stack) in zip(ranks, map(str.splitlines, seen), strict=False):
                complete[rank] = dataclasses.replace(found[rank], look=look, stack=tuple(stack))
        return complete

    async def _ask_all(self, ranks: Sequence[int], question: Question) -> dict[int, Found]:
        """Ask other ranks, all at once."""
        room = asyncio.Semaphore(_AT_ONCE)
        data = encode(question)

        async def ask(rank: int) -> Found:
            place, port = self._places[rank], self._ports[rank]
            ways = self._places[self._rank].ways_to(place) if port else ()
            try:
                async with room:
                    answer = decode(Answer, await channel.ask(ways, port, self._key, data))
            except channel.Unreachable as error:
                return Found(place, refused=error.refused)
            except CorruptData:
                return Found(place)
            return Found(place, answer, stack=answer.stack)

        others = [rank for rank in ranks if rank != self._rank]
        return dict(zip(others, await asyncio.gather(*map(ask, others)), strict=True))

    def _answer(self, data: bytes) -> bytes:
        question = decode(Question, data)
        links = list(self._network.links)
        asked = next((link for link in links if link.key == question.link), None)
        standing = _standing(asked) if asked is not None else NOTHING_YET
        if question.gave_up and asked is not None:
            self._give_up(asked, question.gave_up)
        elsewhere = [
            Elsewhere(link.key, _among(link)[:_MOST_WORDS], running)
            for link in links
            if link is not asked and (running := _standing(link)).running
        ]
        places = [self._places[rank] for rank in question.look_at if rank < len(self._places)]
        return encode(
            Answer(
                standing,
                tuple(elsewhere),
                machine.stack_of_main_thread(),
                self._reported.get(question.link, 0),
                _seen(place for place in places if self._places[self._rank].sees_process_of(place)),
            )
        )


def _nothing() -> None:
    """What ends a thread that did not begin."""


def _among(link: Link) -> str:
    return among(link.ranks, background=link.background)


def _standing(link: Link) -> Standing:
    told: dict[str, Any] = link.transport.standing()
    return Standing(**told | {"shape": tuple(told["shape"])})


def _seen(places: Iterable[machine.Place]) -> tuple[str, ...]:
    """What this machine knows of each: a line for the state, then its stack."""
    return tuple("\n".join([look, *stack]) for look, stack in map(machine.look_at, places))


def _meet(
    place: machine.Place, gather_bytes: Callable[[bytes], list[bytes]]
) -> tuple[list[machine.Place], bytes]:
    """Every rank's place, and a key that only the ranks of this job know. Collective."""
    told = gather_bytes(
        json.dumps({"place": dataclasses.asdict(place), "salt": secrets.token_hex(16)}).encode()
    )
    places = [checked(machine.Place, json.loads(text)["place"]) for text in told]
    return places, hashlib.sha256(b"\n".join(told)).digest()


def _listen(places: Sequence[machine.Place]) -> socket.socket | None:
    """None where no port can be had: this rank then asks, but does not answer."""
    networks = {(place.machine, place.network) for place in places}
    try:
        return channel.listen(beyond_this_machine=len(networks) > 1)
    except OSError:
        return None


def _append(path: Path, text: str) -> None:
    """Where the file system refuses, standard error has it alone."""
    with contextlib.suppress(OSError), path.open("a") as file:
        file.write(text)
