"""An answer that is all there, on its way to a client that may take it slowly."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gemproxy.load.budget import Hold
from gemproxy.server.context import Context
from gemproxy.server.middleware import ends
from gemproxy.server.outlet import Whole
from gemproxy.server.service import Service
from gemproxy.transport.client import Sliced
from gemproxy.transport.idle import IdleTimer

MAX_IN_ONE_WRITE = 1 << 16  # bytes; a larger answer may have to wait for its client


def whole(body: bytes, content_type: str) -> web.Response:
    """Return the answer with this body; ``handed_over`` writes it."""
    return (Whole if len(body) <= MAX_IN_ONE_WRITE else web.Response)(body=body, content_type=content_type)


async def handed_over(
    request: web.Request, response: web.Response, body: bytes, service: Service, context: Context, hold: Hold
) -> web.Response:
    """Return an answer of ``whole``; a large one is written here, and counted."""
    if len(body) > MAX_IN_ONE_WRITE:
        hold.more(len(body))
        await _write_large(request, response, body, service, context)
    return response


async def _write_large(
    request: web.Request, response: web.Response, body: bytes, service: Service, context: Context
) -> None:
    """Write a large answer here, so that a client that takes nothing is dropped after ``timeouts.send``."""
    idle = IdleTimer(service.door.send, lambda: drop(request))
    idle.start()
    try:
        response.body = Sliced(body, idle.start)
        response.headers.update(context.headers)
        if ends(request, service):
            response.force_close()
        await response.prepare(request)
        await response.write_eof()
    except asyncio.CancelledError:
        drop(request)  # the end of a drain: behind its head nothing can be told but that the answer is cut
        raise
    finally:
        idle.close()


def drop(request: web.Request) -> None:
    """Let a connection go, and with it this request: its client has taken nothing for ``timeouts.send`` seconds."""
    if request.transport is not None:
        request.transport.abort()
