"""A connection is used again only while it is clean, whatever its upstream says and when."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest

from bench.keepalive import BEHAVIOURS, fuzz
from gemproxy.load.reads import READ_SIZE
from gemproxy.transport import connections
from gemproxy.transport.client import Poster, read_beginning
from gemproxy.transport.connections import LONGEST_HEAD, Connector, open_connector
from gemproxy.upstream.dialect import HttpRequest
from tests.plain import KEPT
from tests.tls import contexts
from tests.waiting import soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
OTHER = OK + b"!!"  # what somebody else was to get
AGAIN = OK + b"{}"


class Upstream(asyncio.Protocol):
    """Answers every request with the same bytes; ``all`` are its connections."""

    def __init__(self, everyone: list[Upstream], answer: bytes, size: int = 2) -> None:
        everyone.append(self)
        self._answer = answer
        self._missing = self._size = size
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.line: Any = transport

    def data_received(self, data: bytes) -> None:
        head, end, body = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return
        self._head = data if len(body) < self._size else b""
        if not self._head:
            self.line.write(self._answer)


class Desk:
    """A poster in front of an upstream."""

    def __init__(self, url: str, session: aiohttp.ClientSession, everyone: list[Upstream], direct: bool) -> None:
        self._url = url
        self.session = session
        self.opened = everyone
        self.post = partial(self._post, Poster(session, direct=direct))

    async def _post(self, poster: Poster, body: bytes = b"{}") -> Any:
        return await poster.post(HttpRequest(self._url, {"x-goog-api-key": "test-key-1"}, body))

    async def ask(self, body: bytes = b"{}") -> bytes:
        return await read_beginning(await self.post(body), 1 << 20)

    def kept(self) -> int:
        """Return how many connections wait for another request."""
        connector: Any = self.session.connector
        return sum(line.is_connected() for lines in connector._conns.values() for line, _ in lines)

    def busy(self) -> int:
        """Return how many connections are in use or wait for another request."""
        connector: Any = self.session.connector
        return len(connector._acquired) + self.kept()


@asynccontextmanager
async def desk(
    make: Callable[[list[Upstream]], asyncio.Protocol], direct: bool = True, tls: Any = None, **options: Any
) -> AsyncIterator[Desk]:
    everyone: list[Upstream] = []
    server = await asyncio.get_running_loop().create_server(partial(make, everyone), "127.0.0.1", 0, ssl=tls)
    url = (
        f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1beta/models/m:generateContent"
    )
    async with server, aiohttp.ClientSession(connector=open_connector(limit=0, **options)) as session:
        yield Desk(url, session, everyone, direct)
    for one in everyone:
        one.line.abort()
    await asyncio.sleep(0.01)


def saying(answer: bytes) -> Callable[[list[Upstream]], Upstream]:
    return partial(Upstream, answer=answer)


@pytest.fixture(params=[True, False], ids=["posted here", "posted by aiohttp"])
def direct(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is judged alone."""
    monkeypatch.setattr(connections, "DISTRUST", 0.0)


async def test_nobody_gets_a_byte_of_another_ones_answer(direct) -> None:
    tally = await fuzz(500, 7, direct=direct)
    assert tally.foreign == 0
    assert tally.right + tally.failed == 500
    assert tally.failed < 10, "broken answers are asked for again"
    assert set(tally.behaviours) == {name for name, _ in BEHAVIOURS} | {"well"}


@KEPT
@pytest.mark.parametrize("answer", [AGAIN, CHUNKED], ids=["with a length", "in chunks"])
async def test_a_clean_connection_is_kept(direct, answer) -> None:
    async with desk(saying(answer), direct) as it:
        assert [await it.ask() for _ in range(3)] == [b"{}"] * 3
        assert (len(it.opened), it.kept()) == (1, 1)


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param(OTHER, id="one answer too many"),
        pytest.param(OTHER * 3000, id="thousands of answers, beyond what is parsed at once"),
        pytest.param(OTHER[:-1], id="an answer whose last byte is yet to come"),
        pytest.param(OTHER[:20], id="half a head"),
        pytest.param(b"H", id="one byte of a head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="what is said before an answer"),
    ],
)
@pytest.mark.parametrize("answer", [AGAIN, CHUNKED], ids=["with a length", "in chunks"])
async def test_what_comes_behind_an_answer_ends_its_connection(direct, trusting, answer, behind) -> None:
    async with desk(saying(answer + behind), direct) as it:
        for count in range(1, 4):
            assert await it.ask() == b"{}"
            assert (len(it.opened), it.kept()) == (count, 0)


