"""Plays one ``Answer`` on one HTTP request (edge: this is where the socket is touched).

In: an aiohttp request and the answer's steps. Out: bytes, silences, resets. Must not choose what is answered.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import Callable

from aiohttp import web

from gemproxy.simulator.script import Answer, CutOff, Hang, Pause, Reset, Step, Wait

_LINGER_ZERO = struct.pack("ii", 1, 0)  # close() sends RST instead of FIN


class Broken(Exception):  # noqa: N818 - the plan, not an error
    """The connection was ended on purpose; nothing more may be written."""


async def play(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Send the answer; returns also when it was cut short on purpose.

    Raises ``CancelledError`` or ``ConnectionError`` when the caller hung up first.
    """
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Type": answer.content_type})
    try:
        for step in answer.before:
            await _pass(request, step)
        await _send(request, response, answer)
    except Broken:
        return response
    await response.write_eof()
    return response


async def _send(request: web.Request, response: web.StreamResponse, answer: Answer) -> None:
    squeeze, end = _packing(answer.gzip)
    if answer.gzip:
        response.headers["Content-Encoding"] = "gzip"
    if answer.content_length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = answer.content_length
    await response.prepare(request)
    for step in answer.body:
        if isinstance(step, bytes):
            await response.write(squeeze(step))
        else:
            await _pass(request, step)
    if tail := end():
        await response.write(tail)
    if answer.content_length is not None and _sent(answer) < answer.content_length:
        _hang_up(request)


def _sent(answer: Answer) -> int:
    return sum(len(step) for step in answer.body if isinstance(step, bytes))


def _packing(gzip: bool) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    """Return how to pack a piece and how to end; every piece is flushed, so that it can be read at once."""
    if not gzip:
        return (lambda piece: piece), (lambda: b"")
    packer = zlib.compressobj(wbits=31)
    return (lambda piece: packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)), packer.flush


async def _pass(request: web.Request, step: Step) -> None:
    match step:
        case Pause(seconds):
            await asyncio.sleep(seconds)
        case Wait(event):
            await event.wait()
        case Hang():
            await asyncio.Event().wait()
        case CutOff():
            _hang_up(request)
        case Reset():
            _reset(request)
        case _:
            raise TypeError(f"no bytes before the status line: {step!r}")


def _hang_up(request: web.Request) -> None:
    """Close after what was written has gone out; the length that was promised is not kept."""
    if request.transport is not None:
        request.transport.close()
    raise Broken


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    raise Broken
