"""What a client has no room for: it waits in one piece, goes out in slices, and nothing comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gemproxy.errors import Overload
from gemproxy.load.budget import Hold
from gemproxy.server.outlet import SLICE, EventStream, Outlet, Whole
from tests.burdens import hold, make_load

PING = b": ping\n\n"


def stream_of_events(ping: bytes = PING, **options: Any) -> EventStream:
    return EventStream(ping=ping, content_type="text/event-stream", sep="\n", allow_all_methods=True, **options)


class Transport:
    """Takes bytes, and keeps those beyond what its client has taken; a write beyond ``most`` is full."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.taken = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written) - self.taken

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (0, SLICE)


class Writer:
    """aiohttp's writer, as far as it is used: a drain is a client that takes all that is there."""

    def __init__(self, transport: Transport, *, chunked: bool = False) -> None:
        self.chunked = chunked
        self.drains = 0
        self._transport = transport

    async def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def drain(self) -> None:
        self.drains += 1
        self._transport.taken = len(self._transport.written)


def outlet(counted: Hold | None = None, *, chunked: bool = False) -> tuple[Outlet, Transport, Writer]:
    transport: Any = Transport()
    writer: Any = Writer(transport, chunked=chunked)
    return Outlet(transport, writer, counted or hold()), transport, writer


LARGE = bytes(range(256)) * (5 * SLICE // 256) + b"end"


def test_a_little_goes_out_at_once() -> None:
    made, transport, _ = outlet()
    assert not made.take(b"one")
    assert not made.take(b"two")
    assert transport.written == b"onetwo"


def test_a_client_that_is_behind_is_waited_for() -> None:
    made, transport, _ = outlet()
    transport.written += b"x" * (SLICE + 1)
    assert made.take(b"one")


async def test_much_goes_out_in_slices_and_what_waits_is_counted() -> None:
    counted = hold()
    before = counted.size
    made, transport, writer = outlet(counted)
    assert made.take(LARGE)
    assert made.within
    assert len(transport.written) == 2 * SLICE, "one slice too many, at most"
    assert counted.size - before == len(LARGE) - 2 * SLICE
    await made.drain()
    assert (transport.written, counted.size, made.within) == (LARGE, before, False)
    assert writer.drains >= 3


async def test_every_slice_is_a_chunk_of_its_own() -> None:
    made, transport, _ = outlet(chunked=True)
    made.take(LARGE)
    await made.drain()
    first, _, rest = bytes(transport.written).partition(b"\r\n")
    assert int(first, 16) == SLICE
    assert rest[SLICE : SLICE + 2] == b"\r\n"


async def test_the_first_bytes_go_with_the_headers_and_the_rest_in_slices() -> None:
    made, transport, _ = outlet()
    await made.write(LARGE)
    assert transport.written == LARGE
    await made.write(b"small")
    assert transport.written.endswith(b"small")


def test_a_client_that_has_left_is_told_of_at_once() -> None:
    with pytest.raises(ConnectionResetError):
        Outlet(None, Writer(Transport()), hold())  # type: ignore[arg-type]


async def test_nothing_falls_into_an_event_that_goes_out_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    made, transport, _ = outlet()
    sent: list[bytes] = []

    async def send(self: EventStream, data: bytes) -> None:
        sent.append(bytes(transport.written)[-3:] + data)

    monkeypatch.setattr("aiohttp_sse.EventSourceResponse.write", send)
    stream = stream_of_events()
    stream.outlet = made
    made.take(LARGE)
    await stream.write(PING)
    assert sent == []
    await stream.write(b"data: last")
    assert sent == [b"enddata: last"], "the last event waits for the end of the one before"
    await stream.write(b": ping\n\n")
    assert len(sent) == 2


async def test_an_event_that_the_budget_refuses_is_not_begun() -> None:
    counted = make_load(most=4 * SLICE).burden("ann").hold
    made, transport, _ = outlet(counted)
    with pytest.raises(Overload):
        await made.write(LARGE)
    assert transport.written == b""


async def test_each_slice_that_is_taken_is_told_of() -> None:
    transport: Any = Transport()
    taken: list[int] = []
    made = Outlet(transport, Writer(transport), hold(), lambda: taken.append(transport.taken))  # type: ignore[arg-type]
    made.take(LARGE)
    await made.drain()
    assert len(taken) >= 2


Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Answering) -> AsyncIterator[Callable[..., Awaitable[bytes]]]:
    """Serve one handler; gives what returns all that a connection answers to a request, once it has ended."""
    server = await asyncio.get_running_loop().create_server(web.Server(handler), "127.0.0.1", 0)

    async def told(version: str, *headers: str, takes: bool = True) -> bytes:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write("\r\n".join([f"POST / HTTP/{version}", "Host: localhost", *headers, "", ""]).encode())
        if not takes:
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport that reads, too
        try:
            return await asyncio.wait_for(reader.read(), 10 if takes else 1)
        finally:
            writer.close()

    async with server:
        yield told


