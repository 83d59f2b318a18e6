"""Requests to Google: how they are written, the whole answer within bounds, no credential for whom a redirect names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from gemproxy.errors import UpstreamFault
from gemproxy.simulator import Answer, Hang, Pause, Simulator, drip, error_answer
from gemproxy.transport import client
from gemproxy.transport.client import LARGEST_WRITE, WRITE_SLICE, Poster, Reply, ask, read_beginning
from gemproxy.upstream.dialect import HttpRequest

BODY = b'{"models":[]}'


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def question(simulator: Simulator) -> HttpRequest:
    return HttpRequest(f"{simulator.ai_studio_url}/models", {"x-goog-api-key": "test-key-1"}, b"", "GET")


@pytest.mark.parametrize(
    ("most", "size"), [(client.LARGEST_REPLY, 13), (5, 6)], ids=["all of it", "no more pieces than are needed"]
)
async def test_an_answer_that_comes_in_pieces_is_read_on(simulator, session, monkeypatch, most, size):
    monkeypatch.setattr(client, "LARGEST_REPLY", most)
    simulator.script(Answer(drip(BODY, 3, 0.02), headers={"Retry-After": "7"}), method="models")
    reply = await ask(session, question(simulator), 5.0)
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (200, BODY[:size], "7")


MODEL = msgspec.json.encode(
    {
        "name": "models/gemini-2.5-flash-preview-05-20",
        "baseModelId": "gemini-2.5-flash",
        "version": "2.5-preview-05-20",
        "displayName": "Gemini 2.5 Flash Preview 05-20",
        "description": "Our best model [of its size], for large, low latency, high volume tasks: {that need thinking}",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"],
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": True,
    }
)


async def test_a_thousand_models_are_read(simulator, session):
    body = b'{"models":[' + b",".join([MODEL] * 1_000) + b"]}"
    simulator.script(Answer((body,)), method="models")
    assert (await ask(session, question(simulator), 5.0)).body == body


@pytest.mark.parametrize("path", ["allowedTiers", "models"])
async def test_an_answer_of_too_many_values_is_none(simulator, session, path):
    """Four megabytes of them held the loop for half a second when they were decoded."""
    simulator.script(Answer((b'{"%s":[%s{}]}' % (path.encode(), b"{}," * 30_000),)), method="models")
    with pytest.raises(aiohttp.ClientPayloadError, match="too many values"):
        await ask(session, question(simulator), 5.0)


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
async def listening(serve: Serve, pool: int = 1 << 16) -> AsyncIterator[str]:
    """A server of these bytes; ``room`` is what its socket takes unread."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, pool)
    sock.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=sock)
    async with server:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1beta/models/m:generateContent?alt=sse"


