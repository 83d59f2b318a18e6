"""Clients of every kind: one that judges an answer as a whole, and one that says bare bytes.

In: requests. Out: ``Got``, which says what a client was told, checked for the lies that must never be told.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from gemproxy.transport.client import outgoing
from tests.folding import events
from tests.running import Running
from tests.server_process import ServerProcess

CHAT = "/v1/chat/completions"
MODEL = "gemini-2.5-flash"
KEY = "sk-test"
AUTH = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


def hello(text: str = "Hello", **more: Any) -> dict[str, Any]:
    """Return a small chat request; unary unless ``stream`` says otherwise."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": False} | more


class Got(Struct):
    """What a client was told. ``whole``: an answer with its finish, ended as it should; ``code``: the error's."""

    status: int
    text: str = ""
    whole: bool = False
    code: str | None = None
    headers: dict[str, str] = {}
    body: bytes = b""

    @property
    def outcome(self) -> str:
        """Return it in a few words."""
        if self.whole:
            return "whole"
        if self.status != 200:
            return str(self.status)
        return f'"{self.text}" + {self.code}' if self.text else f"event {self.code}"


def read_answer(status: int, headers: dict[str, str], body: bytes) -> Got:
    """Return what a client makes of an answer; an assertion fails for one that is no honest answer at all."""
    got = Got(status, headers=headers, body=body)
    if status != 200:
        got.code = error_code(msgspec.json.decode(body))
    elif headers.get("Content-Type", "").startswith("text/event-stream"):
        _read_stream(got)
    else:
        [choice] = msgspec.json.decode(body)["choices"]
        got.text, got.whole = choice["message"]["content"], choice["finish_reason"] == "stop"
    return got


def error_code(body: Any) -> str:
    """Return the code of an OpenAI error object, which must have exactly its four keys and a message."""
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return str(error["code"])


def _read_stream(got: Got) -> None:
    told = events(got.body)
    last = told[-1] if told else {}
    texts, finishes = [], []
    for event in told[:-1] if last == "[DONE]" or "error" in last else told:
        assert event != "[DONE]", "[DONE] is the last event or none"
        assert "error" not in event, "an error is the last event or none"
        for choice in event["choices"]:
            texts.append(choice["delta"].get("content") or "")
            finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
    got.text = "".join(texts)
    if last == "[DONE]":
        assert finishes == ["stop"], "exactly one finish before [DONE]"
        got.whole = True
    elif "error" in last:
        got.code = error_code(last)
        assert not finishes, "a finish was made up before the error"
    else:
        raise AssertionError(f"a silent truncation: the stream ends with {last!r}")


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    body: Any,
    headers: Mapping[str, str] = AUTH,
    tls: ssl.SSLContext | None = None,
) -> Got:
    """Post a chat request and return what came; ``tls`` is what makes the client trust the server."""
    data = outgoing(body if isinstance(body, bytes) else msgspec.json.encode(body))
    async with session.post(url + CHAT, data=data, headers=headers, ssl=tls or True) as response:
        return read_answer(response.status, dict(response.headers), await response.read())


async def pool(session: aiohttp.ClientSession, url: str, headers: dict[str, str] = AUTH) -> list[dict[str, Any]]:
    """Return the rows of the debug view, one a credential."""
    async with session.get(url + "/v1/debug/cache", headers=headers) as response:
        rows: list[dict[str, Any]] = (await response.json())["credentials"]
        return rows


async def goes_on(server: ServerProcess, session: aiohttp.ClientSession) -> None:
    """Check that the next client is served and nothing is left over."""
    assert (await ask(session, server.url, hello("Still there?"))).whole
    rows = await pool(session, server.url)
    assert [(row["in_flight"], row["failed"], row["state"]) for row in rows] == [(0, 0, "ready")] * len(rows)


# ----------------------------------------------------------------------------------------------------- bare bytes


def port_of(server: Running) -> int:
    """Return the port of a server in this process."""
    return int(server.url.rpartition(":")[2])


class Bare(Struct, frozen=True):
    """One TCP connection of a client that follows no rules."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def status(self, seconds: float = 60.0) -> int:
        """Return the status of the next answer, after any 100 Continue; 0 when the server hung up instead."""
        async with asyncio.timeout(seconds):
            try:
                line = await self.reader.readline()
                if b" 100 " in line:
                    await self.reader.readline()
                    line = await self.reader.readline()
            except ConnectionError:
                return 0
            return int(line.split(b" ")[1]) if line.startswith(b"HTTP/1.") else 0

    async def rest(self, seconds: float = 60.0) -> bytes:
        """Return all that comes until the server closes."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def bare(port: int, *, receive: int = 0) -> AsyncIterator[Bare]:
    """Connect to a port of this machine; ``receive`` is the size of the kernel's receive buffer in bytes."""
    sock = _socket(port, receive)
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
    try:
        yield Bare(reader, writer)
    finally:
        writer.transport.abort()


def _socket(port: int, receive: int) -> socket.socket:
    sock = socket.socket()
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


def post(body: bytes, *, path: str = CHAT, headers: str = "", host: str = "127.0.0.1") -> bytes:
    """Return a chat request as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n{headers}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
