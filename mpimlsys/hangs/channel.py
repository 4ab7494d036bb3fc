"""Questions and answers over TCP, beside MPI.

Guarantees: every exchange ends by its limit; only those who know the job's key are answered, and
the key itself is never sent; messages are of limited length. Refusals: nothing is encrypted.

The asked rank sends a nonce. A message is its length (4 bytes, big-endian), the SHA-256 HMAC under
the job's key of (direction, nonce, body), and the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
from collections.abc import Callable, Sequence

from mpimlsys.errors import CorruptData
from mpimlsys.hangs.messages import MOST_BYTES

_NONCE_BYTES = 16
_DIGEST_BYTES = 32
_LIMIT_S = 2.0  # of an exchange, on both sides
_MOST_CALLERS = 64
_QUESTION, _ANSWER = b"?", b"!"


class Unreachable(Exception):
    """No answer.

    Attributes:
        refused: whether the other's machine said that nobody listens there.
    """

    def __init__(self, *, refused: bool) -> None:
        super().__init__()
        self.refused = refused


def listen(*, beyond_this_machine: bool) -> socket.socket:
    """A socket on a free port.

    Raises:
        OSError: there is none.
    """
    if not beyond_this_machine:
        return socket.create_server(("127.0.0.1", 0), backlog=_MOST_CALLERS)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 may be switched off
            return socket.create_server(
                ("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_MOST_CALLERS
            )
    return socket.create_server(("", 0), backlog=_MOST_CALLERS)


async def serve(
    listener: socket.socket, key: bytes, answer: Callable[[bytes], bytes]
) -> asyncio.Server:
    """Answer questions from now on.

    Args:
        listener: of :func:`listen`.
        key: of the job.
        answer: what to answer; may raise CorruptData.
    """
    callers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_LIMIT_S):
                await _answer(reader, writer, key, answer)
        except (OSError, EOFError, CorruptData):
            pass  # whoever this was gets no answer
        finally:
            writer.close()

    # not a coroutine, which asyncio would complain of when the loop ends before it
    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(callers) == _MOST_CALLERS:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(handle(reader, writer))
        callers.add(task)
        task.add_done_callback(callers.discard)

    return await asyncio.start_server(begin, sock=listener, limit=MOST_BYTES)


async def ask(addresses: Sequence[str], port: int, key: bytes, question: bytes) -> bytes:
    """The answer from the first address that gives one.

    Raises:
        Unreachable: none did within two seconds.
    """
    refusals = 0
    asked = [asyncio.create_task(_ask(address, port, key, question)) for address in addresses]
    try:
        async with asyncio.timeout(_LIMIT_S):
            for next_one in asyncio.as_completed(asked):
                try:
                    return await next_one
                except ConnectionRefusedError:
                    refusals += 1
                except (OSError, EOFError, CorruptData):
                    pass  # another may be the right one
    except TimeoutError:
        pass
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    raise Unreachable(refused=refusals > 0)


async def _ask(address: str, port: int, key: bytes, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address, port, limit=MOST_BYTES)
    try:
        nonce = await reader.readexactly(_NONCE_BYTES)
        writer.write(frame(key, _QUESTION, nonce, question))
        await writer.drain()
        return await _read(reader, key, _ANSWER, nonce)
    finally:
        writer.close()


async def _answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    key: bytes,
    answer: Callable[[bytes], bytes],
) -> None:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    writer.write(nonce)
    question = await _read(reader, key, _QUESTION, nonce)
    writer.write(frame(key, _ANSWER, nonce, answer(question)))
    await writer.drain()


async def _read(reader: asyncio.StreamReader, key: bytes, direction: bytes, nonce: bytes) -> bytes:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > MOST_BYTES:
        raise CorruptData(f"a message between ranks of {length} bytes")
    digest = await reader.readexactly(_DIGEST_BYTES)
    body = await reader.readexactly(length)
    if not hmac.compare_digest(digest, _digest(key, direction, nonce, body)):
        raise CorruptData("a message that is not of this job")
    return body


def frame(key: bytes, direction: bytes, nonce: bytes, body: bytes) -> bytes:
    """A message as it is sent."""
    return len(body).to_bytes(4, "big") + _digest(key, direction, nonce, body) + body


def _digest(key: bytes, direction: bytes, nonce: bytes, body: bytes) -> bytes:
    return hmac.digest(key, direction + nonce + body, "sha256")
