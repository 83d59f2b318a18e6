"""(edge) Tells of what arrives on a connection within the very callback that read it.

To wait for each piece in a coroutine costs a future, a turn of the loop and the frames of all that wait: a third of
what a chunk costs when hundreds of streams take turns. Knows neither HTTP nor what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp


class Arrivals(asyncio.Protocol):
    """Stands before a connection's own protocol, which hears of everything first, and calls ``on_arrival`` afterwards.

    That returns whether it has seen enough.
    """

    __slots__ = ("_enough", "_on_arrival", "_protocol")

    def __init__(self, on_arrival: Callable[[], bool]) -> None:
        self._on_arrival = on_arrival

    async def watch(self, transport: asyncio.Transport) -> None:
        """Return when ``on_arrival`` has seen enough; raises what it raises.

        ``ClientConnectionError`` if the connection ended and it still wants more.
        """
        self._enough = asyncio.get_running_loop().create_future()
        protocol = _protocol(transport)
        if protocol is None:
            raise aiohttp.ClientConnectionError("the connection was closed")
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol
        transport.set_protocol(self)
        try:
            await self._enough
        finally:
            if _protocol(transport) is self:  # an ended connection has let go of it, and must not hold it again
                transport.set_protocol(protocol)

    def notify(self) -> None:
        """Call ``on_arrival``, after something that no connection tells of."""
        if self._enough.done():  # what comes now waits in the connection's own protocol
            return
        try:
            if self._on_arrival():
                self._enough.set_result(None)
        except Exception as fault:  # noqa: BLE001 - not handled here: ``watch`` raises it
            self._enough.set_exception(fault)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, then tell of them."""
        self._protocol.data_received(data)
        self.notify()

    def eof_received(self) -> bool | None:
        """Pass it on; what it means shows when the connection is lost."""
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on; nothing will follow."""
        self._protocol.connection_lost(exc)
        self.notify()
        if not self._enough.done():
            self._enough.set_exception(aiohttp.ClientConnectionError("the connection ended"))

    def pause_writing(self) -> None:
        """Pass it on: a long question may still be on its way."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()


def _protocol(transport: asyncio.Transport) -> asyncio.BaseProtocol | None:
    """Return a connection's protocol; None: a TLS transport that was closed twice has let go of it, and raises."""
    try:
        return transport.get_protocol()
    except AttributeError:
        return None
