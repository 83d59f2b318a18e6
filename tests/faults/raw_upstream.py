"""An upstream below HTTP: it says any bytes at any moment, which the simulated Gemini, being a proper server, cannot.

In: steps per model (bytes, pauses, resets). Out: those bytes on a loopback socket, and a count of who asked. Reads as
much of a request as it takes to know the model and where the request ends.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Self

from gemproxy.simulator import CutOff, Hang, Pause, Reset, Wait
from gemproxy.simulator.script import Step

_MODEL = re.compile(rb"/models/([^:? ]+):")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_LINGER_ZERO = struct.pack("ii", 1, 0)


class _OverError(Exception):
    """The connection ends here, as planned."""


class RawUpstream:
    """``answers[model]`` are played one after the other, the last one for ever.

    ``asked`` counts requests per model, ``written`` bytes that the other side took, ``playing`` answers under way.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Iterable[Step]]] = {}
        self.asked: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.playing: Counter[str] = Counter()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def ai_studio_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1beta"

    def script(self, model: str, *answers: Iterable[Step]) -> None:
        """Set what this model answers, first to last."""
        self.answers[model] = list(answers)

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and end those that are there."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        async with asyncio.timeout(5):
            while self._writers:  # noqa: ASYNC110 - each removes itself
                await asyncio.sleep(0.001)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                await self._answer(reader, writer)
        except (_OverError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
        found = _MODEL.search(head)
        model = found[1].decode() if found else ""
        queue = self.answers[model]
        steps = queue.pop(0) if len(queue) > 1 else queue[0]
        self.asked[model] += 1
        self.playing[model] += 1
        try:
            for step in steps:
                await self._play(step, model, reader, writer)
        finally:
            self.playing[model] -= 1

    async def _play(self, step: Step, model: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match step:
            case bytes():
                writer.write(step)
                await writer.drain()
                self.written[model] += len(step)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Wait(event):
                await event.wait()
            case Hang():
                await reader.read(1)  # b"": the proxy went away
                raise _OverError
            case CutOff():
                raise _OverError
            case Reset():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
                writer.transport.abort()
                raise _OverError


def chunk(data: bytes) -> bytes:
    """Return one chunk of the transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def head(content_type: str, *, status: str = "200 OK", more: str = "") -> bytes:
    """Return a status line and headers; the body is chunked."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n{more}\r\n".encode()