HEADERS = {"x-request-id": "req_1", "Server": "gemproxy"}


@pytest.mark.parametrize("closes", [True, False], ids=["the server ends the connection", "the client asked for it"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_a_small_answer_in_one_step_is_the_one_that_aiohttp_writes(version: str, closes: bool) -> None:
    kinds = iter((Whole, web.Response))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = next(kinds)(body=b'{"a":1}', content_type="application/json")
        response.headers.update(HEADERS)
        if closes:
            response.force_close()
        return response

    async with answering(answer) as told:
        asked = () if closes else ("Connection: close",)
        ours, theirs = [await told(version, *asked) for _ in range(2)]
    lines = [sorted(line for line in whole.split(b"\r\n") if not line.startswith(b"Date")) for whole in (ours, theirs)]
    assert lines[0] == lines[1]
    assert ours.count(b"Date: ") == 1


async def test_a_connection_goes_on_behind_a_small_answer() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return Whole(body=b"x", content_type="text/plain", headers=HEADERS)

    async with answering(answer) as told:
        both = await told("1.1", "", "POST / HTTP/1.1", "Host: localhost", "Connection: close")
    assert both.count(b"HTTP/1.1 200 OK") == 2


async def test_no_header_ends_its_line_in_a_small_answer() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return Whole(body=b"x", headers={"x-a": "b\r\nSet-Cookie: c"})

    async with answering(answer) as told:
        assert b"Set-Cookie" not in await told("1.1", "Connection: close")


async def test_pings_come_from_the_first_interval_on_until_they_end() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        stream = stream_of_events(ping_interval=0.05)
        writer = await stream.prepare(request)
        assert writer is not None
        await asyncio.sleep(0.18)
        stream.end_pings()
        await stream.write(b"data: last\n\n")
        await asyncio.sleep(0.12)
        return stream

    async with answering(answer) as told:
        head, _, body = (await told("1.0")).partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    pings, last, rest = body.partition(b"data: last\n\n")
    assert 2 <= pings.count(b": ping\n\n") <= 3
    assert (last, rest) == (b"data: last\n\n", b"")


async def test_a_stream_without_a_ping_has_its_own_type_and_is_silent() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        stream = EventStream(ping=b"", content_type="audio/mpeg", allow_all_methods=True, ping_interval=0.02)
        await stream.prepare(request)
        await asyncio.sleep(0.1)
        await stream.write(b"sound")
        stream.end_pings()
        return stream

    async with answering(answer) as told:
        head, _, body = (await told("1.0")).partition(b"\r\n\r\n")
    assert b"Content-Type: audio/mpeg" in head
    assert body == b"sound"


async def test_a_stream_that_ends_early_has_no_task_for_pings() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        stream = stream_of_events(ping_interval=60)
        await stream.prepare(request)
        names.extend(task.get_name() for task in asyncio.all_tasks())
        stream.end_pings()
        return stream

    names: list[str] = []
    async with answering(answer) as told:
        await told("1.1", "Connection: close")
    assert names
    assert "pings" not in names


async def test_a_client_that_takes_no_small_answers_is_asked_to_wait() -> None:
    """What its requests beyond those cost, nobody would take."""
    waiting: list[int] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        waiting.append(request.transport.get_write_buffer_size())
        return Whole(body=bytes(SLICE), content_type="text/plain", headers=HEADERS)

    async with answering(answer) as told:
        asked = [""] + ["POST / HTTP/1.1", "Host: localhost", ""] * 400
        with pytest.raises(TimeoutError):
            await told("1.1", *asked, takes=False)
    assert max(waiting) <= SLICE
    assert len(waiting) < 400


async def test_a_stream_to_an_old_client_ends_with_its_connection() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        stream = stream_of_events()
        await stream.prepare(request)
        await stream.write(b"data: all\n\n")
        stream.end_pings()
        return stream

    async with answering(answer) as told:
        assert (await told("1.0", "Connection: keep-alive")).endswith(b"data: all\n\n")
