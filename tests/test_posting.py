"""Requests to Google: how they are written, the whole answer within bounds, no credential for whom a redirect names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from gemproxy import posting
from gemproxy.posting import DIRECT, SLICE, WHOLE, Direct, Reply, ask, outgoing
from gemproxy.simulator import Answer, Hang, Pause, Simulator, drip, error_answer
from gemproxy.upstream.dialect import HttpRequest

BODY = b'{"models":[]}'


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def question(simulator: Simulator) -> HttpRequest:
    return HttpRequest(f"{simulator.ai_studio_url}/models", {"x-goog-api-key": "test-key-1"}, b"", "GET")


@pytest.mark.parametrize(
    ("most", "size"), [(posting.MOST, 13), (5, 6)], ids=["all of it", "no more pieces than are needed"]
)
async def test_an_answer_that_comes_in_pieces_is_read_on(simulator, session, monkeypatch, most, size):
    monkeypatch.setattr(posting, "MOST", most)
    simulator.script(Answer(drip(BODY, 3, 0.02), headers={"Retry-After": "7"}), method="models")
    reply = await ask(session, question(simulator), 5.0)
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (200, BODY[:size], "7")


async def test_a_redirect_is_not_followed(simulator, session):
    simulator.script(error_answer(307, b"", headers={"Location": f"{simulator.url}/elsewhere"}), method="models")
    assert (await ask(session, question(simulator), 5.0)).status == 307
    assert [request.path for request in simulator.requests] == ["/v1beta/models"]


@pytest.mark.parametrize("place", ["before the head", "in the body"])
async def test_a_silent_answer_is_given_up(simulator, session, place):
    answer = Answer().after(Hang()) if place == "before the head" else Answer((b"{", Pause(0.01), Hang()))
    simulator.script(answer, method="models")
    with pytest.raises(TimeoutError):
        await ask(session, question(simulator), 0.1)


def test_the_repr_of_a_reply_shows_nothing_of_it():
    assert repr(Reply(200, {"set-cookie": "fake"}, b"fake")) == "Reply(200)"


# ------------------------------------------------------------------------------------------------- how they go out

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve, room: int = 1 << 16) -> AsyncIterator[str]:
    """A server of these bytes; ``room`` is what its socket takes unread."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=sock)
    async with server:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1beta/models/m:generateContent?alt=sse"


async def written(body: bytes, kind: type[aiohttp.ClientRequest]) -> bytes:
    """Return the bytes of a request as its server sees them."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head[: head.index(b"\r\nHost: ")] + head[head.index(b"\r\nUser-Agent") :])
        seen.append(await reader.readexactly(len(body)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    headers = {"User-Agent": "me", "x-goog-api-key": "k"}
    async with (
        listening(serve) as url,
        aiohttp.ClientSession(request_class=kind, headers=headers) as session,
        session.post(url, data=outgoing(body)) as answer,
    ):
        assert await answer.read() == b"{}"
    return b"".join(seen)


@pytest.mark.parametrize("size", [1, SLICE + 1, WHOLE, WHOLE + 1])
async def test_a_request_is_written_as_aiohttp_itself_would(size):
    body = b"{" + b" " * (size - 1)
    assert await written(body, Direct) == await written(body, aiohttp.ClientRequest)


async def test_no_task_is_started_for_a_small_body(monkeypatch):
    started = []
    whole = aiohttp.ClientRequest.write_bytes

    def write_bytes(self, *arguments):
        started.append(self.body.size)
        return whole(self, *arguments)

    monkeypatch.setattr(Direct, "write_bytes", write_bytes)
    await written(b"{}", Direct)
    assert started == []
    await written(b" " * (WHOLE + 1), Direct)
    assert started == [WHOLE + 1]


async def test_the_refusal_of_a_body_that_nobody_reads_is_heard():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await gone.wait()
        writer.transport.abort()

    def narrow(address: tuple[Any, ...]) -> socket.socket:
        sock = socket.socket(*address[:3])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock

    gone = asyncio.Event()
    connector = aiohttp.TCPConnector(socket_factory=narrow)
    async with (
        listening(serve, room=4096) as url,
        aiohttp.ClientSession(request_class=Direct, connector=connector) as session,
    ):
        async with asyncio.timeout(2), session.post(url, data=outgoing(b" " * WHOLE)) as answer:
            assert answer.status == 413
        gone.set()


async def test_a_connection_that_ends_before_the_body_is_a_client_error():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with listening(serve) as url, aiohttp.ClientSession(request_class=Direct) as direct:
        with pytest.raises(aiohttp.ClientError):
            await direct.post(url, data=outgoing(b"{}"))


def test_the_shortcut_is_known_to_fit_this_aiohttp():
    assert DIRECT is Direct, "compare ClientRequest.send of this aiohttp with ours, then name its version there"
