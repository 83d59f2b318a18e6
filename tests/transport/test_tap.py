"""What arrives on a connection is told at once, in order, and to nobody who did not ask."""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from gemproxy.transport.tap import Arrivals
from tests.waiting import soon


class Own(asyncio.Protocol):
    """A connection's own protocol; notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return True

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(exc or "lost")


class Line(asyncio.Transport):
    """A connection without a network."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol


@pytest.fixture
def own() -> Own:
    return Own()


@pytest.fixture
def line(own: Own) -> Line:
    return Line(own)


def watching(line: Line, on_arrival: Callable[[], bool]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(Arrivals(on_arrival).watch(line))


async def test_the_own_protocol_hears_first(line, own):
    seen = []

    def on_arrival() -> bool:
        seen.append(list(own.heard))
        return len(seen) == 2

    task = watching(line, on_arrival)
    await soon(lambda: line.get_protocol() is not own)
    arrivals = line.get_protocol()
    arrivals.data_received(b"1")
    arrivals.data_received(b"2")
    assert seen == [[b"1"], [b"1", b"2"]], "told within the callback, not a turn of the loop later"
    arrivals.data_received(b"3")  # before the one who waits has heard that it is enough
    assert len(seen) == 2
    await task
    assert line.get_protocol() is own
    assert own.heard == [b"1", b"2", b"3"]


async def test_all_else_is_passed_on(line, own):
    task = watching(line, lambda: False)
    await soon(lambda: line.get_protocol() is not own)
    arrivals = line.get_protocol()
    arrivals.pause_writing()
    arrivals.resume_writing()
    assert arrivals.eof_received() is True
    assert own.heard == ["pause", "resume", "eof"]
    task.cancel()


async def test_what_on_arrival_raises_is_raised_to_who_waits(line, own):
    def on_arrival() -> bool:
        raise ZeroDivisionError

    task = watching(line, on_arrival)
    await soon(lambda: line.get_protocol() is not own)
    line.get_protocol().data_received(b"")
    with pytest.raises(ZeroDivisionError):
        await task
    assert line.get_protocol() is own


@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_an_ended_connection_is_no_reason_to_wait(line, own, exc):
    task = watching(line, lambda: False)
    await soon(lambda: line.get_protocol() is not own)
    line.get_protocol().connection_lost(exc)
    with pytest.raises(aiohttp.ClientConnectionError):
        await task
    assert own.heard == [exc or "lost"]


async def test_an_ended_connection_holds_no_protocol_again(line, own):
    task = watching(line, lambda: False)
    await soon(lambda: line.get_protocol() is not own)
    line.get_protocol().connection_lost(None)
    line.set_protocol(None)  # as asyncio does
    with pytest.raises(aiohttp.ClientConnectionError):
        await task
    assert line.get_protocol() is None


class Tls:
    """What asyncio's TLS transport needs behind it."""

    def __init__(self, protocol: Any) -> None:
        self._app_protocol = protocol

    def _set_app_protocol(self, protocol: Any) -> None:
        self._app_protocol = protocol

    def _start_shutdown(self) -> None:
        """Nothing is shut down."""


def closed_twice(own: Own) -> asyncio.Transport:
    """Return asyncio's own TLS transport, which lets go of all it has when it is closed once more."""
    transport: Any = sslproto._SSLProtocolTransport(asyncio.get_running_loop(), Tls(own))  # type: ignore[attr-defined]
    transport.close()
    transport.close()
    return transport


async def test_a_tls_connection_that_is_closed_twice_hides_no_reason(own):
    transport: Any = sslproto._SSLProtocolTransport(asyncio.get_running_loop(), Tls(own))  # type: ignore[attr-defined]
    task = watching(transport, lambda: False)
    await soon(lambda: transport.get_protocol() is not own)
    transport.get_protocol().connection_lost(None)
    transport.close()
    transport.close()
    with pytest.raises(aiohttp.ClientConnectionError, match="ended"):
        await task


async def test_a_tls_connection_that_is_closed_already_is_an_ended_one(own):
    with pytest.raises(aiohttp.ClientConnectionError):
        await Arrivals(lambda: False).watch(closed_twice(own))


async def test_the_last_words_of_a_connection_are_heard(line, own):
    task = watching(line, lambda: "lost" in own.heard)
    await soon(lambda: line.get_protocol() is not own)
    line.get_protocol().connection_lost(None)
    await task


async def test_who_leaves_hears_no_more(line, own):
    looks = []
    task = watching(line, lambda: bool(looks.append(1)))
    await soon(lambda: line.get_protocol() is not own)
    arrivals = line.get_protocol()
    task.cancel()
    arrivals.data_received(b"late")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (looks, own.heard, line.get_protocol()) == ([], [b"late"], own)