async def test_what_comes_between_two_requests_ends_the_connection_at_once(direct, trusting) -> None:
    async with desk(saying(AGAIN), direct) as it:
        await it.ask()
        it.opened[0].line.write(b"H")
        await soon(lambda: not it.kept())
        assert await it.ask() == b"{}"
        assert len(it.opened) == 2


async def test_what_nobody_has_read_yet_is_seen_before_the_next_request(direct, trusting) -> None:
    async with desk(saying(AGAIN), direct) as it:
        await it.ask()
        it.opened[0].line.write(OTHER)  # is there already: no turn of the loop comes between
        assert await it.ask() == b"{}"
        assert len(it.opened) == 2


@KEPT
async def test_over_tls_a_clean_connection_is_kept_and_another_is_not(direct, trusting, tmp_path) -> None:
    server_side, client_side = contexts(tmp_path)
    async with desk(saying(AGAIN), direct, tls=server_side, ssl=client_side) as it:
        assert [await it.ask() for _ in range(3)] == [b"{}"] * 3
        assert (len(it.opened), it.kept()) == (1, 1)
        it.opened[0].line.write(OTHER)
        assert await it.ask() == b"{}"
        assert len(it.opened) == 2


@KEPT
async def test_what_comes_between_taking_a_connection_and_writing_is_no_answer(trusting, monkeypatch) -> None:
    async with desk(saying(AGAIN), direct=False) as it:
        await it.ask()
        whole = aiohttp.ClientRequest.send

        async def send(self: Any, connection: Any) -> Any:
            it.opened[0].line.write(OTHER)  # aiohttp writes a turn of the loop later
            return await whole(self, connection)

        monkeypatch.setattr(aiohttp.ClientRequest, "send", send)
        with pytest.raises(aiohttp.ClientConnectionError, match="before it was asked"):
            await it.ask()


async def test_who_speaks_first_is_not_asked(direct) -> None:
    class Eager(Upstream):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.line.write(OTHER)

    async with desk(partial(Eager, answer=AGAIN), direct) as it:
        for _ in range(3):
            with contextlib.suppress(aiohttp.ClientError):
                assert await it.ask() in (b"{}", b"!!")  # its word may come behind the question: nobody else's
            assert it.kept() == 0 or len(it.opened) == 1


async def test_a_connection_whose_request_is_still_on_its_way_is_not_kept(direct, trusting) -> None:
    class Early(Upstream):
        def data_received(self, data: bytes) -> None:
            self.line.pause_reading()
            self.line.write(AGAIN)

    def narrow(address: tuple[Any, ...]) -> socket.socket:
        sock = socket.socket(*address[:3])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock

    async with desk(partial(Early, answer=b""), direct, socket_factory=narrow) as it:
        for count in range(1, 3):
            assert await it.ask(b" " * (1 << 20)) == b"{}"
            await soon(lambda: not it.busy())
            assert len(it.opened) == count


@pytest.mark.parametrize("more", [b"", b"Connection: upgrade\r\nUpgrade: x\r\n"], ids=["so it says", "asked for"])
async def test_a_connection_that_speaks_another_protocol_is_not_kept(direct, more) -> None:
    async with desk(saying(b"HTTP/1.1 101 Switching\r\n%b\r\n" % more), direct) as it:
        response = await it.post()
        response.close()
        assert (response.status, it.kept()) == (101, 0)


@KEPT
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 9999 + AGAIN, id="thousands of heads before the answer"),
        pytest.param(b"HTTP/1.1 103 Early\r\n" + b"Link: %b\r\n" % (b"x" * 8000) * 9, id="a head larger than any"),
    ],
)
async def test_what_comes_before_a_body_is_bounded(direct, answer) -> None:
    async with desk(saying(answer), direct) as it:
        with pytest.raises(aiohttp.ClientError):
            await it.ask()
        assert it.kept() == 0


