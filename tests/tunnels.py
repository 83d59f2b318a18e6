"""A company's proxy, on loopback: it opens tunnels (CONNECT) to one server, whatever host is named.

``front`` puts TLS before a plain server, so that the simulated Gemini can stand at the end of a tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gemproxy.tasks import spawn


class Tunnels:
    """What the proxy heard, and how it behaves. ``heads`` are all requests, each as it came."""

    def __init__(self, port: int) -> None:
        self.heads: list[str] = []
        self.url = ""
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self.first = b""  # what it says before it is asked
        self.hangs_up = False  # whether it says nothing, and closes
        self._port = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and open a tunnel if the answer says so."""
        writer.write(self.first)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            if b" 200 " in self.answer:
                await join(reader, writer, self._port)
            elif not (self.answer or self.hangs_up):
                await reader.read()
        writer.close()


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Carry bytes both ways between a connection and a new one to a port, until either ends."""
    there, back = await asyncio.open_connection("127.0.0.1", port)
    ways = {spawn(_carry(reader, back), name="there"), spawn(_carry(there, writer), name="back")}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        back.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def tunnels(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Tunnels]:
    """Run a proxy whose tunnels all lead to a port; ``context``: it is itself spoken to over TLS."""
    proxy = Tunnels(port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context) as server:
        proxy.url = f"http{'s' if context else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy


@asynccontextmanager
async def front(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Run a server that takes TLS off and hands on to a port; gives its own port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
            await join(reader, writer, port)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
