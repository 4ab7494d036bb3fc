"""Questions and answers over real sockets of this machine."""

import asyncio
import hashlib
import hmac
import socket

import pytest

from mpimlsys.errors import CorruptData
from mpimlsys.hangs import channel

KEY = b"of the job"
HERE = "127.0.0.1"


def with_server(body, *, answer=lambda question: b"answer to " + question, key=KEY):
    """Run ``body(port)`` beside a server; returns its result."""

    async def run():
        listener = channel.listen(beyond_this_machine=False)
        server = await channel.serve(listener, key, answer)
        try:
            return await asyncio.wait_for(body(listener.getsockname()[1]), 20)
        finally:
            server.close()

    return asyncio.run(run())


async def raw(port, data):
    """What a stranger who sends ``data`` gets after the nonce."""
    reader, writer = await asyncio.open_connection(HERE, port)
    await reader.readexactly(16)
    writer.write(data)
    writer.write_eof()
    got = await reader.read()
    writer.close()
    return got


def test_a_question_is_answered():
    async def body(port):
        return await channel.ask([HERE], port, KEY, b"question")

    assert with_server(body) == b"answer to question"


def test_the_first_address_that_answers_counts():
    async def body(port):
        return await channel.ask(["127.0.0.2", "::1", HERE], port, KEY, b"q")

    assert with_server(body) == b"answer to q"


def test_many_may_ask_at_once():
    async def body(port):
        return await asyncio.gather(*(channel.ask([HERE], port, KEY, b"q") for _ in range(40)))

    assert with_server(body) == [b"answer to q"] * 40


def test_bytes_of_a_message():
    digest = hmac.new(KEY, b"?" + b"n" * 16 + b"body", hashlib.sha256).digest()
    assert channel.frame(KEY, b"?", b"n" * 16, b"body") == b"\0\0\0\x04" + digest + b"body"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 4,
        b"\0\0\0\x01" + b"x" * 33,
        channel.frame(b"another job", b"?", b"n" * 16, b"question"),
        channel.frame(KEY, b"?", b"an older nonce..", b"question"),
    ],
)
def test_strangers_get_no_answer(data):
    async def body(port):
        refused = await raw(port, data)
        return refused, await channel.ask([HERE], port, KEY, b"q")

    assert with_server(body) == (b"", b"answer to q")


@pytest.mark.parametrize("case", ["another key", "corrupt question", "not one of us"])
def test_no_answer_is_unreachable(case):
    def refuse(question):
        raise CorruptData(str(question))

    async def body(port):
        with pytest.raises(channel.Unreachable) as caught:
            await channel.ask([HERE], port, KEY, b"q")
        return caught.value.refused

    key = b"another" if case == "another key" else KEY
    answer = refuse if case == "corrupt question" else bytes
    if case == "not one of us":

        async def run():
            async def greet(reader, writer):
                del reader
                writer.write(b"220 mail.example.org ESMTP and so on")
                writer.close()

            async with await asyncio.start_server(greet, HERE, 0) as server:
                return await body(server.sockets[0].getsockname()[1])

        assert asyncio.run(run()) is False
    else:
        assert with_server(body, key=key, answer=answer) is False


def test_a_port_without_a_listener_is_refused():
    with socket.create_server((HERE, 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(channel.Unreachable) as caught:
        asyncio.run(channel.ask([HERE], port, KEY, b"q"))
    assert caught.value.refused


def test_one_who_is_silent_ends_the_wait(monkeypatch):
    monkeypatch.setattr(channel, "_LIMIT_S", 0.2)
    with socket.create_server((HERE, 0)) as server, pytest.raises(channel.Unreachable) as caught:
        asyncio.run(channel.ask([HERE], server.getsockname()[1], KEY, b"q"))
    assert not caught.value.refused


def test_callers_who_say_nothing_do_not_keep_others_away(monkeypatch):
    monkeypatch.setattr(channel, "_LIMIT_S", 0.2)

    async def body(port):
        strangers = [await asyncio.open_connection(HERE, port) for _ in range(80)]
        for reader, _ in strangers:
            await reader.read()  # until the server hangs up
        for _, writer in strangers:
            writer.close()
        monkeypatch.setattr(channel, "_LIMIT_S", 10.0)
        return await channel.ask([HERE], port, KEY, b"q")

    assert with_server(body) == b"answer to q"
