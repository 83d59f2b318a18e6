"""(edge) How a connection is turned away: whole answers without HTTP's machinery, and what is said of what is no HTTP.

Also what the kernel is told and asked of a connection. Knows nothing of what is under way on one.
"""

from __future__ import annotations

import asyncio
import select
import socket
from functools import lru_cache
from http import HTTPStatus
from typing import cast

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gemproxy.converter.openai import OPENAI
from gemproxy.errors import ClientFault, Failure, Overload

FULL = Overload("The server has as many connections as server.max_connections allows.")
LATE = Failure(
    "The request's headers did not arrive within timeouts.headers.", status=408, type="timeout", code="timeout"
)
LINGER = 1.0  # seconds
MOST_SILENCE = 2**31 - 1  # milliseconds; the kernel takes no more, and 0 for no limit
HEAD = 1 << 16  # bytes of a request's line and headers; nginx takes half of it, clients send 1 KiB
LAST_CHUNK = b"0\r\n\r\n"  # as any client writes it, without trailers
TOO_LONG = ClientFault(
    f"The request's line and headers are too long: a server takes 8 KiB a line, 128 lines and {HEAD >> 10} KiB in all.",
    status=431,
    code="request_too_large",
)
LONG_URL = ClientFault("The request's URL is longer than 8 KiB.", status=414, code="request_too_large")
NO_HTTP = ClientFault("The request is not valid HTTP.")
MANY_HEADERS = "Too many headers received"  # aiohttp's words for more than 128


class Refusal(asyncio.Protocol):
    """Says why, and closes: a connection too many costs one write. ``everyone`` are those that are open."""

    def __init__(self, failure: Failure, everyone: set[Refusal]) -> None:
        self._failure = failure
        self._everyone = everyone
        everyone.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer before anything was asked."""
        dismiss(cast("asyncio.Transport", transport), self._failure)  # uvloop's are of no such class

    def eof_received(self) -> None:
        """Let the transport close: both sides have said all."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._everyone.discard(self)


def dismiss(transport: asyncio.Transport, failure: Failure) -> None:
    """Say why, and close a little later: on unread bytes it would reset the connection, and lose the answer."""
    transport.write(plain_answer(failure))
    transport.write_eof()
    asyncio.get_running_loop().call_later(LINGER, transport.close)


@lru_cache(maxsize=8)  # 300 clients may have to be told the same in one turn of the loop
def plain_answer(failure: Failure) -> bytes:
    """Return a failure as a whole HTTP answer, in OpenAI's words: nobody knows yet for which API it is."""
    reply = OPENAI.failure(failure, "")
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines += [f"Content-Type: {reply.content_type}", f"Content-Length: {len(reply.body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body


def failure_of(fault: HttpProcessingError) -> ClientFault:
    """Return what to say of what the parser refused; of what was sent it tells only whether that was the URL."""
    if isinstance(fault, LineTooLong):
        return LONG_URL if bytes(fault.args[0]).startswith((b"/", b"http")) else TOO_LONG
    return TOO_LONG if fault.message == MANY_HEADERS else NO_HTTP


def limit_silence(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Have the kernel give up a client that confirms nothing: pings to it would be taken as written for hours."""
    sock, option = transport.get_extra_info("socket"), getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
    if option is not None and sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, option, max(1, min(int(seconds * 1000), MOST_SILENCE)))


def has_come(transport: asyncio.Transport) -> bool:
    """Return whether something was sent that the loop has not read yet, be it an end."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