async def written(body: bytes, *, direct: bool) -> list[bytes]:
    """Return the first line, the sorted header lines and the body of a request, as its server sees them."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *headers = (await reader.readuntil(b"\r\n\r\n")).splitlines()
        seen.extend((line, *sorted(header for header in headers if not header.startswith(b"Host: "))))
        seen.append(await reader.readexactly(len(body)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    headers = {"user-agent": "me", "content-type": "application/json", "x-goog-api-key": "k"}
    async with (
        listening(serve) as url,
        aiohttp.ClientSession(headers={"Accept-Encoding": "identity", "User-Agent": "another"}) as session,
    ):
        answer = await Poster(session, direct=direct).post(HttpRequest(url, headers, body))
        assert await read_beginning(answer, 9) == b"{}"
    return seen


@pytest.mark.parametrize("size", [1, WRITE_SLICE + 1, LARGEST_WRITE, LARGEST_WRITE + 1])
async def test_a_request_is_written_as_aiohttp_itself_would(size):
    body = b"{" + b" " * (size - 1)
    seen = await written(body, direct=True)
    assert seen == await written(body, direct=False)
    assert {b"User-Agent: me", b"x-goog-api-key: k"} <= {line.replace(b"user-agent", b"User-Agent") for line in seen}


async def test_only_a_large_body_takes_a_task_to_be_written(monkeypatch):
    started = []
    whole = aiohttp.ClientRequest.write_bytes

    def write_bytes(self, *arguments):
        started.append(self.body.size)
        return whole(self, *arguments)

    monkeypatch.setattr(aiohttp.ClientRequest, "write_bytes", write_bytes)
    await written(b"{}", direct=True)
    assert started == []
    await written(b" " * (LARGEST_WRITE + 1), direct=True)
    assert started == [LARGEST_WRITE + 1]


async def test_what_one_request_carries_is_not_in_the_next_or_in_an_error():
    heads = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(2)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with listening(serve) as url, aiohttp.ClientSession() as session:
        poster = Poster(session)
        for headers in ({"x-goog-api-key": "key-1"}, {"authorization": "Bearer key-2"}):
            answer = await poster.post(HttpRequest(url, headers, b"{}"))
            assert "key-" not in repr(answer)
            assert await read_beginning(answer, 9) == b"{}"
    assert [head.count(b"key-1") for head in heads] == [1, 0]
    assert [head.count(b"key-2") for head in heads] == [0, 1]


async def test_what_is_said_before_the_answer_is_passed_over():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Last: yes\r\n\r\n{}")
        await reader.read()
        writer.close()

    async with listening(serve) as url, aiohttp.ClientSession() as session:
        answer = await Poster(session).post(HttpRequest(url, {}, b"{}"))
        assert (answer.status, answer.headers["x-last"], await read_beginning(answer, 9)) == (200, "yes", b"{}")
        assert connections(session) == 1


@pytest.mark.parametrize("direct", [True, False])
async def test_a_header_cannot_bring_another_one(direct):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with listening(serve) as url, aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match=r"(?i)header") as caught:
            await Poster(session, direct=direct).post(HttpRequest(url, {"x-goog-api-key": "k\r\nHost: other"}, b"{}"))
        assert "other" not in str(caught.value)
        assert connections(session) == 0


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
    async with listening(serve, pool=4096) as url, aiohttp.ClientSession(connector=connector) as session:
        async with asyncio.timeout(2):
            answer = await Poster(session).post(HttpRequest(url, {}, b" " * LARGEST_WRITE))
        assert answer.status == 413
        gone.set()


def breaks_off(head: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        writer.transport.abort()

    return serve


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-", b"220 smtp ready\r\n\r\n"])
async def test_a_connection_that_ends_before_the_head_is_a_client_error(head):
    async with listening(breaks_off(head)) as url, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await Poster(session).post(HttpRequest(url, {}, b"{}"))
        assert connections(session) == 0


async def test_who_leaves_before_the_head_leaves_no_connection_behind():
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to the end: the client closes
        left.set()
        writer.close()

    async with listening(serve) as url, aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Poster(session).post(HttpRequest(url, {}, b"{}"))
        async with asyncio.timeout(2):
            await left.wait()
        assert connections(session) == 0


async def test_a_connection_that_cannot_be_had_is_a_client_error():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and nobody listens
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await Poster(session).post(HttpRequest(f"http://127.0.0.1:{sock.getsockname()[1]}/", {}, b"{}"))


PACKED = [
    pytest.param("Content-Encoding: gzip", id="gzip"),
    pytest.param("content-encoding: GZIP", id="in capitals"),
    pytest.param("Content-Encoding: x-gzip", id="an old name"),
    pytest.param("Content-Encoding: br", id="brotli"),
    pytest.param("Content-Encoding: nobody-knows", id="an unknown coding"),
    pytest.param("Content-Encoding: identity, gzip", id="behind identity"),
    pytest.param("Content-Encoding: identity\r\nContent-Encoding: gzip", id="in a second line"),
    pytest.param("Transfer-Encoding: gzip, chunked", id="on the way only"),
    pytest.param("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", id="on the way, in two lines"),
    pytest.param("Transfer-Encoding: gzip", id="on the way, up to the end of the connection"),
]
PLAIN = [
    pytest.param("Content-Encoding: identity", id="identity"),
    pytest.param("Content-Encoding: Identity", id="in capitals"),
    pytest.param("Content-Encoding:", id="an empty name"),
    pytest.param("Transfer-Encoding: Chunked", id="in chunks"),
    pytest.param("X-Encoding: gzip", id="another header"),
]


def answers(status: str, header: str) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        coded = header.lower().startswith("transfer-encoding")
        body = b"2\r\n{}\r\n0\r\n\r\n" if coded else b"{}"
        length = "" if coded else "Content-Length: 2\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{length}{header}\r\nConnection: close\r\n\r\n".encode() + body)
        writer.close()

    return serve


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("header", PACKED)
async def test_a_packed_answer_is_a_broken_answer(header, direct):
    async with listening(answers("200 OK", header)) as url, aiohttp.ClientSession(auto_decompress=False) as session:
        with pytest.raises(UpstreamFault, match=r"packed its answer, although asked not to \((Content|Transfer)-Enc"):
            await Poster(session, direct=direct).post(HttpRequest(url, {}, b"{}"))


@pytest.mark.parametrize("header", PACKED)
async def test_of_a_packed_refusal_only_the_status_counts(header):
    async with (
        listening(answers("429 Too Many", header)) as url,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        response = await Poster(session).post(HttpRequest(url, {}, b"{}"))
        assert response.status == 429
        with pytest.raises(aiohttp.ClientPayloadError, match="packed"):
            await read_beginning(response, 9)
        response.close()


@pytest.mark.parametrize("header", PACKED)
async def test_a_packed_answer_about_a_credential_is_none(header):
    async with listening(answers("200 OK", header)) as url, aiohttp.ClientSession(auto_decompress=False) as session:
        with pytest.raises(aiohttp.ClientPayloadError, match="packed"):
            await ask(session, HttpRequest(url, {}, b""), 5.0)


@pytest.mark.parametrize("header", PLAIN)
async def test_an_answer_that_is_packed_by_no_name_is_read(header):
    async with listening(answers("200 OK", header)) as url, aiohttp.ClientSession() as session:
        assert await read_beginning(await Poster(session).post(HttpRequest(url, {}, b"{}")), 9) == b"{}"


def connections(session: aiohttp.ClientSession) -> int:
    """Return how many connections of a session are in use or kept for later."""
    connector: Any = session.connector
    return len(connector._acquired) + sum(map(len, connector._conns.values()))
