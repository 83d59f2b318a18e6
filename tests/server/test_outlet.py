"""What a client has no room for: it waits in one piece, goes out in slices, and nothing comes in between."""

from __future__ import annotations

from typing import Any

import pytest

from gemproxy.errors import Overload
from gemproxy.load.budget import Hold
from gemproxy.server.outlet import SLICE, EventStream, Outlet
from tests.burdens import hold, make_load


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
    stream = EventStream()
    stream.outlet = made
    made.take(LARGE)
    await stream.write(b": ping\n\n")
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