async def test_no_more_of_a_head_without_end_is_parsed_than_is_allowed(monkeypatch) -> None:
    parsed = []
    monkeypatch.setattr(connections, "_parse", lambda _, data: parsed.append(len(data)))
    line = connections.Line(lambda *_: None, asyncio.get_running_loop())
    line._room = LONGEST_HEAD
    line.transport = asyncio.Transport()
    monkeypatch.setattr(asyncio.Transport, "abort", lambda _: None)
    line.data_received(b"x" * (1 << 20))
    assert sum(parsed) == LONGEST_HEAD


@KEPT
async def test_a_host_that_spoke_unasked_is_asked_on_new_connections(direct, caplog) -> None:
    async with desk(saying(AGAIN), direct) as it:
        await asyncio.gather(it.ask(), it.ask())
        assert it.kept() == 2
        it.opened[0].line.write(OTHER)
        await soon(lambda: not it.kept())
        assert [await it.ask(), await it.ask()] == [b"{}"] * 2
        assert (len(it.opened), it.kept()) == (4, 0)
        connector: Any = it.session.connector
        connector._distrusted = dict.fromkeys(connector._distrusted, 0.0)  # the time is over
        assert [await it.ask(), await it.ask()] == [b"{}"] * 2
        assert (len(it.opened), it.kept()) == (5, 1)
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in told] == [
        "127.0.0.1 answered more than it was asked: no connection to it is kept for 600 s"
    ]


@KEPT
async def test_a_goodbye_is_no_reason_for_distrust(caplog) -> None:
    async with desk(saying(AGAIN)) as it:
        await it.ask()
        it.opened[0].line.write(b"HTTP/1.0 408 Request Timeout\r\nConnection: close\r\n\r\n")
        await soon(lambda: not it.kept())
        await it.ask()
        assert (len(it.opened), it.kept(), caplog.records) == (2, 1, [])


async def test_a_request_that_nobody_reads_is_let_go_with_its_connection(direct) -> None:
    class Deaf(Upstream):
        def data_received(self, data: bytes) -> None:
            self.line.pause_reading()

    async with desk(partial(Deaf, answer=b"")) as it:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await it.ask(b" " * (9 << 20))
        connector: Any = it.session.connector
        assert not connector._acquired
        async with asyncio.timeout(2):
            await connector.close()  # waits for connections that are still being closed


async def test_beside_another_aiohttp_no_connection_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(connections, "PLAIN", "")
    async with open_connector(limit=0, keepalive_timeout=30) as known:
        assert isinstance(known, Connector)
    monkeypatch.setattr(connections, "PLAIN", "a part is missing")
    async with open_connector(limit=0, keepalive_timeout=30) as unknown:
        assert unknown.force_close
        assert not isinstance(unknown, Connector)


@pytest.mark.parametrize(
    ("fault", "told"),
    [(ConnectionResetError("x"), aiohttp.ClientConnectorError), (TypeError("x"), TypeError)],
    ids=["an OSError", "a bug"],
)
async def test_a_connection_that_fails_its_check_is_closed_whatever_the_fault(fault, told) -> None:
    def check(transport: asyncio.BaseTransport) -> None:
        seen.append(transport)
        raise fault

    seen: list[asyncio.BaseTransport] = []
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, aiohttp.ClientSession(connector=open_connector(check)) as session:
        with pytest.raises(told):
            await session.get(url)
        assert [transport.is_closing() for transport in seen] == [True]


@pytest.mark.parametrize("chunks", [1_024, 1_025, 1_026])
async def test_an_answer_in_tiny_chunks_comes_whole_to_a_slow_reader(chunks: int) -> None:
    """Of more than 1,024 aiohttp stops reading (of 16 KiB a read), and what its parser keeps is asked for again."""
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * chunks)
        await begun.wait()
        writer.write(b"1\r\ny\r\n0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:{1}/".format(*server.sockets[0].getsockname())
    session = aiohttp.ClientSession(connector=open_connector(), read_bufsize=READ_SIZE)
    async with server, session, session.get(url) as response:
        await soon(lambda: response.content.total_bytes == chunks)
        said = await response.content.readany()
        begun.set()
        said += await asyncio.wait_for(response.content.read(), 10)
    assert said == b"x" * chunks + b"y"
